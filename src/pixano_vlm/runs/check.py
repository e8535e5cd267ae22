"""Whether an output is what its run wrote: its lines, its journal, its manifest, and what was made of it.

Nothing is changed. Memory does not grow with the output: what has to be looked up is in tables that leave memory.
What was made of an output, tables and files beside images, is looked at by `check_copies`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from pixano_vlm.errors import OutputError, VLMError
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs import journal as journals
from pixano_vlm.outputs.disk import DISK, Disk, FileReader, read_lines
from pixano_vlm.outputs.journal import Journal, Slot
from pixano_vlm.outputs.jsonl import journal_path
from pixano_vlm.records.content_key import ContentKey, state_of
from pixano_vlm.records.request import Line, hash_id
from pixano_vlm.runs.open import REPLACEABLE

__all__ = ["Checked", "Finding", "Kind", "OutputLines", "check_output", "lock_journal"]

Kind = Literal["missing", "stale", "damaged", "extra"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as the run left it."""

    kind: Kind
    """`missing`: a record without an answer. `stale`: an answer to what the record asked before. `damaged`: what is
    written is not what the run wrote. `extra`: what belongs to no record."""
    file: str
    """The file that it is found in, by its name."""
    place: str
    """The record, or the line: `manifest.jsonl:17 (id 'r17')`, `out.jsonl:18`."""
    id: str | None
    """The record's id, where it is known."""
    text: str
    """What is wrong."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"kind": self.kind, "file": self.file, "place": self.place, "id": self.id, "text": self.text}


@dataclass(slots=True)
class Checked:
    """What a check came to."""

    records: int | None = None
    """Records of the manifest; None where it was not looked at."""
    equal: int = 0
    """Records whose line is what the run wrote, and answers what they ask."""
    unclaimed: int = 0
    """Lines that a run that was killed leaves, and that do not count."""
    found: Counter[str] = field(default_factory=Counter)
    """How many findings of each kind."""
    copies: int = 0
    """Tables, files beside images and others that were compared."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.found

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        kinds = {kind: self.found[kind] for kind in ("missing", "stale", "damaged", "extra")}
        return {
            "ok": self.ok, "records": self.records, "equal": self.equal, **kinds,
            "lines_that_do_not_count": self.unclaimed, "copies": self.copies,
        }  # fmt: skip


class OutputLines:
    """The lines of an output by their bytes: where each is, whatever a journal says. Built in one reading.

    Args:
        disk: The file system.
        fd: The open output.
    """

    def __init__(self, disk: Disk, fd: int) -> None:
        self._disk, self._fd = disk, fd
        self._starts = HashTable(values=True)
        for start, data in self:
            self._starts.insert(_name(crc32(data), len(data)), start)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Each line with its line end, and where it starts in bytes; the last may have none."""
        return read_lines(self._disk, self._fd)

    def find(self, slot: Slot) -> int | None:
        """Where a slot's line is, at another place than the slot says; None: nowhere."""
        return next(self._starts.find(_name(slot.line_crc, slot.length)), None)

    def close(self) -> None:
        """Frees the table."""
        self._starts.close()


def _name(crc: int, length: int) -> int:
    return (length << 32 | crc) or 1


