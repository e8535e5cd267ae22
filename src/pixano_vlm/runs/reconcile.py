"""Finds out what of an earlier run still holds: old journal and output against the manifest as it is now.

First by place, without parsing: the same line at the same place under the same settings, with image files in
the same state. Then, only if lines were changed or moved, by content. Holds one record at a time, whatever the
manifest's size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, repeat, zip_longest
from zlib import crc32

from pixano_vlm.errors import VLMError
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs import journal as journals
from pixano_vlm.outputs.disk import Disk, FileReader
from pixano_vlm.outputs.journal import Journal, Slot, SlotWriter
from pixano_vlm.records.content_key import UNKNOWN, ContentKey, state_of
from pixano_vlm.records.output_line import relabelled, says
from pixano_vlm.records.request import Line, Request, place

_UNUSUAL = journals.ERROR | journals.LINE_ERROR | journals.FILES | journals.FLAGGED
_MOVED = 0
"""In place of a slot's checksum: its offset is not the one that was read."""


@dataclass(slots=True)
class Reconciled:
    """What an earlier run has left to do."""

    ok: int = 0
    failed: int = 0
    to_do: int | None = 0
    """None when nobody has counted."""
    done_up_to: Line | None = None
    """Every record up to this one is done; its ids are registered with the manifest."""
    end: int = 0
    """Where the output's next line goes, in bytes."""
    in_order: bool = True
    """Whether the output is exactly the done lines, in the manifest's order."""
    highest: int = -1
    live: int = 0
    """Bytes of the done lines."""


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
) -> Reconciled:
    """Fills `new` with what still holds. `old` and every line it points at stay as they are.

    Raises:
        OSError: When a file cannot be read or written.
        ManifestError: When the manifest cannot be read.
    """
    again = (journals.ERROR if retry_failed else 0) | (journals.FLAGGED if retry_flagged else 0)
    run = _Reconciliation(old, new, manifest, output, disk, model, fingerprint, again, limit)
    run.by_place()
    disk.truncate(output, run.found.end)
    if run.left_over and run.to_do:
        run.by_content()
    run.found.to_do = run.to_do
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
        """Slots with one of these flags are done again."""
        self.limit = float("inf") if limit is None else limit
        self.found = Reconciled()
        self.left_over = 0
        """Old answers that no record at their place has claimed."""
        self.to_do = 0
        self._moved = HashTable(values=True)
        """Old slots, counted from 1, whose line stands elsewhere than they say: where, counted from 1."""
        self._unchanged = old.context == new.context

    def by_place(self) -> None:
        """Claims the slots whose record is unchanged and still at its place."""
        found, writer = self.found, SlotWriter(self.disk, self.new)
        prefix, position = True, 0
        self.manifest.expect_ids(self.old.places())
        for index, (line, slot) in enumerate(zip_longest(self.manifest.lines(), self._verified())):
            if slot is not None:
                found.end = max(found.end, slot.offset + slot.length)
            if line is not None and slot is not None and self._claims(line, slot, prefix):
                if slot.crc == _MOVED:
                    writer.put(index, slot)
                else:
                    writer.keep(index, slot)
                self._count(slot)
                found.in_order &= slot.offset == position
                position += slot.length
                found.highest = index
                if prefix:
                    found.done_up_to = line
                continue
            if slot is not None:
                found.in_order = False
                self.left_over += not slot.flags & journals.LINE_ERROR and not self._is_retried(slot)
            if line is not None:
                prefix = False
                self.to_do += index < self.limit
        writer.flush()
        found.in_order &= found.end == position
        found.live = position

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
        if not self._unchanged or slot.raw_hash != line.raw_hash:
            return False
        if not slot.flags & _UNUSUAL and slot.id_hash:  # nearly all, and a resume of a million waits for this
            return not prefix or self.manifest.ids.add(slot.id_hash)
        if not slot.id_hash and slot.number != line.number:  # its id is its line number
            return False
        if slot.flags & journals.LINE_ERROR:
            # It may hang on the ids above it, which are all known only while nothing above was skipped; behind
            # that, whoever reads on decides.
            return not prefix or says(self.manifest.parse(line), self.model, slot.length, slot.line_crc)
        if self._is_retried(slot):
            return False
        if slot.flags & journals.FILES and slot.state != self._state(line):
            return False
        return not (prefix and slot.id_hash) or self.manifest.ids.add(slot.id_hash)

    def _state(self, line: Line) -> bytes | None:
        try:
            return state_of(self.manifest.stamps(line))
        except VLMError:  # a path that has come to lead out of the image root
            return None

    def _count(self, slot: Slot) -> None:
        if slot.flags & journals.OK:
            self.found.ok += 1
        else:
            self.found.failed += 1

    def by_content(self) -> None:
        """Claims answers to the same question for records that were edited, inserted or moved."""
        found, writer = self.found, SlotWriter(self.disk, self.new)
        with closing(self._moved), closing(self._index()) as left, closing(HashTable()) as used:
            reader = FileReader(self.disk, self.output)
            for line, there in zip(
                self.manifest.lines(), chain(self.new.slots(), repeat(None)), strict=False
            ):
                if there is not None:
                    continue
                request = self.manifest.parse(line, register=False)
                slot = None if request.input is None else self._answer(request, left, used)
                if slot is None:
                    continue
                data = reader.read(slot.offset, slot.length)
                text = relabelled(data, request, self.model, self._old_place(data, slot))
                if text != data:
                    self.disk.write(self.output, text, found.end)
                    slot = slot._replace(offset=found.end, length=len(text), line_crc=crc32(text))
                    found.end += len(text)
                state = state_of(request.files) if request.files else bytes(16)
                slot = slot._replace(
                    number=request.line, id_hash=request.id_hash, raw_hash=request.raw_hash, state=state
                )
                writer.put(request.index, slot)
                self._count(slot)
                found.live += slot.length
                self.to_do -= request.index < self.limit
            writer.flush()

    def _old_place(self, line: bytes, slot: Slot) -> str:
        return place(self.manifest.name, slot.number, json.loads(line)["id"] if slot.id_hash else None)

    def _index(self) -> HashTable:
        left = HashTable(values=True)
        claimed = chain(self.new.slots(), repeat(None))
        for index, (slot, mine) in enumerate(zip(self._verified(), claimed, strict=False)):
            if slot is None or mine is not None or slot.flags & journals.LINE_ERROR or self._is_retried(slot):
                continue
            if slot.key != UNKNOWN:
                left.insert(slot.weak_key, index + 1)
                if slot.crc == _MOVED:
                    self._moved.insert(index + 1, slot.offset + 1)
        return left

    def _answer(self, request: Request, left: HashTable, used: HashTable) -> Slot | None:
        """An old slot that answers the request."""
        keys = ContentKey(request, self.fingerprint, self.manifest.run_seed)
        key = None
        for number in left.find(keys.weak):
            slot = self.old.get(number - 1)
            if slot is None or slot.weak_key != keys.weak:
                continue
            key = key or keys.strong(self.manifest.limits)
            if slot.key != key:
                continue
            # Two equal records that are sampled with seeds of their own are owed two answers.
            if slot.flags & journals.REPEATABLE and not used.add(number):
                continue
            for offset in self._moved.find(number):
                slot = slot._replace(offset=offset - 1)
            return slot
        return None
