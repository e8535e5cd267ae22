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
            f"{self.per_second(self.done):.3g} records/s",
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
    """Shows a tally while a run goes on. A context manager: leaving it clears the live line."""

    def __init__(self, total: int | None = None, *, quiet: bool = False, file: TextIO | None = None) -> None:
        self.file = file or sys.stderr
        self.quiet = quiet
        self.tally = Tally(total)
        self._live: Any = None
        self._task: Any = None
        self._said = self.tally.clock()

    def __enter__(self) -> Progress:
        if not self.quiet and self.file.isatty():
            self._live = _live_line(self.file)
            self._task = self._live.add_task("", total=self.tally.total)
            self._live.start()
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
            self._live.console.print(text, markup=False, highlight=False)
        else:
            self.file.write(text + "\n")
            self.file.flush()

    def expect(self, total: int | None) -> None:
        """How many records there are to do."""
        self.tally.total = total
        if self._live is not None:
            self._live.update(self._task, total=total)

    def begin(self) -> None:
        """The model is ready: rates count from here."""
        self.tally.started = self._said = self.tally.clock()

    def add(self, *, ok: bool, tokens: int) -> None:
        """One record is done."""
        tally = self.tally
        tally.ok += ok
        tally.failed += not ok
        tally.tokens += tokens
        if self._live is not None:
            self._live.update(self._task, completed=tally.done, description=str(tally))
        elif tally.clock() - self._said >= PLAIN_SECONDS:
            self._said = tally.clock()
            self.say(str(tally))


def _live_line(file: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        BarColumn(bar_width=24),
        TextColumn("{task.description}", markup=False),
        console=Console(file=file),
        transient=True,
        refresh_per_second=4,
    )
