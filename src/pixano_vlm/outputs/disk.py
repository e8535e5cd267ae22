"""The few operations on files that durable results stand on, as one object that a test can replace.

Knows nothing of what is written. A test's stand-in keeps only what was fsynced, as a power cut does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["DISK", "Disk", "FileReader", "read_lines"]

_PIECE = 1 << 20


class Disk:
    """The operating system's files. Every method raises `OSError` as the system does."""

    def open(self, path: Path, *, create: bool = False, truncate: bool = False) -> int:
        """Opens for reading and writing; returns a descriptor."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0) | (os.O_TRUNC if truncate else 0)
        return os.open(path, flags, 0o666)

    def close(self, fd: int) -> None:
        """Closes a descriptor; its lock goes with it."""
        os.close(fd)

    def read(self, fd: int, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer at the end of the file."""
        return os.pread(fd, length, offset)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Writes all of `data` at `offset`."""
        done = self.write_some(fd, data, offset)
        while done < len(data):
            done += self.write_some(fd, data[done:], offset + done)

    def write_some(self, fd: int, data: bytes, offset: int) -> int:
        """Writes some of `data`, from its start, at `offset`; returns how many bytes."""
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cuts the file to `size` bytes."""
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        """Bytes in the file."""
        return os.fstat(fd).st_size

    def sync(self, fd: int) -> None:
        """Returns when the file's bytes are on the disk itself."""
        os.fsync(fd)

    def sync_folder(self, folder: Path) -> None:
        """Returns when the folder's names are on the disk itself."""
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError:  # some network file systems cannot sync a folder; they order renames themselves
            pass
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Puts `source` in `target`'s place, in one step."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Removes a file; one that is not there is no error."""
        path.unlink(missing_ok=True)

    def exists(self, path: Path) -> bool:
        """Whether there is a file of that name."""
        return os.path.lexists(path)

    def is_at(self, fd: int, path: Path) -> bool:
        """Whether `path` still names the open file."""
        try:
            return os.path.samestat(os.fstat(fd), path.stat())
        except OSError:
            return False

    def lock(self, fd: int) -> bool:
        """Takes the file for this process alone; False when another has it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


DISK = Disk()


def read_lines(disk: Disk, fd: int) -> Iterator[tuple[int, bytes]]:
    """Each line of an open file with its line end, and where it starts in bytes; the last may have no line end."""
    offset, rest, start = 0, b"", 0
    while data := disk.read(fd, _PIECE, offset):
        offset += len(data)
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield start, line + b"\n"
            start += len(line) + 1
    if rest:
        yield start, rest


class FileReader:
    """Reads pieces of a file that are wanted nearly in order, in few large reads."""

    WINDOW = 1 << 20
    BEHIND = 1 << 17
    """Kept before the wanted place: lines were finished nearly in order, not quite."""

    def __init__(self, disk: Disk, fd: int) -> None:
        self._disk, self._fd = disk, fd
        self._start = 0
        self._data = b""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`; fewer where the file ends before."""
        begin = offset - self._start
        if begin < 0 or begin + length > len(self._data):
            # A damaged journal may ask for more than there is, and for more than memory holds.
            length = max(0, min(length, self._disk.size(self._fd) - offset))
            if not length:
                return b""
            self._start = max(0, offset - self.BEHIND) if begin < 0 else offset
            self._data = self._disk.read(
                self._fd, max(self.WINDOW, offset - self._start + length), self._start
            )
            begin = offset - self._start
        return self._data[begin : begin + length]
