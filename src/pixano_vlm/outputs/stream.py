"""Results -> a text stream, in the manifest's order. Nothing of it can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from pixano_vlm.errors import RunError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs.sink import Outputs
from pixano_vlm.records.output_line import render
from pixano_vlm.records.request import Request, Result


class StreamOutputs(Outputs):
    """A text stream: a result waits until those before it are written.

    What waits is bounded: past the bound, `full` asks for no further request until the slow one is done.

    Args:
        manifest: Where the records come from.
        model: The model's name, for the lines.
        stream: Written and flushed, and closed only if it is `own`.
        limit: Only the first so many records.
        own: Whether leaving this closes `stream`.
    """

    MAX_WAITING = 10_000
    MAX_WAITING_BYTES = 32 * 2**20

    def __init__(
        self, manifest: Manifest, model: str, stream: TextIO, *, limit: int | None = None, own: bool = False
    ) -> None:
        self._manifest, self._model, self._stream, self._own = manifest, model, stream, own
        self._limit = limit
        self._waiting: dict[int, bytes] = {}
        self._waiting_bytes = 0
        self._next = 0

    @property
    def full(self) -> bool:
        """True while too much waits for a slow record."""
        return len(self._waiting) >= self.MAX_WAITING or self._waiting_bytes >= self.MAX_WAITING_BYTES

    def requests(self) -> Iterator[Request]:
        """The manifest's requests, lazily, in order."""
        for request in self._manifest:
            if self._limit is not None and request.index >= self._limit:
                return
            yield request

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
        self._manifest.close()
