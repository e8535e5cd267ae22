"""Makes an output whole again: a journal that points at the lines that are there, and nothing else in the output.

A line is kept where the old journal vouches for it, by its checksum, wherever it is now. Where the journal is lost or
damaged a line is kept if it can be proven to answer its record: the manifest and every image are as they were before
the run began, and the line names that record, its images and the run's model. Whatever is not kept is copied to
`<output>.dropped` first, and its record is asked again by the next `--resume`.
"""

from __future__ import annotations

import contextlib
import json
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any
from zlib import crc32

from pixano_vlm.errors import OutputError
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs.disk import DISK, Disk, FileReader
from pixano_vlm.outputs.journal import Journal, Slot
from pixano_vlm.outputs.jsonl import JsonlSink, Keys, Standing, journal_path, new_path, slot_of
from pixano_vlm.records.output_line import OutputLine
from pixano_vlm.records.request import Line, Request, hash_id
from pixano_vlm.runs.check import OutputLines
from pixano_vlm.runs.recorded import Recorded

__all__ = ["Repair", "dropped_path", "repair"]


@dataclass(slots=True)
class Repair:
    """What a repair does, or would do."""

    kept: int = 0
    """Lines that the journal vouches for."""
    moved: int = 0
    """Of those, how many are not where it says."""
    proven: int = 0
    """Lines that the journal knows no more, and that are proven to answer their record."""
    dropped: int = 0
    """Lines, whole or in part, that are copied to `<output>.dropped` and leave the output."""
    asked_again: int = 0
    """Records that have no answer after it."""
    why_not: str | None = None
    """Why nothing can be proven, where that is so."""

    @property
    def is_needed(self) -> bool:
        """Whether it changes anything."""
        return bool(self.moved or self.proven or self.dropped)


def dropped_path(output: Path) -> Path:
    """Where a repair puts what it takes out of an output."""
    return output.with_name(output.name + ".dropped")


def repair(path: Path, manifest: Manifest, recorded: Recorded, *, write: bool, disk: Disk = DISK) -> Repair:
    """Repairs an output.

    Args:
        path: The output.
        manifest: Its records.
        recorded: The run, as its run file describes it.
        write: False to find out only what would be done.
        disk: The file system.

    Raises:
        OutputError: When the output cannot be read or written, or a run writes it.
        ManifestError: When the manifest cannot be read.
    """
    with ExitStack() as stack:
        try:
            fd = disk.open(path)
            is_there = disk.exists(journal_path(path))
            lock = disk.open(journal_path(path), create=True) if is_there or write else None
        except OSError as error:
            raise OutputError(f"{path} cannot be repaired: {error.strerror or error}.") from error
        if lock is not None:
            stack.callback(disk.close, lock)
            if not disk.lock(lock):
                disk.close(fd)
                raise OutputError(f"another run is writing {path}.", hint="Repair it when that has ended.")
        table = stack.enter_context(closing(OutputLines(disk, fd)))
        old = None if lock is None else Journal.open(disk, lock)
        context = recorded.values["context"] if old is None else old.context
        new = Journal.create(disk, new_path(journal_path(path)), context, {} if old is None else old.facts)
        repairing = _Repairing(path, fd, disk, table, old, new, manifest, recorded)
        with closing(repairing):
            try:
                repairing.fill()
                if write and (repairing.done.is_needed or old is None):
                    repairing.put_in_place()
            except OSError as error:
                raise OutputError(f"{path} cannot be repaired: {error.strerror or error}.") from error
            finally:
                repairing.abandon()
        return repairing.done


