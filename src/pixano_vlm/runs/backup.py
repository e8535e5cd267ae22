"""`<output>.replaced.jsonl`: lines of answers that hold no longer, kept until each has a new answer.

A run that is resumed writes them before it asks anything. When the run is complete, and each of their records has an
answer again, the file goes; otherwise it stays, so that nothing is ever lost.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.outputs.disk import Disk, read_lines
from pixano_vlm.outputs.jsonl import new_path

__all__ = ["Backup", "backup_path"]

_PIECE = 1 << 20


def backup_path(output: Path) -> Path:
    """Where the replaced lines of an output are."""
    return output.with_name(output.name + ".replaced.jsonl")


class Backup:
    """The replaced lines of one output.

    Args:
        output: The output.
        disk: The file system.
    """

    def __init__(self, output: Path, disk: Disk) -> None:
        self.path = backup_path(output)
        self._output, self._disk = output, disk
        self._fd: int | None = None
        self._end = 0
        self._pieces: list[bytes] = []
        self._held = 0

    def add(self, line: bytes) -> None:
        """Takes one line, which counts once `keep` was called.

        Raises:
            OSError: When it cannot be written.
        """
        self._pieces.append(line)
        self._held += len(line)
        if self._held >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        if self._fd is None:
            self._fd = self._disk.open(new_path(self.path), create=True, truncate=True)
            if self._disk.exists(self.path):  # of an earlier run that was interrupted
                self._copy_earlier(self._fd)
        data = b"".join(self._pieces)
        self._disk.write(self._fd, data, self._end)
        self._end += len(data)
        self._held = 0
        self._pieces.clear()

    def _copy_earlier(self, fd: int) -> None:
        earlier = self._disk.open(self.path)
        try:
            while data := self._disk.read(earlier, _PIECE, self._end):
                self._disk.write(fd, data, self._end)
                self._end += len(data)
        finally:
            self._disk.close(earlier)

    def keep(self) -> None:
        """Makes what was added durable.

        Raises:
            OSError: When it cannot be written.
        """
        if self._pieces:
            self._flush()
        if self._fd is not None:
            self._disk.sync(self._fd)
            self._disk.close(self._fd)
            self._fd = None
            self._disk.rename(new_path(self.path), self.path)
            self._disk.sync_folder(self.path.parent)

    def discard(self) -> None:
        """Forgets what was added and not kept."""
        self._pieces.clear()
        if self._fd is not None:
            with contextlib.suppress(OSError):
                self._disk.close(self._fd)
                self._disk.unlink(new_path(self.path))
            self._fd = None

    def settle(self, *, is_waited_for: bool) -> bool:
        """Removes the file once each of its records has a new answer; whether it stays.

        Args:
            is_waited_for: Whether records are still to be asked again.

        Raises:
            OSError: When a file cannot be read.
        """
        if not self._disk.exists(self.path):
            return False
        if is_waited_for:
            return True
        with closing(HashTable()) as answered:
            for line in self._lines(self._output):
                if line.get("status") == "ok":
                    answered.add(_hash(line.get("id")))
            # A line that nobody can read is somebody's, too.
            stays = any(
                "id" not in line or answered.add(_hash(line["id"])) for line in self._lines(self.path)
            )
        if not stays:
            self._disk.unlink(self.path)
        return stays

    def _lines(self, path: Path) -> Iterator[dict[str, object]]:
        fd = self._disk.open(path)
        try:
            for _, line in read_lines(self._disk, fd):
                if line.endswith(b"\n"):
                    yield _values(line)
        finally:
            self._disk.close(fd)


def _values(line: bytes) -> dict[str, object]:
    """What a line says; nothing where it is damaged."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _hash(id: object) -> int:
    return (
        int.from_bytes(blake2b(str(id).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        or 1
    )
