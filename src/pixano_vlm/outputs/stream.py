"""Results -> a text stream, in the manifest's order. Nothing of it can be resumed."""

from __future__ import annotations

from typing import TextIO

from pixano_vlm.errors import RunError
from pixano_vlm.outputs.sink import Sink
from pixano_vlm.records.output_line import render
from pixano_vlm.records.result import Result


class StreamSink(Sink):
    """A text stream: a result waits until those before it are written.

    What waits is bounded: past the bound, `full` asks for no further request until the slow one is done.

    Args:
        model: The model's name, for the lines.
        stream: Written and flushed, and closed only if it is `own`.
        own: Whether leaving this closes `stream`.
    """

    MAX_WAITING = 10_000
    MAX_WAITING_BYTES = 32 * 2**20

    def __init__(self, model: str, stream: TextIO, *, own: bool = False) -> None:
        self._model, self._stream, self._own = model, stream, own
        self._waiting: dict[int, bytes] = {}
        self._waiting_bytes = 0
        self._next = 0

    @property
    def full(self) -> bool:
        """True while too much waits for a slow record."""
        return len(self._waiting) >= self.MAX_WAITING or self._waiting_bytes >= self.MAX_WAITING_BYTES

    def write(self, result: Result) -> Result:
        """Writes the result and those that waited for it, or keeps it until its turn."""
        data, result = render(result, self._model)
        self._waiting[result.request.index] = data
        self._waiting_bytes += len(data)
        ready = []
        while (line := self._waiting.pop(self._next, None)) is not None:
            ready.append(line)
            self._waiting_bytes -= len(line)
            self._next += 1
        if ready:
            self._put(ready)
        return result

    def finish(self, *, complete: bool) -> None:
        """Writes what still waits: of an interrupted run, results behind one that was dropped."""
        waiting, self._waiting = self._waiting, {}
        self._waiting_bytes = 0
        self._put([waiting[index] for index in sorted(waiting)])

    def _put(self, lines: list[bytes]) -> None:
        try:
            self._stream.write(b"".join(lines).decode())
            self._stream.flush()
        except (
            OSError,
            ValueError,
        ) as error:  # the other end is closed; the stream is; it cannot encode this
            self._waiting = {}
            raise RunError(f"the output stream cannot be written: {error}.") from error

    def close(self) -> None:
        """Closes the stream if it is its own."""
        if self._own:
            self._stream.close()
