"""What a run has left to do: the requests of a manifest without those that are answered. Writes nothing."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from itertools import chain, repeat
from pathlib import Path

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs import journal as journals
from pixano_vlm.outputs.jsonl import JsonlSink
from pixano_vlm.outputs.sidecars import SidecarSink
from pixano_vlm.outputs.sink import Sink
from pixano_vlm.records.output_line import says
from pixano_vlm.records.request import Request, hash_id
from pixano_vlm.records.result import Result
from pixano_vlm.runs.reconcile import Reconciled

__all__ = ["AllRemaining", "JournalRemaining", "Remaining", "SidecarRemaining", "unanswered"]


class Remaining(ABC):
    """The requests still to be done, lazily, in the manifest's order; iterated once."""

    reused: int = 0
    """Records whose answer was there already."""
    reused_failed: int = 0
    """Records whose error was there already and is not tried again."""
    count: int | None = None
    """Records that are still to be done; None when nobody has counted them."""

    @abstractmethod
    def __iter__(self) -> Iterator[Request]:
        """The requests."""

    def settle(self, result: Result) -> Iterator[Result]:
        """A result as it is to be written, and others that change by it."""
        yield result

    def close(self) -> None:
        """Frees what counting took; what was found stays."""
        return


class AllRemaining(Remaining):
    """Every request of a manifest: nothing was done before.

    Args:
        manifest: Where the records come from.
        limit: Only the first so many records.
    """

    def __init__(self, manifest: Manifest, limit: int | None = None) -> None:
        self._manifest, self._limit = manifest, limit

    def __iter__(self) -> Iterator[Request]:
        for request in self._manifest:
            if self._limit is not None and request.index >= self._limit:
                return
            yield request


class JournalRemaining(Remaining):
    """The requests that an output's journal says are not done.

    Args:
        manifest: Where the records come from.
        sink: The output; it is told of lines that turn out not to count.
        found: What of the earlier run holds.
        model: The model's name, for the lines of errors.
        limit: Only the first so many records.
    """

    def __init__(
        self, manifest: Manifest, sink: JsonlSink, found: Reconciled, model: str, limit: int | None
    ) -> None:
        self._manifest, self._sink, self._model, self._limit = manifest, sink, model, limit
        self._after = found.done_up_to
        self.reused, self.reused_failed, self.count = found.ok, found.failed, found.remaining

    def __iter__(self) -> Iterator[Request]:
        manifest, limit = self._manifest, self._limit
        start = 0 if self._after is None else self._after.record + 1
        slots = chain(self._sink.journal.slots(start), repeat(None))
        for line, slot in zip(manifest.lines(self._after), slots, strict=False):
            if limit is not None and line.record >= limit:
                return
            if slot is None or slot.flags & journals.STALE:
                yield manifest.parse(line)
            elif slot.flags & journals.LINE_ERROR:
                request = manifest.parse(line)
                if not says(request, self._model, slot.length, slot.line_crc):
                    self.reused_failed -= 1
                    self._sink.drop(slot.length)
                    yield request
            elif not manifest.ids.add(slot.id_hash or hash_id(line.default_id)):
                # It was done, but an edit above has since taken its id: parsing it says so.
                if slot.flags & journals.OK:
                    self.reused -= 1
                else:
                    self.reused_failed -= 1
                self._sink.drop(slot.length)
                yield manifest.parse(line)


class SidecarRemaining(Remaining):
    """The requests whose file beside the image is not there.

    Args:
        inner: The requests still to be done otherwise.
        sink: Where their answers go.
    """

    def __init__(self, inner: Remaining, sink: SidecarSink) -> None:
        self._inner, self._sink = inner, sink
        self._claimed = HashTable()
        self._skipped = 0
        """Records whose file was there."""
        self.count = inner.count

    @property
    def reused(self) -> int:  # type: ignore[override]  # read from what it wraps, where the others count themselves
        """Records that were answered already, or whose file was there."""
        return self._inner.reused + self._skipped

    @property
    def reused_failed(self) -> int:  # type: ignore[override]  # likewise
        """Records whose error was there already and is not tried again."""
        return self._inner.reused_failed

    def __iter__(self) -> Iterator[Request]:
        for request in self._inner:
            path = None if request.input is None else self._sink.path_beside(request.images)
            if path is None:
                yield request
            elif not self._claimed.add(_hash(path)):
                error = RecordError(
                    f"{request.where}: an earlier record has its answer in {path} too.",
                    hint="Ask once about each image, and give images of one folder names of their own.",
                )
                yield replace(request, input=None, files=(), error=error)
            elif not self._sink.overwrite and os.path.lexists(path):
                self._skipped += 1
            else:
                yield request

    def close(self) -> None:
        """Frees the table of the files seen so far."""
        self._claimed.close()
        self._inner.close()


def unanswered(manifest: Manifest, sink: Sink) -> Iterator[str]:
    """How messages name the records of a manifest that have no line in an output with a journal; none elsewhere."""
    if isinstance(sink, JsonlSink):
        for line, slot in zip(manifest.lines(), chain(sink.journal.slots(), repeat(None)), strict=False):
            if slot is None:
                yield manifest.parse(line, register=False).where


def _hash(path: Path) -> int:
    return int.from_bytes(blake2b(os.fsencode(path), digest_size=8).digest(), "little") or 1
