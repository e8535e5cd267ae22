"""How far a run is: a live line on a terminal, plain lines now and then elsewhere, nothing with `--quiet`.

Knows counts and clocks only; who counts is `generate`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

__all__ = ["Progress", "Tally"]

PLAIN_SECONDS = 5.0
"""Seconds between two plain lines."""

BAR_WIDTH = 24
TALLY_WIDTH = 72
"""Columns that a tally takes; the bar has what is left of the terminal."""


@dataclass(slots=True)
class Tally:
    """What is done so far, and the rates since the first record was asked for."""

    total: int | None = None
    ok: int = 0
    failed: int = 0
    tokens: int = 0
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def done(self) -> int:
        """Records answered or failed."""
        return self.ok + self.failed

    def per_second(self, count: int) -> float:
        """`count` over the time since the start."""
        return count / max(self.clock() - self.started, 1e-9)

    def seconds_left(self) -> float | None:
        """At the rate so far; `None` where the total is not known or nothing is done yet."""
        if self.total is None or not self.done:
            return None
        return max(self.total - self.done, 0) / self.per_second(self.done)

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total is not None else ""
        parts = [
            f"{self.done:,}{of} done",
            f"{self.failed:,} failed",
            f"{self.per_second(self.ok):.3g} records/s",
            f"{self.per_second(self.tokens):.3g} tokens/s",
        ]
        left = self.seconds_left()
        if left is not None and self.done != self.total:
            parts.append(f"{_duration(left)} left")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """Shows what a run does and its tally. A context manager: leaving it clears the live line."""

    def __init__(self, total: int | None = None, *, quiet: bool = False, file: TextIO | None = None) -> None:
        self.file = file or sys.stderr
        self.quiet = quiet
        self.tally = Tally(total)
        self._live: _LiveLine | None = None
        self._said = self.tally.clock()

    def __enter__(self) -> Progress:
        if not self.quiet and self.file.isatty():
            self._live = _LiveLine(self.file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Clears the live line, so that something else can be printed."""
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A plain line, put above the live one where there is one."""
        if self.quiet:
            return
        if self._live is not None:
            self._live.print(text)
        else:
            self.file.write(text + "\n")
            self.file.flush()

    def phase(self, text: str, *, is_plain: bool = False) -> None:
        """What is done now, before the first record: the live line reads so.

        Args:
            text: Such as `loading shapes`.
            is_plain: Say it on a line of its own where there is no live one: it takes long.
        """
        if self._live is not None:
            self._live.show(text)
        elif is_plain:
            self.say(f"{text} ...")

    def expect(self, total: int | None) -> None:
        """How many records there are to do."""
        self.tally.total = total

    def begin(self) -> None:
        """The model is ready: rates count from here."""
        self.tally.started = self._said = self.tally.clock()
        if self._live is not None:
            self._live.count(self.tally)

    def add(self, *, ok: bool, tokens: int) -> None:
        """One record is done."""
        tally = self.tally
        tally.ok += ok
        tally.failed += not ok
        tally.tokens += tokens
        if self._live is not None:
            self._live.count(tally)
        elif tally.clock() - self._said >= PLAIN_SECONDS:
            self._said = tally.clock()
            self.say(str(tally))


class _LiveLine:
    """One line at the bottom of a terminal: what is done now, then a bar and the tally. Drawn at once.

    What the process prints meanwhile is put above it.
    """

    def __init__(self, file: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=file)
        self._started = time.monotonic()
        self._text: str | None = None
        self._tally: Tally | None = None
        self._live = Live(
            get_renderable=self._line, console=self._console, transient=True, refresh_per_second=4
        )

    def show(self, text: str) -> None:
        """A phase before the first record."""
        if self._text != text:
            self._text, self._tally, self._started = text, None, time.monotonic()
        # The first words come at once. Afterwards, drawing is left to a thread: a run may answer thousands a second.
        self._live.start(refresh=True) if not self._live.is_started else self._live.refresh()

    def count(self, tally: Tally) -> None:
        """The tally from now on."""
        self._tally = tally
        if not self._live.is_started:
            self._live.start(refresh=True)

    def print(self, text: str) -> None:
        """A line above."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Clears it."""
        if self._tally is not None and self._live.is_started:
            self._live.refresh()
        self._live.stop()

    def _line(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally = self._tally
        if tally is None:
            waited = time.monotonic() - self._started
            return Text(f"{self._text} ... {_duration(waited)}" if waited >= 1 else f"{self._text} ...")
        text = Text(str(tally), no_wrap=True, overflow="ellipsis")
        width = min(BAR_WIDTH, self._console.width - TALLY_WIDTH)
        if width < BAR_WIDTH // 3:
            return text
        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(tally.total, tally.done, width=width, pulse=tally.total is None), text)
        return line
