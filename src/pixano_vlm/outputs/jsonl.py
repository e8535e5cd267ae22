"""Results -> a JSONL file that survives being killed at any moment.

Each result is one line, appended and flushed as it is done; the journal beside the file says which line
answers which record. When the run has ended, the lines stand in the manifest's order. Knows no model: its name and
fingerprint are given.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from zlib import crc32

from pixano_vlm.errors import OutputError, RunError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs import journal as journals
from pixano_vlm.outputs.disk import Disk, FileReader
from pixano_vlm.outputs.journal import Journal, Slot, SlotWriter
from pixano_vlm.outputs.sink import Outputs
from pixano_vlm.records.content_key import ContentKey, is_repeatable, state_of
from pixano_vlm.records.output_line import render, says
from pixano_vlm.records.request import Request, Result
from pixano_vlm.runs.reconcile import Reconciled, reconcile

SYNC_SECONDS = 1.0
"""A power cut loses at most about this much finished work; a kill loses none."""
SYNC_SHARE = 0.02
"""Largest share of the time spent on syncing: on a slow disk it is done less often."""

_PIECE = 1 << 20


def journal_path(output: Path) -> Path:
    """The journal of an output: `<output>.journal`."""
    return output.with_name(output.name + ".journal")


class JsonlOutputs(Outputs):
    """A JSONL file with its journal. Construct it with `open`."""

    def __init__(
        self, path: Path, manifest: Manifest, model: str, fingerprint: str, limit: int | None, disk: Disk,
        fd: int, journal: Journal, found: Reconciled,
    ) -> None:  # fmt: skip
        self.path = path
        self.reused, self.reused_failed, self.to_do = found.ok, found.failed, found.to_do
        self._manifest, self._model, self._fingerprint = manifest, model, fingerprint
        self._limit, self._disk = limit, disk
        self._fd, self._journal = fd, journal
        self._after, self._end = found.done_up_to, found.end
        self._live = found.live
        """Bytes of the lines that count; those of answers since replaced are still in the file."""
        self._in_order, self._highest = found.in_order, found.highest
        self._last_sync = time.monotonic()
        self._sync_every = SYNC_SECONDS
        self._dirty = False
        self._broken = False
        self._closed = False
        self._syncing = threading.RLock()
        self._timer: threading.Timer | None = None
        self._late_failure: RunError | None = None

    # --- opening ---

    @classmethod
    def open(
        cls, path: Path, manifest: Manifest, model: str, fingerprint: str, *, resume: bool, retry_failed: bool,
        retry_flagged: bool, limit: int | None, disk: Disk,
    ) -> JsonlOutputs:  # fmt: skip
        """Takes the files for this process, and with `resume` finds out what is done. See `open_outputs`."""
        beside = journal_path(path)
        with contextlib.ExitStack() as stack:
            lock = _lock(disk, beside, path)
            stack.callback(disk.close, lock)
            if disk.exists(_new(path)):  # a power cut came while lines were put in order
                disk.unlink(_new(path))
            old = Journal.open(disk, lock) if resume else None
            # What must be as it was for an unchanged line to be done without looking into it.
            context = {"model": model, "fingerprint": fingerprint, **manifest.context()}
            with contextlib.ExitStack() as opened:
                new = Journal.create(disk, _new(beside), context)
                opened.callback(new.close)
                fd = disk.open(path, create=True)
                opened.callback(disk.close, fd)
                if resume and old is None and disk.size(fd):
                    raise OutputError(
                        f"{path} has no journal ({beside.name}), so nobody can tell which records are done.",
                        hint="Replace it with --overwrite, or name another file with -o FILE.",
                    )
                if old is not None:
                    found = reconcile(
                        old, new, manifest, output=fd, disk=disk, model=model, fingerprint=fingerprint,
                        retry_failed=retry_failed, retry_flagged=retry_flagged, limit=limit,
                    )  # fmt: skip
                else:
                    found = Reconciled(to_do=None)
                disk.sync(fd)
                new.sync()
                disk.rename(_new(beside), beside)
                disk.sync_folder(beside.parent)
                if old is None:  # only now, for until the old journal is gone its lines may still be wanted
                    disk.truncate(fd, 0)
                opened.pop_all()
            return cls(path, manifest, model, fingerprint, limit, disk, fd, new, found)

    # --- running ---

    def requests(self) -> Iterator[Request]:
        """The manifest's requests that are still to be done, lazily, in order."""
        manifest, limit = self._manifest, self._limit
        start = 0 if self._after is None else self._after.record + 1
        slots = chain(self._journal.slots(start), repeat(None))
        for line, slot in zip(manifest.lines(self._after), slots, strict=False):
            if limit is not None and line.record >= limit:
                return
            if slot is None:
                yield manifest.parse(line)
            elif slot.flags & journals.LINE_ERROR:
                request = manifest.parse(line)
                if not says(request, self._model, slot.length, slot.line_crc):
                    self.reused_failed -= 1
                    self._live -= slot.length
                    yield request
            elif slot.id_hash and not manifest.ids.add(slot.id_hash):
                # It was done, but an edit above has since taken its id: parsing it says so.
                if slot.flags & journals.OK:
                    self.reused -= 1
                else:
                    self.reused_failed -= 1
                self._live -= slot.length
                yield manifest.parse(line)

    def write(self, result: Result) -> Result:
        """Appends the result's line and its slot. After a kill at any moment both count or neither does."""
        data, result = render(result, self._model)
        slot = self._slot(result, data)
        index = result.request.index
        if self._late_failure is not None:
            self._raise_late()
        try:
            self._disk.write(self._fd, data, self._end)
            self._journal.put(index, slot)
        except OSError as error:
            raise self._failed(error) from error
        self._end += len(data)
        self._live += len(data)
        if index <= self._highest:
            self._in_order = False
        else:
            self._highest = index
        self._dirty = True
        wait = self._last_sync + self._sync_every - time.monotonic()
        if wait <= 0:
            self._sync()
        elif self._timer is None:  # nobody knows when the next result comes
            self._timer = threading.Timer(wait, self._sync_late)
            self._timer.daemon = True
            self._timer.start()
        return result

    def _slot(self, result: Result, data: bytes) -> Slot:
        request = result.request
        flags = journals.OK if result.ok else journals.ERROR
        if result.flags and result.attempts == 1:
            flags |= journals.FLAGGED
        weak, key, state = 0, bytes(16), bytes(16)
        if request.input is None:
            flags |= journals.LINE_ERROR
        else:
            keys = ContentKey(request, self._fingerprint, self._manifest.run_seed)
            weak, key = keys.weak, keys.strong(self._manifest.limits)
            if request.files:
                flags |= journals.FILES
                state = state_of(request.files)
            if is_repeatable(request):
                flags |= journals.REPEATABLE
        return Slot(
            flags, crc32(data), request.line, len(data), self._end, request.id_hash, weak, request.raw_hash, key,
            state,
        )  # fmt: skip

    def _sync_late(self) -> None:
        with self._syncing:
            self._timer = None
            if self._dirty and not self._broken and not self._closed:
                try:
                    self._sync()
                except RunError as error:
                    self._late_failure = error

    def _raise_late(self) -> None:
        with self._syncing:
            if self._late_failure is not None:
                failure, self._late_failure = self._late_failure, None
                raise failure

    def _sync(self) -> None:
        with self._syncing:
            started = time.monotonic()
            self._dirty = False
            try:
                self._disk.sync(self._fd)
                self._journal.sync()
            except OSError as error:
                raise self._failed(error) from error
            self._last_sync = time.monotonic()
            self._sync_every = max(SYNC_SECONDS, (self._last_sync - started) / SYNC_SHARE)
            self._check_names()

    def _check_names(self) -> None:
        if not all(self._disk.is_at(fd, path) for fd, path in self._files()):
            self._rescue()

    def _files(self) -> list[tuple[int, Path]]:
        return [(self._fd, self.path), (self._journal.fd, journal_path(self.path))]

    def _rescue(self) -> None:
        """Somebody removed or replaced a file under us: puts what it held back, if its name is free."""
        self._broken = True
        saved = []
        for fd, path in self._files():
            if not self._disk.exists(path):
                with contextlib.suppress(OSError):
                    self._copy(fd, path)
                    saved.append(path.name)
        if saved:
            message = (
                f"removed while the run was writing; {' and '.join(saved)} was put back with every result"
            )
            hint = "Go on with the same command and --resume."
        else:
            message = "removed or replaced while the run was writing"
            hint = "If its folder is gone, start again where there is one."
        raise RunError(f"{self.path} or its journal was {message}.", hint=hint)

    def _copy(self, fd: int, path: Path) -> None:
        copy = self._disk.open(path, create=True)
        try:
            offset = 0
            while data := self._disk.read(fd, _PIECE, offset):
                self._disk.write(copy, data, offset)
                offset += len(data)
            self._disk.sync(copy)
        finally:
            self._disk.close(copy)

    def _failed(self, error: OSError) -> RunError:
        self._broken = True
        with contextlib.suppress(OSError):
            self._disk.truncate(self._fd, self._end)  # what a full disk took of the last line
        return RunError(
            f"{self.path} cannot be written: {error.strerror or error}. Every result written before is safe.",
            hint="Make room, then go on with the same command and --resume.",
        )

    # --- ending ---

    def finish(self, *, complete: bool) -> None:
        """Syncs; then, unless the lines stand in order already, puts them in the manifest's order.

        A run that is not complete keeps the order in which records were done, unless there are lines among them
        that no longer count; it is put in order when it is gone on with.
        """
        with self._syncing:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._raise_late()
        if self._broken:
            return
        if self._dirty:
            self._sync()
        if not self._in_order and (complete or self._live != self._end):
            try:
                self._put_in_order()
            except OSError as error:
                for path in (_new(self.path), _new(journal_path(self.path))):
                    with contextlib.suppress(OSError):
                        self._disk.unlink(path)
                raise RunError(
                    f"{self.path} holds every result, but could not be put into the manifest's order: "
                    f"{error.strerror or error}.",
                    hint=f"Make room for {self._end:,} bytes beside it, then go on with --resume.",
                ) from error

    def _put_in_order(self) -> None:
        disk = self._disk
        new = disk.open(_new(self.path), create=True, truncate=True)
        try:
            end = self._copy_in_order(new)
            disk.sync(new)
            disk.rename(_new(self.path), self.path)
            disk.sync_folder(self.path.parent)
        except BaseException:
            disk.close(new)
            raise
        disk.close(self._fd)
        self._fd, self._end, self._live, self._in_order = new, end, end, True
        # Until the journal follows, and if that is interrupted, a reader finds each line by adding up lengths. It
        # is replaced, not changed: of a slot that a power cut tore, the length would be lost, and all after it.
        beside = journal_path(self.path)
        moved = Journal.create(disk, _new(beside), self._journal.context)
        try:
            writer, offset = SlotWriter(disk, moved), 0
            for index, slot in enumerate(self._journal.slots()):
                if slot is not None:
                    writer.put(index, slot._replace(offset=offset))
                    offset += slot.length
            writer.flush()
            moved.sync()
            disk.rename(_new(beside), beside)
            disk.sync_folder(beside.parent)
        except BaseException:
            moved.close()
            raise
        self._journal.close()
        self._journal = moved

    def _copy_in_order(self, new: int) -> int:
        reader = FileReader(self._disk, self._fd)
        pieces: list[bytes] = []
        held, end = 0, 0
        for slot in self._journal.slots():
            if slot is None:
                continue
            pieces.append(reader.read(slot.offset, slot.length))
            held += slot.length
            if held >= _PIECE:
                self._disk.write(new, b"".join(pieces), end)
                end, held = end + held, 0
                pieces.clear()
        self._disk.write(new, b"".join(pieces), end)
        return end + held

    def close(self) -> None:
        """Closes the files and frees the lock. What was written stays."""
        with self._syncing:
            if self._closed:
                return
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            with contextlib.suppress(OSError):
                self._disk.close(self._fd)
            with contextlib.suppress(OSError):
                self._journal.close()
            self._manifest.close()


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _lock(disk: Disk, beside: Path, output: Path) -> int:
    """The journal's descriptor, locked for this process."""
    while True:
        fd = disk.open(beside, create=True)
        if not disk.lock(fd):
            disk.close(fd)
            raise OutputError(
                f"another run is writing {output}.", hint="Wait for it, or name another file with -o FILE."
            )
        # The run that had it may have put a new journal in its place between our opening and our locking.
        if disk.is_at(fd, beside):
            return fd
        disk.close(fd)
