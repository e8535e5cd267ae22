"""Results -> a JSONL file that survives being killed at any moment.

Each result is one line, appended and flushed as it is done; the journal beside the file says which line
answers which record. When the run has ended, the lines are in the manifest's order. Knows no model and no manifest:
what the keys of answers need is given.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from pixano_vlm.clock import CLOCK, Alarm, Clock
from pixano_vlm.errors import RESUME, RunError
from pixano_vlm.models.limits import Limits
from pixano_vlm.outputs import journal as journals
from pixano_vlm.outputs.disk import Disk, FileReader
from pixano_vlm.outputs.journal import Journal, Slot, SlotWriter
from pixano_vlm.outputs.sink import Sink
from pixano_vlm.records.content_key import record_keys
from pixano_vlm.records.output_line import render
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result

SYNC_SECONDS = 1.0
"""A power cut loses at most about this much finished work; a kill loses none."""
SYNC_SHARE = 0.02
"""Largest share of the time spent on syncing: on a slow disk it is done less often."""

_PIECE = 1 << 20


def journal_path(output: Path) -> Path:
    """The journal of an output: `<output>.journal`."""
    return output.with_name(output.name + ".journal")


def new_path(path: Path) -> Path:
    """Where a file is made before it is put in `path`'s place."""
    return path.with_name(path.name + ".new")


@dataclass(frozen=True, slots=True)
class Keys:
    """What the content key of an answer needs beside its request."""

    fingerprint: str
    run_seed: int
    limits: Limits


def slot_of(request: Request, data: bytes, offset: int, keys: Keys, *, ok: bool, is_flagged: bool) -> Slot:
    """The journal's slot of a record.

    Args:
        request: The record.
        data: Its line in the output.
        offset: Where that starts, in bytes.
        keys: What the content key needs beside the request.
        ok: Whether the model answered.
        is_flagged: Whether the answer is flagged and was not tried again.
    """
    flags = journals.OK if ok else journals.ERROR
    if is_flagged:
        flags |= journals.FLAGGED
    weak, key, state = 0, bytes(16), bytes(16)
    content = request.keys
    if content is None and request.input is not None:
        content = record_keys(request, keys.fingerprint, keys.run_seed, keys.limits)
    if content is None:
        flags |= journals.LINE_ERROR
    else:
        weak, key, state = content.weak, content.strong, content.state
        flags |= journals.FILES if content.has_files else 0
        flags |= journals.REPEATABLE if content.is_repeatable else 0
    return Slot(
        flags,
        crc32(data),
        request.line,
        len(data),
        offset,
        request.id_hash,
        weak,
        request.raw_hash,
        key,
        state,
    )


@dataclass(slots=True)
class Standing:
    """What is in an output that a run continues."""

    end: int = 0
    """Where the next line goes, in bytes."""
    live: int = 0
    """Bytes of the lines that count; those of answers since replaced are still in the file."""
    stale: int = 0
    """Lines that stay until their record has a new answer."""
    in_order: bool = True
    """Whether the file is exactly the lines that count, in the manifest's order."""
    highest: int = -1
    """The last record, in the manifest's order, that has a line."""


class Fresh:
    """The files of a run that starts from nothing: what was there is touched only when the first result is written.

    A run that fails before that leaves behind what it found.
    """

    def __init__(self, disk: Disk, path: Path, lock: int, *, had_journal: bool, had_output: bool) -> None:
        self._disk, self._path, self._lock = disk, path, lock
        self._had_journal, self._had_output = had_journal, had_output

    def begin(self, fd: int, journal: Journal) -> None:
        """Puts the new journal in its place, then empties the output."""
        disk, beside = self._disk, journal_path(self._path)
        journal.sync()
        disk.rename(new_path(beside), beside)
        disk.sync_folder(beside.parent)
        disk.truncate(fd, 0)  # only now, for until the old journal is gone its lines may still be wanted
        disk.close(self._lock)

    def abandon(self) -> None:
        """Removes what the run made."""
        disk, beside = self._disk, journal_path(self._path)
        disk.unlink(new_path(beside))
        if not self._had_output:
            disk.unlink(self._path)
        if not self._had_journal:
            disk.unlink(beside)
        disk.close(self._lock)


