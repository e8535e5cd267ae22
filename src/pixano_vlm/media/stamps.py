"""The state of a file without reading it, and the digests of what was read. Knows neither images nor limits."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

__all__ = ["DIGESTS", "Digests", "FileStamp", "image_digest", "stamp", "stamp_of"]


class FileStamp(NamedTuple):
    """What tells one state of a file from another without reading it. All zero when there is no such file."""

    path: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    """The kernel sets it on every change and nobody can set it back, unlike the modification time."""


def stamp(path: str) -> FileStamp:
    """The file's state now; all zero when there is none. Costs one call of the operating system."""
    try:
        return stamp_of(path, os.stat(path))  # noqa: PTH116 - a hot path
    except (OSError, ValueError):
        return FileStamp(path, 0, 0, 0, 0)


def stamp_of(path: str, status: os.stat_result) -> FileStamp:
    """The state that `status` describes."""
    return FileStamp(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def image_digest(data: bytes) -> bytes:
    """BLAKE2b-128 of an image's encoded bytes."""
    return blake2b(data, digest_size=16).digest()


class Digests:
    """Digests of the files read lately, by stamp: bytes are hashed where they are read and only there.

    Safe from many threads.
    """

    SIZE = 16_384

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[FileStamp, bytes] = OrderedDict()

    def get(self, key: FileStamp) -> bytes | None:
        """The digest of the file in that state; None when it was not read lately."""
        with self._lock:
            return self._entries.get(key)

    def of(self, key: FileStamp, data: bytes) -> bytes:
        """The digest of a file's bytes, hashed unless the file was read in that state before."""
        known = self.get(key)
        if known is not None:
            return known
        digest = image_digest(data)
        with self._lock:
            self._entries[key] = digest
            if len(self._entries) > self.SIZE:
                self._entries.popitem(last=False)
        return digest


DIGESTS = Digests()
"""Those of this process."""
