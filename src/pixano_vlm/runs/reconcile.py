"""Finds out what of an earlier run still holds: old journal and output against the manifest as it is now.

First by place, without parsing: the same line at the same place under the same settings, with image files in
the same state. Then, only if lines were changed or moved, by content. An answer that holds no longer, of a record
that is still there, is stale: it stays in the output until the record has a new one. Holds one record at a time,
whatever the manifest's size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, repeat, zip_longest
from zlib import crc32

from pixano_vlm.errors import VLMError
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs import journal as journals
from pixano_vlm.outputs.disk import Disk, FileReader
from pixano_vlm.outputs.journal import Journal, Slot, SlotWriter
from pixano_vlm.outputs.jsonl import Standing
from pixano_vlm.records.content_key import UNKNOWN, ContentKey, state_of
from pixano_vlm.records.output_line import relabelled, says
from pixano_vlm.records.request import Line, Request, hash_id, place

_UNUSUAL = journals.ERROR | journals.LINE_ERROR | journals.FILES | journals.FLAGGED
NOT_A_LINE = (ValueError, RecursionError, TypeError, KeyError, AttributeError)
"""What comes of reading a line that no run wrote, though a journal vouches for it."""
_MOVED = 0
"""Instead of a slot's checksum: its offset is not the one that was read."""


@dataclass(slots=True)
class Reconciled:
    """What an earlier run has left to do, and what of it holds."""

    ok: int = 0
    failed: int = 0
    remaining: int | None = 0
    """None when nobody has counted."""
    earlier: int = 0
    """Answers that held when the earlier run ended, errors aside."""
    retried: int = 0
    """Of those, how many are asked again because that was asked for."""
    changed: int = 0
    """Of those, how many hold no longer, though their record is still there."""
    without_image: int = 0
    """Of those that hold no longer, how many are of a record whose image is not there any more."""
    removed: int = 0
    """Of those, how many belong to no record any more."""
    done_up_to: Line | None = None
    """Every record up to this one is done; its ids are registered with the manifest."""
    standing: Standing = field(default_factory=Standing)
    """What is in the output."""
    old_end: int = 0
    """Where the output ended before anything was added to it, in bytes."""

    @property
    def lost(self) -> int:
        """Answers that hold no longer, though nobody asked for that."""
        return self.changed + self.removed


def reconcile(
    old: Journal,
    new: Journal,
    manifest: Manifest,
    *,
    output: int,
    disk: Disk,
    model: str,
    fingerprint: str,
    retry_failed: bool,
    retry_flagged: bool = False,
    limit: int | None,
    replaced: Callable[[bytes], None] | None = None,
) -> Reconciled:
    """Fills `new` with what still holds. `old` and every line it points at stay as they are.

    Args:
        old: The earlier run's journal.
        new: An empty one.
        manifest: The records as they are now.
        output: The open file of the lines.
        disk: The file system.
        model: The model's name, for the lines.
        fingerprint: What distinguishes its answers from another model's.
        retry_failed: Ask failed records again.
        retry_flagged: Ask those again whose answer is flagged and was not tried again yet.
        limit: Only the first so many records are done in this run; earlier answers beyond them count all the same.
        replaced: Called with each line of an answer that holds no longer.

    Raises:
        OSError: When a file cannot be read or written.
        ManifestError: When the manifest cannot be read.
    """
    again = (journals.ERROR if retry_failed else 0) | (journals.FLAGGED if retry_flagged else 0)
    run = _Reconciliation(old, new, manifest, output, disk, model, fingerprint, again, limit)
    run.by_place()
    run.found.old_end = run.found.standing.end
    disk.truncate(output, run.found.old_end)
    if run.left_over:
        run.by_content(replaced)
    run.found.remaining = run.remaining
    if run.found.standing.stale:
        run.found.standing.in_order = False
    return run.found