class JsonlSink(Sink):
    """A JSONL file with its journal; `runs.open` opens it.

    Args:
        path: The file.
        model: The model's name, for the lines.
        keys: What the keys of the answers need.
        disk: The file system.
        fd: The open file.
        journal: Its open journal.
        standing: What is in it.
        fresh: Of a run that starts from nothing, how its files begin; None for one that is resumed.
        clock: The time.
    """

    def __init__(
        self, path: Path, model: str, keys: Keys, *, disk: Disk, fd: int, journal: Journal, standing: Standing,
        fresh: Fresh | None = None, clock: Clock = CLOCK,
    ) -> None:  # fmt: skip
        self.path = path
        self._model, self._keys, self._disk = model, keys, disk
        self._fd, self.journal = fd, journal
        self._end, self._live = standing.end, standing.live
        self._stale = standing.stale
        self._in_order, self._highest = standing.in_order, standing.highest
        self._fresh = fresh
        self._clock = clock
        self._last_sync = clock.now()
        self._sync_every = SYNC_SECONDS
        self._dirty = False
        self._broken = False
        self._closed = False
        self._syncing = threading.RLock()
        self._timer: Alarm | None = None
        self._late_failure: RunError | None = None

    # --- running ---

    @property
    def untouched(self) -> bool:
        """True until the first result of a run that starts from nothing."""
        return self._fresh is not None

    @property
    def has_stale(self) -> bool:
        """Whether records of an earlier run are still to be asked again."""
        return self._stale > 0

    def drop(self, length: int) -> None:
        """A line of `length` bytes that was there counts no longer: its record is asked again."""
        self._live -= length

    def _begin(self) -> None:
        """Takes the place of what was there, for a run that starts from nothing."""
        if self._fresh is not None:
            try:
                self._fresh.begin(self._fd, self.journal)
            except FileNotFoundError as error:
                self._broken = True
                raise self._vanished() from error
            except OSError as error:
                self._broken = True
                raise RunError(
                    f"{self.path} cannot be written: {error.strerror or error}.",
                    hint="Make room, then start again.",
                ) from error
            self._fresh = None

    def write(self, result: Result) -> Result:
        """Appends the result's line and its slot. After a kill at any moment both count or neither does."""
        data, result = render(result, self._model)
        is_flagged = bool(result.flags) and result.attempts == 1
        slot = slot_of(result.request, data, self._end, self._keys, ok=result.ok, is_flagged=is_flagged)
        index = result.request.index
        if self._late_failure is not None:
            self._raise_late()
        if self._fresh is not None:
            self._begin()
        try:
            if self._stale and (old := self.journal.get(index)) is not None and old.flags & journals.STALE:
                self._stale -= 1
                self._live -= old.length
            self._disk.write(self._fd, data, self._end)
            self.journal.put(index, slot)
        except OSError as error:
            raise self._failed(error) from error
        self._end += len(data)
        self._live += len(data)
        if index <= self._highest:
            self._in_order = False
        else:
            self._highest = index
        self._dirty = True
        wait = self._last_sync + self._sync_every - self._clock.now()
        if wait <= 0:
            self._sync()
        elif self._timer is None:  # nobody knows when the next result comes
            self._timer = self._clock.later(wait, self._sync_late)
        return result

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
            started = self._clock.now()
            self._dirty = False
            try:
                self._disk.sync(self._fd)
                self.journal.sync()
            except OSError as error:
                raise self._failed(error) from error
            self._last_sync = self._clock.now()
            self._sync_every = max(SYNC_SECONDS, (self._last_sync - started) / SYNC_SHARE)
            self._check_names()

    def _check_names(self) -> None:
        if not all(self._disk.is_at(fd, path) for fd, path in self._files()):
            self._rescue()

    def _files(self) -> list[tuple[int, Path]]:
        return [(self._fd, self.path), (self.journal.fd, journal_path(self.path))]

    def _rescue(self) -> None:
        """Somebody removed or replaced a file under us: puts what it held back, if its name is free."""
        self._broken = True
        saved = []
        for fd, path in self._files():
            if not self._disk.exists(path):
                with contextlib.suppress(OSError):
                    self._copy(fd, path)
                    saved.append(path.name)
        if not saved:
            raise self._vanished()
        raise RunError(
            f"{self.path} or its journal was removed while the run was writing; {' and '.join(saved)} was put "
            "back with every result.",
            hint=RESUME,
        )

    def _vanished(self) -> RunError:
        return RunError(
            f"{self.path} or its journal was removed or replaced while the run was writing.",
            hint="If its folder is gone, start again where there is one.",
        )

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
            hint=f"Make room. {RESUME}",
        )

    # --- ending ---

    def finish(self, *, complete: bool) -> None:
        """Syncs; then, unless the lines are in order already, puts them in the manifest's order.

        A run that is not complete keeps the order in which records were done, unless there are lines among them
        that no longer count; it is put in order when it is resumed.
        """
        with self._syncing:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._raise_late()
        if self._broken:
            return
        if self._fresh is not None:
            if not complete:
                return
            self._begin()
        if self._dirty:
            self._sync()
        if not self._in_order and (complete or self._live != self._end):
            try:
                self._put_in_order()
            except OSError as error:
                for path in (new_path(self.path), new_path(journal_path(self.path))):
                    with contextlib.suppress(OSError):
                        self._disk.unlink(path)
                raise RunError(
                    f"{self.path} holds every result, but could not be put into the manifest's order: "
                    f"{error.strerror or error}.",
                    hint=f"Make room for {self._end:,} bytes beside it. {RESUME}",
                ) from error

    def _put_in_order(self) -> None:
        disk = self._disk
        new = disk.open(new_path(self.path), create=True, truncate=True)
        try:
            end = self._copy_in_order(new)
            disk.sync(new)
            disk.rename(new_path(self.path), self.path)
            disk.sync_folder(self.path.parent)
        except BaseException:
            disk.close(new)
            raise
        disk.close(self._fd)
        self._fd, self._end, self._live, self._in_order = new, end, end, True
        # Until the journal follows, and if that is interrupted, a reader finds each line by adding up lengths. It
        # is replaced, not changed: of a slot that a power cut tore, the length would be lost, and all after it.
        beside = journal_path(self.path)
        moved = Journal.create(disk, new_path(beside), self.journal.context, self.journal.facts)
        try:
            writer, offset = SlotWriter(disk, moved), 0
            for index, slot in enumerate(self.journal.slots()):
                if slot is not None:
                    writer.put(index, slot.at(offset))
                    offset += slot.length
            writer.flush()
            moved.sync()
            disk.rename(new_path(beside), beside)
            disk.sync_folder(beside.parent)
        except BaseException:
            moved.close()
            raise
        self.journal.close()
        self.journal = moved

    def _copy_in_order(self, new: int) -> int:
        reader = FileReader(self._disk, self._fd)
        pieces: list[bytes] = []
        held, end = 0, 0
        for slot in self.journal.slots():
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
        """Closes the files and frees the lock. What was written stays; of a run without a result, nothing does."""
        with self._syncing:
            if self._closed:
                return
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            if self._fresh is not None:
                with contextlib.suppress(OSError):
                    self._fresh.abandon()
            with contextlib.suppress(OSError):
                self._disk.close(self._fd)
            with contextlib.suppress(OSError):
                self.journal.close()
