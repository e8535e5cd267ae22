"""A pseudo-terminal, and what a person would see on it."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TextIO

_TOKEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+")


@dataclass
class Screen:
    """What was written to a terminal, replayed line by line."""

    data: bytes = b""
    states: list[str] = field(default_factory=list)
    """Every text that the line of the cursor had when it was cleared or left."""

    @property
    def lines(self) -> list[str]:
        """What stands there at the end."""
        lines, column = [""], 0
        self.states = []
        for token in _TOKEN.findall(self.data.decode(errors="replace")):
            if token == "\r":
                column = 0
            elif token == "\n":
                self.states.append(lines[-1])
                lines.append("")
                column = 0
            elif token == "\x1b[2K":
                self.states.append(lines[-1])
                lines[-1] = ""
            elif token == "\x1b[1A":
                lines.pop()
            elif not token.startswith("\x1b"):
                lines[-1] = lines[-1][:column].ljust(column) + token + lines[-1][column + len(token) :]
                column += len(token)
        return lines


@contextmanager
def terminal() -> Iterator[tuple[Screen, TextIO]]:
    """A screen, and the text file that writes on it."""
    reading, writing = pty.openpty()
    screen = Screen()

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while piece := os.read(reading, 65_536):
                screen.data += piece

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(writing, "w", encoding="utf-8") as file:
            yield screen, file
    finally:
        reader.join(10)
        os.close(reading)


class Process:
    """A command on a terminal of its own, in and out."""

    def __init__(self, *args: str, **environment: str) -> None:
        self.screen = Screen()
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.environ.update({"TERM": "xterm", "COLUMNS": "120", **environment})
            os.execv(sys.executable, [sys.executable, "-m", "pixano_vlm", *args])  # never returns

    def wait_for(self, text: str, seconds: float = 60) -> bool:
        """Whether the text is written before the process ends or that time has passed."""
        while text.encode() not in self.screen.data:
            ready, _, _ = select.select([self._fd], [], [], seconds)
            if not ready or not self._read():
                return False
        return True

    def finish(self) -> int:
        """Waits for its end; the exit code."""
        while self._read():
            pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def type(self, text: str) -> None:
        """What a person types."""
        os.write(self._fd, text.encode())

    def _read(self) -> bool:
        try:
            piece = os.read(self._fd, 65_536)
        except OSError:  # how a terminal says that nobody writes any more
            return False
        self.screen.data += piece
        return bool(piece)
