"""The journal beside an output: for each manifest record, where its line stands and what it answers.

A header and then one slot of 96 bytes for each record, at its place in the manifest; the file is sparse where
records are not done. A slot counts only if its own checksum is right *and* the bytes it points at have the
checksum it states, so slots and lines may reach the disk in any order: whatever a crash leaves, each line is
either wholly there or not there. Knows slots and bytes, not what the lines mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

from pixano_vlm.outputs.disk import Disk

HEADER_BYTES = 4096
SLOT_BYTES = 96
FORMAT = "pixano-vlm journal 1"
LONG = 200
"""A longer text of the header is a digest where the header would have no room."""

OK = 1
ERROR = 2
LINE_ERROR = 4
"""The error is the manifest line's own: cheap to find again, and it may hang on other lines."""
FILES = 8
"""The record names local image files."""
REPEATABLE = 16
"""A sampled answer whose seed hangs on its place: equal records each want one of their own."""
FLAGGED = 32
"""The answer is flagged and was not tried again."""
STALE = 64
"""The answer holds no longer: its record is to be asked again, and the line stays until it has been."""

_BODY = Struct("<IIIIQQQ16s16s16s")
_SLOT = Struct(_BODY.format + "I4x")
_BODY_BYTES = _BODY.size
_CHUNK = 4096 * SLOT_BYTES


class Slot(NamedTuple):
    """One finished record."""

    flags: int
    line_crc: int
    """CRC-32 of the line's bytes in the output."""
    number: int
    """The record's line in the manifest, from 1."""
    length: int
    offset: int
    """The line's bytes in the output."""
    id_hash: int
    weak_key: int
    """64 bits of what the record asks, with the sizes of its image files for their contents."""
    raw_hash: bytes
    """The manifest line as it was written."""
    key: bytes
    """What the record asks, image contents included; zeros when they could not be read."""
    state: bytes
    """Stamps of its image files."""
    crc: int = 0
    """CRC-32 of all of the above as it was read; `pack` computes it again."""

    def at(self, offset: int) -> Slot:
        """The slot of the same line, which is at another offset."""
        return tuple.__new__(Slot, (*self[:_OFFSET], offset, *self[_OFFSET + 1 :]))  # faster than `_replace`


_OFFSET = Slot._fields.index("offset")


def pack(slot: Slot) -> bytes:
    """A slot as its 96 bytes."""
    body = _BODY.pack(*slot[:-1])
    return body + crc32(body).to_bytes(8, "little")


def unpack(data: bytes) -> Slot | None:
    """The slot, or None when it is empty, torn or damaged."""
    if len(data) < SLOT_BYTES:
        return None
    slot = Slot._make(_SLOT.unpack(data))
    return slot if slot.crc == crc32(data[:_BODY_BYTES]) else None  # that of an empty slot's body is not 0


def fitting(values: dict[str, Any]) -> dict[str, Any]:
    """The values, those that the header has no room for as their digests, by which they can still be compared."""
    if len(json.dumps(values)) <= HEADER_BYTES // 2 - 64:
        return values
    return {
        name: "blake2b:" + blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        if isinstance(value, str) and len(value) > LONG
        else value
        for name, value in values.items()
    }


class Journal:
    """An open journal file. Construct it with `create` or `open`."""

    def __init__(self, disk: Disk, fd: int, context: dict[str, Any], facts: dict[str, Any]) -> None:
        self._disk, self.fd = disk, fd
        self.context = context
        """What must be as it was for an unchanged record to be done without looking into it."""
        self.facts = facts
        """What was asked for, in words that explain a change; nothing hangs on it."""

    @classmethod
    def create(
        cls, disk: Disk, path: Path, context: dict[str, Any], facts: dict[str, Any] | None = None
    ) -> Journal:
        """A new, empty journal at `path`, locked."""
        context, facts = fitting(context), fitting(facts or {})
        fd = disk.open(path, create=True, truncate=True)
        disk.lock(fd)
        header = json.dumps({"format": FORMAT, "context": context, "facts": facts}).encode()
        disk.write(fd, header.ljust(HEADER_BYTES - 1) + b"\n", 0)
        return cls(disk, fd, context, facts)

    @classmethod
    def open(cls, disk: Disk, fd: int) -> Journal | None:
        """The journal in an open file; None when its header is not one."""
        try:
            header = json.loads(disk.read(fd, HEADER_BYTES, 0))
        except (ValueError, RecursionError):
            return None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            return None
        context, facts = header.get("context"), header.get("facts") or {}
        if not isinstance(context, dict) or not isinstance(facts, dict):
            return None
        return cls(disk, fd, context, facts)

    def put(self, index: int, slot: Slot) -> None:
        """Writes the slot of record `index`."""
        self._disk.write(self.fd, pack(slot), HEADER_BYTES + index * SLOT_BYTES)

    def get(self, index: int) -> Slot | None:
        """The slot of record `index`."""
        return unpack(self._disk.read(self.fd, SLOT_BYTES, HEADER_BYTES + index * SLOT_BYTES))

    def is_damaged(self, index: int) -> bool:
        """Whether something is written in the slot of record `index` that is not a slot."""
        data = self._disk.read(self.fd, SLOT_BYTES, HEADER_BYTES + index * SLOT_BYTES)
        return any(data) and unpack(data) is None

    def slots(self, start: int = 0) -> Iterator[Slot | None]:
        """The slots from record `start` to the last one written, read in large pieces."""
        offset = HEADER_BYTES + start * SLOT_BYTES
        make = tuple.__new__
        while data := self._disk.read(self.fd, _CHUNK, offset):
            torn = len(data) % SLOT_BYTES
            view = memoryview(data)[: len(data) - torn]
            start = 0
            for fields in _SLOT.iter_unpack(view):
                yield make(Slot, fields) if fields[-1] == crc32(view[start : start + _BODY_BYTES]) else None
                start += SLOT_BYTES
            offset += len(view)
            if torn:  # the last slot of a journal that was cut off; what follows, if ever, is behind it
                yield None
                offset += SLOT_BYTES

    def places(self) -> int:
        """How many records the file has room for: at least those that are done."""
        return max(0, self._disk.size(self.fd) - HEADER_BYTES) // SLOT_BYTES

    def sync(self) -> None:
        """Returns when all of it is on the disk itself."""
        self._disk.sync(self.fd)

    def close(self) -> None:
        """Closes the file and frees its lock."""
        self._disk.close(self.fd)


class SlotWriter:
    """Writes slots in ascending order of records, in large pieces; gaps are left as they are."""

    def __init__(self, disk: Disk, journal: Journal) -> None:
        self._disk, self._journal = disk, journal
        self._pieces: list[bytes] = []
        self._first = 0

    def put(self, index: int, slot: Slot) -> None:
        """Adds the slot of record `index`, which is above every earlier one."""
        self._add(index, pack(slot))

    def keep(self, index: int, slot: Slot) -> None:
        """Adds a slot just as it was read."""
        self._add(index, _SLOT.pack(*slot))

    def _add(self, index: int, data: bytes) -> None:
        if self._pieces and (index != self._first + len(self._pieces) or len(self._pieces) >= 4096):
            self.flush()
        if not self._pieces:
            self._first = index
        self._pieces.append(data)

    def flush(self) -> None:
        """Writes what is held."""
        if self._pieces:
            self._disk.write(
                self._journal.fd, b"".join(self._pieces), HEADER_BYTES + self._first * SLOT_BYTES
            )
            self._pieces.clear()
