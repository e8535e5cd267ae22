"""Time, as one object that a test can replace: what the time is, and what is done later.

Knows nothing of what waits. What runs on an event loop takes the time from that loop instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["CLOCK", "Alarm", "Clock"]


class Alarm(Protocol):
    """Something that is to be done later."""

    def cancel(self) -> None:
        """Sees that it is not done, if it has not begun."""


class Clock:
    """The operating system's clock."""

    def now(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def later(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Calls `call` after so many seconds, in a thread of its own."""
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()
        return timer


CLOCK = Clock()