class _Reconciliation:
    def __init__(
        self, old: Journal, new: Journal, manifest: Manifest, output: int, disk: Disk, model: str, fingerprint: str,
        again: int, limit: int | None,
    ) -> None:  # fmt: skip
        self.old, self.new, self.manifest = old, new, manifest
        self.output, self.disk = output, disk
        self.model, self.fingerprint = model, fingerprint
        self.again = again
        """Slots with one of these flags are asked again."""
        self.limit = float("inf") if limit is None else limit
        self.found = Reconciled()
        self.left_over = 0
        """Old answers that no record at their place has claimed."""
        self.remaining = 0
        self._moved = HashTable(values=True)
        """Old slots, counted from 1, whose line stands elsewhere than they say: where, counted from 1."""
        self._unchanged = new.context == old.context

    def by_place(self) -> None:
        """Claims the slots whose record is unchanged and still at its place."""
        found, standing, writer = self.found, self.found.standing, SlotWriter(self.disk, self.new)
        prefix, position = True, 0
        self.manifest.expect_ids(self.old.places())
        for index, (line, slot) in enumerate(zip_longest(self.manifest.outline(), self._verified())):
            if slot is not None:
                standing.end = max(standing.end, slot.offset + slot.length)
                found.earlier += _held(slot)
            if line is not None and slot is not None and self._claims(line, slot, prefix):
                if slot.crc == _MOVED:
                    writer.put(index, slot)
                else:
                    writer.keep(index, slot)
                self._count(slot)
                standing.in_order &= slot.offset == position
                position += slot.length
                standing.highest = index
                if prefix:
                    found.done_up_to = line
                continue
            if slot is not None:
                standing.in_order = False
                self.left_over += not slot.flags & journals.LINE_ERROR
            if line is not None:
                prefix = False
                self.remaining += index < self.limit
        writer.flush()
        standing.in_order &= standing.end == position
        standing.live = position

    def _verified(self) -> Iterator[Slot | None]:
        """The old slots, in the manifest's order; None where there is none or its line is not in the output."""
        reader, total = FileReader(self.disk, self.output), 0
        for slot in self.old.slots():
            if slot is not None and crc32(reader.read(slot.offset, slot.length)) != slot.line_crc:
                # A crash after the lines were put in order and before the journal followed: add up the lengths.
                is_there = crc32(reader.read(total, slot.length)) == slot.line_crc
                yield slot._replace(offset=total, crc=_MOVED) if is_there else None
            else:
                yield slot
            if slot is not None:
                total += slot.length

    def _is_retried(self, slot: Slot) -> bool:
        return bool(slot.flags & self.again)

    def _claims(self, line: Line, slot: Slot, prefix: bool) -> bool:
        if not self._unchanged or slot.raw_hash != line.raw_hash or slot.flags & journals.STALE:
            return False
        if not slot.flags & _UNUSUAL and slot.id_hash:  # nearly all, and a resume of a million waits for this
            return not prefix or self.manifest.ids.add(slot.id_hash)
        if not slot.id_hash and slot.number != line.number:  # its id is its line number
            return False
        if slot.flags & journals.LINE_ERROR:
            # It may hang on the ids above it, which are all known only while nothing above was skipped; behind
            # that, whoever reads on decides.
            return not prefix or says(
                self.manifest.parse(self.manifest.whole(line)), self.model, slot.length, slot.line_crc
            )
        if self._is_retried(slot):
            return False
        if slot.flags & journals.FILES and slot.state != self._state(line):
            return False
        return not prefix or self.manifest.ids.add(slot.id_hash or hash_id(line.default_id))

    def _state(self, line: Line) -> bytes | None:
        try:
            return state_of(self.manifest.stamps(self.manifest.whole(line)))
        except VLMError:  # a path that has come to lead out of the image root
            return None

    def _count(self, slot: Slot) -> None:
        if slot.flags & journals.OK:
            self.found.ok += 1
        else:
            self.found.failed += 1

    def by_content(self, replaced: Callable[[bytes], None] | None) -> None:
        """Claims answers to the same question for records that were edited, inserted or moved.

        Then gives each record that has none its own earlier answer, if there is one, as a stale one.
        """
        writer = SlotWriter(self.disk, self.new)
        with (
            closing(self._moved),
            closing(HashTable()) as used,
            closing(HashTable()) as taken,
            closing(HashTable(values=True)) as by_key,
            closing(HashTable(values=True)) as by_id,
        ):
            self._index(by_key, by_id)
            reader = FileReader(self.disk, self.output)
            for line, there in zip(
                self.manifest.lines(), chain(self.new.slots(), repeat(None)), strict=False
            ):
                if there is not None:
                    continue
                request = self.manifest.parse(line, register=False)
                number = None if request.input is None else self._answer(request, by_key, used)
                reused = None if number is None else self._reused(request, self._old(number), reader)
                if number is not None and reused is not None:
                    taken.add(number)
                    writer.put(request.index, reused)
                    continue
                number = next((n for n in by_id.find(_own_id(request)) if taken.add(n)), None)
                if number is not None:
                    slot = self._old(number)
                    if _held(slot) and not self._is_retried(slot):
                        self.found.changed += 1
                        self.found.without_image += any(not file.inode for file in request.files)
                    self._retire(slot, reader, replaced)
                    writer.put(request.index, self._stale(request, slot))
            writer.flush()
            for number, slot in self._left_over():
                if slot.flags & journals.OK and taken.add(number):
                    self.found.removed += _held(slot) and not self._is_retried(slot)
                    self._retire(slot, reader, replaced)

    def _retire(self, slot: Slot, reader: FileReader, replaced: Callable[[bytes], None] | None) -> None:
        """Hands over the line of an answer that held until now."""
        if _held(slot):
            self.found.retried += self._is_retried(slot)
            if replaced is not None:
                replaced(reader.read(slot.offset, slot.length))

    def _stale(self, request: Request, slot: Slot) -> Slot:
        """The slot of an answer that stays until its record is asked again."""
        standing = self.found.standing
        standing.stale += 1
        standing.live += slot.length
        standing.highest = max(standing.highest, request.index)
        return slot._replace(flags=slot.flags | journals.STALE, number=request.line, id_hash=request.id_hash)

    def _reused(self, request: Request, slot: Slot, reader: FileReader) -> Slot | None:
        """The slot of an answer that still holds, its line as the record writes it now; None: it is not a line."""
        standing = self.found.standing
        data = reader.read(slot.offset, slot.length)
        try:
            text = relabelled(data, request, self.model, self._old_place(data, slot))
        except NOT_A_LINE:
            return None
        if text != data:
            self.disk.write(self.output, text, standing.end)
            slot = slot._replace(offset=standing.end, length=len(text), line_crc=crc32(text))
            standing.end += len(text)
        state = state_of(request.files) if request.files else bytes(16)
        slot = slot._replace(
            flags=slot.flags & ~journals.STALE, number=request.line, id_hash=request.id_hash,
            raw_hash=request.raw_hash, state=state,
        )  # fmt: skip
        self._count(slot)
        standing.live += slot.length
        self.remaining -= request.index < self.limit
        return slot

    def _old_place(self, line: bytes, slot: Slot) -> str:
        return place(self.manifest.rules.name, slot.number, json.loads(line)["id"] if slot.id_hash else None)

    def _left_over(self) -> Iterator[tuple[int, Slot]]:
        """Old slots, counted from 1, that no record at their place has claimed."""
        claimed = chain(self.new.slots(), repeat(None))
        for index, (slot, mine) in enumerate(zip(self._verified(), claimed, strict=False)):
            if slot is not None and not slot.flags & journals.LINE_ERROR and not self._is_same(slot, mine):
                yield index + 1, slot

    @staticmethod
    def _is_same(slot: Slot, mine: Slot | None) -> bool:
        return mine is not None and not mine.flags & journals.STALE and mine.offset == slot.offset

    def _index(self, by_key: HashTable, by_id: HashTable) -> None:
        for number, slot in self._left_over():
            if slot.flags & journals.OK:
                by_id.insert(slot.id_hash or _line_id(slot.number), number)
            if slot.key != UNKNOWN and not self._is_retried(slot):
                by_key.insert(slot.weak_key, number)
            if slot.crc == _MOVED:
                self._moved.insert(number, slot.offset + 1)

    def _old(self, number: int) -> Slot:
        slot = self.old.get(number - 1)
        assert slot is not None, "it was there when it was indexed"
        for offset in self._moved.find(number):
            slot = slot._replace(offset=offset - 1)
        return slot

    def _answer(self, request: Request, left: HashTable, used: HashTable) -> int | None:
        """The number of an old slot that answers the request."""
        rules = self.manifest.rules
        keys = ContentKey(request, self.fingerprint, rules.run_seed)
        key = None
        for number in left.find(keys.weak):
            slot = self.old.get(number - 1)
            if slot is None or slot.weak_key != keys.weak:
                continue
            key = key or keys.strong(rules.limits)
            if slot.key != key:
                continue
            # Two equal records that are sampled with seeds of their own are owed two answers.
            if slot.flags & journals.REPEATABLE and not used.add(number):
                continue
            return number
        return None


def _held(slot: Slot) -> bool:
    """Whether it is an answer, and one that held when the earlier run ended."""
    return slot.flags & (journals.OK | journals.STALE) == journals.OK


def _own_id(request: Request) -> int:
    return request.id_hash or _line_id(request.line)


def _line_id(number: int) -> int:
    """Where a record has no id, its line is what names it."""
    return int.from_bytes(blake2b(b"line %d" % number, digest_size=8).digest(), "little") or 1