class _Repairing:
    def __init__(
        self, path: Path, fd: int, disk: Disk, table: OutputLines, old: Journal | None, new: Journal,
        manifest: Manifest, recorded: Recorded,
    ) -> None:  # fmt: skip
        self.path, self.fd, self.disk, self.table = path, fd, disk, table
        self.old, self.new, self.manifest, self.recorded = old, new, manifest, recorded
        self.done = Repair()
        self.claimed = HashTable()
        """Where lines start that count, counted from 1."""
        self.refuted = HashTable()
        """Records, counted from 1, of which the journal knows a line that is nowhere: another is not theirs."""
        self.highest = -1
        self.is_in_place = False

    def close(self) -> None:
        self.claimed.close()
        self.refuted.close()

    def fill(self) -> None:
        """The new journal: what the old one vouches for, then what can be proven."""
        self._keep()
        with closing(HashTable(values=True)) as by_id:
            for start, data in self.table:
                if start + 1 not in self.claimed and (line := _line(data)) is not None:
                    by_id.insert(hash_id(line.id), start)
            self._prove(by_id)
        self.done.dropped = sum(start + 1 not in self.claimed for start, _ in self.table)

    def _keep(self) -> None:
        if self.old is None:
            return
        reader = FileReader(self.disk, self.fd)
        for index, slot in enumerate(self.old.slots()):
            if slot is None:
                continue
            start: int | None = slot.offset
            if crc32(reader.read(slot.offset, slot.length)) != slot.line_crc:
                start = self.table.find(slot)
                self.done.moved += start is not None
            if start is None:
                self.refuted.add(index + 1)
            elif self.claimed.add(start + 1):
                self._put(index, slot._replace(offset=start))
                self.done.kept += 1

    def _put(self, index: int, slot: Slot) -> None:
        self.new.put(index, slot)
        self.highest = max(self.highest, index)

    def _prove(self, by_id: HashTable) -> None:
        """Records without a slot whose line is in the output and is proven to answer them."""
        done, before = self.done, _nanoseconds(self.recorded.started)
        if not self.recorded.is_unchanged():
            done.why_not = "the manifest changed since the run began, or the runs into this output differ"
        elif before is None:
            done.why_not = "the run file does not say when the run began"
        for line, there in zip_longest(self.manifest.lines(), self.new.slots()):
            if line is None:
                break
            if there is not None:
                continue
            slot = None
            is_open = len(by_id) and line.record + 1 not in self.refuted
            if is_open and done.why_not is None and before is not None:
                slot = self._proven(line, by_id, before)
            if slot is None:
                done.asked_again += 1
            else:
                done.proven += 1
                self._put(line.record, slot)

    def _proven(self, line: Line, by_id: HashTable, before: int) -> Slot | None:
        request = self.manifest.parse(line, register=False)
        if any(max(file.mtime_ns, file.ctime_ns) >= before for file in request.files):
            return None
        for start in by_id.find(hash_id(request.id)):
            data = self._at(start)
            read = _line(data)
            if read is None or not self._is_of(read, request) or not self.claimed.add(start + 1):
                continue
            is_flagged = bool(read.flags) and read.attempts == 1
            return slot_of(request, data, start, self._keys(), ok=read.status == "ok", is_flagged=is_flagged)
        return None

    def _at(self, start: int) -> bytes:
        size = self.disk.size(self.fd)
        length = 1 << 16
        while True:
            data = self.disk.read(self.fd, length, start)
            end = data.find(b"\n")
            if end >= 0:
                return data[: end + 1]
            if start + len(data) >= size:
                return data
            length *= 4

    def _is_of(self, line: OutputLine, request: Request) -> bool:
        return (
            line.id == request.id
            and line.model == self.new.context["model"]
            and tuple(line.images) == tuple(request.images)
            and line.metadata == (request.metadata or {})
            and (request.input is not None or line.status == "error")
        )

    def _keys(self) -> Keys:
        rules = self.manifest.rules
        return Keys(self.new.context["fingerprint"], rules.run_seed, rules.limits)

    def put_in_place(self) -> None:
        """Saves what is dropped, then puts the new journal in place and the lines in order."""
        disk = self.disk
        if self.done.dropped:
            self._save_dropped()
        self.new.sync()
        disk.rename(new_path(journal_path(self.path)), journal_path(self.path))
        disk.sync_folder(self.path.parent)
        self.is_in_place = True
        end = disk.size(self.fd)
        sink = JsonlSink(
            self.path, self.new.context["model"], self._keys(), disk=disk, fd=self.fd, journal=self.new,
            standing=Standing(end=end, live=0, in_order=False, highest=self.highest),
        )  # fmt: skip
        try:
            sink.finish(complete=True)
        finally:
            sink.close()

    def _save_dropped(self) -> None:
        path = dropped_path(self.path)
        with path.open("ab") as file:
            for start, data in self.table:
                if start + 1 not in self.claimed:
                    file.write(data if data.endswith(b"\n") else data + b"\n")

    def abandon(self) -> None:
        """Removes a new journal that was not put in place."""
        if not self.is_in_place:
            self.new.close()
            self.disk.close(self.fd)
            with contextlib.suppress(OSError):
                self.disk.unlink(new_path(journal_path(self.path)))


def _line(data: bytes) -> OutputLine | None:
    """A line of the output; None where it is not a whole one."""
    if not data.endswith(b"\n"):
        return None
    try:
        values: Any = json.loads(data)
        return OutputLine.model_validate(values)
    except (ValueError, RecursionError):
        return None


def _nanoseconds(moment: str | None) -> int | None:
    try:
        return None if moment is None else int(datetime.fromisoformat(moment).timestamp() * 1e9)
    except ValueError:
        return None