def lock_journal(disk: Disk, path: Path) -> int:
    """The descriptor of an output's journal, locked: no run writes it meanwhile.

    Raises:
        OutputError: When one does, or it cannot be opened.
    """
    try:
        fd = disk.open(journal_path(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OutputError(f"{journal_path(path)} cannot be opened: {error.strerror or error}.") from error
    if not disk.lock(fd):
        disk.close(fd)
        raise OutputError(f"another run is writing {path}.", hint="Check it when that has ended.")
    return fd


def check_output(
    path: Path,
    manifest: Manifest | None,
    checked: Checked,
    *,
    context: dict[str, Any] | None = None,
    is_complete: bool = False,
    disk: Disk = DISK,
) -> Iterator[Finding]:
    """Compares an output with its journal and its manifest.

    Args:
        path: The output.
        manifest: Its records; None to leave them aside.
        checked: Counts go here.
        context: That of the run, by its run file, which the journal has to be of.
        is_complete: Whether its last run ended with every record done: then a line too many is not one that a killed
            run left.
        disk: The file system.

    Raises:
        OutputError: When the output is not there, or a run writes it.
        ManifestError: When the manifest cannot be read.
    """
    with ExitStack() as stack:
        try:
            fd = disk.open(path)
        except OSError as error:
            raise OutputError(f"{path} cannot be opened: {error.strerror or error}.") from error
        stack.callback(disk.close, fd)
        name = journal_path(path).name
        try:
            beside = lock_journal(disk, path)
        except FileNotFoundError:
            checked.found["damaged"] += 1
            yield Finding("damaged", name, name, None, "there is no journal")
            return
        stack.callback(disk.close, beside)
        journal = Journal.open(disk, beside)
        if journal is None and not disk.size(beside) and not disk.size(fd):
            yield from _not_begun(manifest, checked, name)  # a run was killed before its first answer
            return
        if journal is None:
            checked.found["damaged"] += 1
            yield Finding("damaged", name, name, None, "its header is not that of a journal")
            return
        checking = stack.enter_context(
            closing(_Checking(path, fd, journal, manifest, checked, disk, is_complete=is_complete))
        )
        found = chain(checking.context(context), checking.by_place(), checking.elsewhere(), checking.lines())
        for finding in found:
            checked.found[finding.kind] += 1
            yield finding


def _not_begun(manifest: Manifest | None, checked: Checked, name: str) -> Iterator[Finding]:
    for request in manifest or ():
        checked.records = request.index + 1
        checked.found["missing"] += 1
        yield Finding("missing", name, request.where, request.id, "it has no answer")


class _Checking:
    def __init__(
        self, path: Path, fd: int, journal: Journal, manifest: Manifest | None, checked: Checked, disk: Disk, *,
        is_complete: bool,
    ) -> None:  # fmt: skip
        self.path, self.fd, self.journal, self.disk = path, fd, journal, disk
        self.manifest, self.checked, self.is_complete = manifest, checked, is_complete
        self.table = OutputLines(disk, fd)
        self.claimed = HashTable()
        """Where lines start that a slot points at, counted from 1."""
        self.answered = HashTable()
        """Slots, counted from 1, that a record of the manifest has claimed."""
        self.total = 0
        """Bytes of the lines of the slots so far."""
        self.named = HashTable()
        """Ids of the records whose line or slot is damaged, as hashes: what is left of them is not reported twice."""
        self.changed = HashTable(values=True)
        """Records of which another line is in the journal: their line's hash -> their place, counted from 1."""

    def close(self) -> None:
        for table in (self.table, self.claimed, self.answered, self.named, self.changed):
            table.close()

    def context(self, expected: dict[str, Any] | None) -> Iterator[Finding]:
        """Whether the journal is of the run that the run file describes."""
        if expected is None:
            return
        own = self.journal.context
        differing = [
            name
            for name, value in journals.fitting(expected).items()
            if name not in REPLACEABLE and own.get(name) != value
        ]
        if differing:
            file = journal_path(self.path).name
            text = f"it is of another run: {', '.join(differing)} differ from the run file's"
            yield Finding("damaged", file, file, None, text)

    def by_place(self) -> Iterator[Finding]:
        """Each slot against its line and the record at its place."""
        reader = FileReader(self.disk, self.fd)
        lines = iter(()) if self.manifest is None else self.manifest.outline()
        for index, (line, slot) in enumerate(zip_longest(lines, self.journal.slots())):
            if line is not None:
                self.checked.records = index + 1
            if slot is None:
                if self.journal.is_damaged(index):
                    # A run that is killed may leave half of its last entry, whose record has no answer then.
                    kind: Kind = "damaged" if self.is_complete else "missing"
                    yield self._of_slot(index, line, kind, "its entry in the journal is damaged")
                elif line is not None:
                    yield self._of_slot(index, line, "missing", "it has no answer")
                continue
            finding = self._of_line(index, line, slot, reader)
            if finding is not None:
                self.answered.add(index + 1)
                yield finding
            elif self.manifest is None:
                self.checked.equal += not slot.flags & journals.STALE
            elif line is not None:
                yield from self._of_record(index, line, slot)

    def _of_slot(self, index: int, line: Line | None, kind: Kind, text: str) -> Finding:
        return self._finding(kind, journal_path(self.path).name, index, line, text)

    def _finding(self, kind: Kind, file: str, index: int, line: Line | None, text: str) -> Finding:
        place, id = (f"record {index + 1}", None) if line is None else self._named(line)
        if id is not None:
            self.named.add(hash_id(id))
        return Finding(kind, file, place, id, text)

    def _of_line(self, index: int, line: Line | None, slot: Slot, reader: FileReader) -> Finding | None:
        """What is wrong with the line that a slot points at."""
        total, self.total = self.total, self.total + slot.length
        # By its length alone: where it is when a run was killed after it put the lines in order.
        for start in (slot.offset, total):
            if crc32(reader.read(start, slot.length)) == slot.line_crc:
                self.claimed.add(start + 1)
                return None
        found = self.table.find(slot)
        if found is None:
            self.claimed.add(slot.offset + 1)  # what is there now is what became of this line
            text = "its line is not what the run wrote"
        else:
            self.claimed.add(found + 1)
            text = "its line was moved: it is not where the journal says"
        return self._finding("damaged", self.path.name, index, line, text)

    def _of_record(self, index: int, line: Line, slot: Slot) -> Iterator[Finding]:
        """What is wrong with an undamaged answer as that of the record at its place."""
        if slot.flags & journals.STALE:
            self.answered.add(index + 1)
            yield self._stale(line, "its record is to be asked again")
        elif slot.raw_hash != line.raw_hash:
            self.changed.insert(_short(line.raw_hash), index + 1)
        else:
            self.answered.add(index + 1)
            why = self._changed_files(line, slot)
            if why is None:
                self.checked.equal += 1
            else:
                yield self._stale(line, why)

    def _stale(self, line: Line, text: str) -> Finding:
        place, id = self._named(line)
        return Finding("stale", self.path.name, place, id, text)

    def _changed_files(self, line: Line, slot: Slot) -> str | None:
        """Which image of a record is another one now; None: all are those that the model saw."""
        assert self.manifest is not None
        if not slot.flags & journals.FILES:
            return None
        line = self.manifest.whole(line)
        try:
            stamps = self.manifest.stamps(line)
        except VLMError as error:
            return error.message
        if state_of(stamps) == slot.state:
            return None
        if slot.flags & journals.ERROR:
            return "an image changed since the record failed"
        gone = [Path(stamp.path).name for stamp in stamps if not stamp.inode]
        if gone:
            return f"{gone[0]} is not there any more"
        request = self.manifest.parse(line, register=False)
        if request.input is None:
            return "its record cannot be read any more"
        rules = self.manifest.rules
        fingerprint = self.journal.context["fingerprint"]
        key = ContentKey(request, fingerprint, rules.run_seed).strong(rules.limits)
        return None if key == slot.key else "an image changed since it was answered"

    def elsewhere(self) -> Iterator[Finding]:
        """Records whose own line stands elsewhere in the journal, or nowhere; and answers to no record."""
        if self.manifest is None:
            return
        if len(self.changed) or (self.checked.records or 0) < self.journal.places():
            yield from self._moved()

    def _moved(self) -> Iterator[Finding]:
        assert self.manifest is not None
        with closing(HashTable(values=True)) as by_hash:
            for number, slot in enumerate(self.journal.slots(), 1):
                if slot is not None and not self._is_answered(number):
                    by_hash.insert(_short(slot.raw_hash), number)
            for index, line in enumerate(self.manifest.outline()):
                if index + 1 not in self.changed.find(_short(line.raw_hash)):
                    continue
                found = (
                    number for number in by_hash.find(_short(line.raw_hash)) if self.answered.add(number)
                )
                if next(found, None) is None:
                    yield self._stale(line, "its line in the manifest changed since it was answered")
                else:
                    self.checked.equal += 1
        # Answers at the place of a record that changed were reported with it.
        for number, slot in enumerate(self.journal.slots(), 1):
            if slot is not None and number > (self.checked.records or 0) and self.answered.add(number):
                yield Finding(
                    "extra", self.path.name, f"record {number}", self._id(slot), "no record asks this"
                )

    def _is_answered(self, number: int) -> bool:
        return number in self.answered

    def lines(self) -> Iterator[Finding]:
        """Lines that no slot points at: what a killed run leaves, and in a finished output what somebody added."""
        for number, (start, data) in enumerate(self.table, 1):
            if start + 1 in self.claimed:
                continue
            id = _id_of(data)
            if id is not None and hash_id(id) in self.named:
                continue
            if self.is_complete:
                text = "no entry of the journal has this line"
                yield Finding("extra", self.path.name, f"{self.path.name}:{number}", id, text)
            else:
                self.checked.unclaimed += 1

    def _id(self, slot: Slot) -> str | None:
        return _id_of(self.disk.read(self.fd, slot.length, slot.offset))

    def _named(self, line: Line) -> tuple[str, str | None]:
        """How messages name a record, and its id."""
        assert self.manifest is not None
        request = self.manifest.parse(self.manifest.whole(line), register=False)
        return request.where, request.id


def _id_of(data: bytes) -> str | None:
    try:
        id = json.loads(data)["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return id if isinstance(id, str) else None


def _short(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little") or 1
