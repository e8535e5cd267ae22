"""Time that passes only when something waits for it: a clock, and an event loop that goes by it.

Whatever is due is done in the one thread there is, in the order of its times, so that a history from the same seed is
the same history.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

from pixano_vlm.clock import Clock

__all__ = ["Stuck", "Violation", "VirtualClock", "VirtualLoop"]


class Violation(Exception):
    """Something that must never happen has happened."""


class Stuck(Violation):
    """Everything waits, and nothing will ever come."""


class Entry:
    """Something that is to be done at some moment."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class VirtualClock(Clock):
    """The time of one history, which its processes share."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._due: list[tuple[float, int, Entry]] = []
        self._count = 0

    def now(self) -> float:
        return self.time

    def later(self, seconds: float, call: Callable[[], None]) -> Entry:
        entry = Entry(call)
        self._count += 1
        heapq.heappush(self._due, (self.time + seconds, self._count, entry))
        return entry

    def advance(self, seconds: float) -> None:
        """Lets so much time pass; what is due meanwhile is done at its moment."""
        until = self.time + max(0.0, seconds)
        while self._due and self._due[0][0] <= until:
            when, _, entry = heapq.heappop(self._due)
            self.time = max(self.time, when)
            if entry.call is not None:
                entry.call()
        self.time = until

    def forget(self) -> None:
        """The process is gone, and what it was going to do."""
        self._due.clear()


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop by the virtual clock; where others would wait for a socket, time passes."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self._selector = self
        self.set_exception_handler(lambda *_: None)  # of tasks that a killed process leaves

    def time(self) -> float:
        return self._clock.now()

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            raise Stuck("the event loop waits for ever")
        self._clock.advance(timeout)
        return ()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: Any) -> None: ...

    def _write_to_self(self) -> None: ...
