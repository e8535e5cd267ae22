"""A table of 64-bit hashes that may outgrow memory: past a few megabytes it lives in a file.

Knows nothing of what is hashed. A manifest of a hundred million ids costs disk (16 to 64 bytes per id in an
unnamed temporary file), not memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from struct import Struct
from typing import IO

_PROBE = 8
"""Entries looked at in one read."""
_TAIL = 4096
"""Entries behind the last place, so that a probe never wraps around."""
_PIECE = 1 << 16


class HashTable:
    """A set of hashes, or a multimap from hashes to numbers, by open addressing with linear probing.

    Args:
        values: Whether each entry has a number beside its hash.
        expected: How many entries there will be; more only cost time.
        memory: Bytes held in memory at most; a larger table is a temporary file.
    """

    def __init__(self, *, values: bool = False, expected: int = 0, memory: int = 3 << 20) -> None:
        self._words = 2 if values else 1
        self._entry = Struct(f"<{self._words}Q")
        self._window = Struct(f"<{self._words * _PROBE}Q")
        self._memory = memory
        self._used = 0
        self._places = 1 << max(10, (2 * expected).bit_length())
        self._store = self._allocate()

    def __len__(self) -> int:
        return self._used

    def __contains__(self, key: int) -> bool:
        place = key & (self._places - 1)
        while key not in (hashes := self._hashes(place)):
            if 0 in hashes:
                return False
            place += _PROBE
        return True

    def add(self, key: int) -> bool:
        """Puts a hash from 1 to 2**64 - 1 in unless it is there; True when it is new."""
        place = key & (self._places - 1)
        read, unpack, size = self._store.read, self._window.unpack, self._entry.size
        window, words = self._window.size, self._words
        while True:
            hashes = unpack(read(window, place * size))
            if words > 1:
                hashes = hashes[::words]
            if key in hashes:
                return False
            if 0 in hashes:
                self._put(place + hashes.index(0), key, 0)
                return True
            place += _PROBE

    def insert(self, key: int, value: int) -> None:
        """Puts one more entry in; the same hash may come again."""
        place = key & (self._places - 1)
        while 0 not in (hashes := self._hashes(place)):
            place += _PROBE
        self._put(place + hashes.index(0), key, value)

    def find(self, key: int) -> Iterator[int]:
        """The numbers under a hash."""
        place = key & (self._places - 1)
        while True:
            entries = self._window.unpack(self._store.read(self._window.size, place * self._entry.size))
            for i in range(0, len(entries), 2):
                if entries[i] == key:
                    yield entries[i + 1]
            if 0 in entries[::2]:
                return
            place += _PROBE

    def close(self) -> None:
        """Frees the temporary file, where there is one."""
        self._store.close()

    def _hashes(self, place: int) -> tuple[int, ...]:
        return self._window.unpack(self._store.read(self._window.size, place * self._entry.size))[
            :: self._words
        ]

    def _put(self, place: int, key: int, value: int) -> None:
        entry = self._entry
        self._store.write(entry.pack(key, value) if self._words > 1 else entry.pack(key), place * entry.size)
        self._used += 1
        # A cluster that reaches into the tail's end is as good a reason to grow as a table half full.
        if self._used * 2 > self._places or place > self._places + _TAIL - 4 * _PROBE:
            self._grow()

    def _allocate(self) -> _Memory | _TemporaryFile:
        size = (self._places + _TAIL) * self._entry.size
        return _Memory(size) if size <= self._memory else _TemporaryFile(size)

    def _grow(self) -> None:
        old, size = self._store, (self._places + _TAIL) * self._entry.size
        self._places *= 4
        self._used = 0
        self._store = self._allocate()
        for start in range(0, size, _PIECE):
            for key, *value in self._entry.iter_unpack(old.read(min(_PIECE, size - start), start)):
                if key:
                    self.insert(key, value[0] if value else 0)
        old.close()


class _Memory:
    def __init__(self, size: int) -> None:
        self._data = bytearray(size)

    def read(self, length: int, offset: int) -> bytes | bytearray:
        return self._data[offset : offset + length]

    def write(self, data: bytes, offset: int) -> None:
        self._data[offset : offset + len(data)] = data

    def close(self) -> None: ...


class _TemporaryFile:
    def __init__(self, size: int) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="pixano-vlm-")  # noqa: SIM115 - lives as long as this
        os.ftruncate(self._file.fileno(), size)
        self.read = partial(os.pread, self._file.fileno())
        self.write = partial(os.pwrite, self._file.fileno())

    def close(self) -> None:
        self._file.close()
