"""A table from 64-bit hashes to numbers that may outgrow memory: past a few megabytes it lives in a file.

Knows nothing of what is hashed. A manifest of a hundred million ids costs disk (32 to 128 bytes an id in an
unnamed temporary file), not memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from struct import Struct
from typing import IO

_ENTRY = Struct("<QQ")
_PROBE = 8
"""Entries looked at in one read."""
_PROBES = Struct(f"<{2 * _PROBE}Q")


class HashTable:
    """A multimap by open addressing with linear probing.

    Args:
        memory_entries: Places held in memory at most, 16 bytes each; a larger table is a temporary file.
    """

    def __init__(self, memory_entries: int = 1 << 18) -> None:
        self._memory_entries = memory_entries
        self._places = 1 << 10
        self._used = 0
        self._table: bytearray | _TableFile = self._allocate()

    def __len__(self) -> int:
        return self._used

    def add(self, key: int) -> bool:
        """Puts `key` in unless it is there; True when it is new."""
        place = key & (self._places - 1)
        read = self._read
        while True:
            entries = read(place)
            for i in range(0, 2 * _PROBE, 2):
                found = entries[i]
                if found == key:
                    return False
                if not found:
                    self._write((place + (i >> 1)) & (self._places - 1), key, 0)
                    return True
            place = (place + _PROBE) & (self._places - 1)

    def insert(self, key: int, value: int) -> None:
        """Puts one more entry in; the same key may come again. Neither is 0 or above 2**64 - 1."""
        place = key & (self._places - 1)
        while True:
            entries = self._read(place)
            for i in range(0, 2 * _PROBE, 2):
                if not entries[i]:
                    self._write((place + (i >> 1)) & (self._places - 1), key, value)
                    return
            place = (place + _PROBE) & (self._places - 1)

    def find(self, key: int) -> Iterator[int]:
        """The values under `key`, in the order they were put in."""
        place = key & (self._places - 1)
        while True:
            entries = self._read(place)
            for i in range(0, 2 * _PROBE, 2):
                if not entries[i]:
                    return
                if entries[i] == key:
                    yield entries[i + 1]
            place = (place + _PROBE) & (self._places - 1)

    def close(self) -> None:
        """Frees the temporary file, where there is one."""
        if isinstance(self._table, _TableFile):
            self._table.close()

    def _read(self, place: int) -> tuple[int, ...]:
        # The first places are repeated after the last, so that a probe never wraps in the middle of a read.
        return (
            _PROBES.unpack_from(self._table, place * 16)
            if type(self._table) is bytearray
            else _PROBES.unpack(
                self._table.read(place * 16, 16 * _PROBE)  # type: ignore[union-attr]  # the other of the two
            )
        )

    def _write(self, place: int, key: int, value: int) -> None:
        self._put(self._table, place, self._places, key, value)
        self._used += 1
        if self._used * 2 > self._places:
            self._grow()

    @staticmethod
    def _put(table: bytearray | _TableFile, place: int, places: int, key: int, value: int) -> None:
        data = _ENTRY.pack(key, value)
        table[place * 16 : place * 16 + 16] = data
        if place < _PROBE:
            table[(place + places) * 16 : (place + places) * 16 + 16] = data

    def _allocate(self) -> bytearray | _TableFile:
        size = (self._places + _PROBE) * 16
        return bytearray(size) if self._places <= self._memory_entries else _TableFile(size)

    def _grow(self) -> None:
        old, old_places = self._table, self._places
        self._places *= 4
        self._used = 0
        self._table = self._allocate()
        for start in range(0, old_places * 16, 1 << 20):
            data = bytes(old[start : min(start + (1 << 20), old_places * 16)])
            for key, value in _ENTRY.iter_unpack(data):
                if key:
                    self.insert(key, value)
        if isinstance(old, _TableFile):
            old.close()


class _TableFile:
    """A temporary file without a name that is sliced like a bytearray."""

    def __init__(self, size: int) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="pixano-vlm-")  # noqa: SIM115 - lives as long as this
        self._fd = self._file.fileno()
        os.ftruncate(self._fd, size)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def __getitem__(self, piece: slice) -> bytes:
        return os.pread(self._fd, piece.stop - piece.start, piece.start)

    def __setitem__(self, piece: slice, data: bytes) -> None:
        os.pwrite(self._fd, data, piece.start)

    def close(self) -> None:
        self._file.close()
