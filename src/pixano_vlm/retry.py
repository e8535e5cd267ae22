"""When something is tried again: how often, how long apart, and what a server says about it.

Sleeps nowhere: each caller waits in its own way, within its own deadline.
"""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["RetryPolicy", "retry_after"]

_MAX_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often something is tried, and how long apart."""

    attempts: int
    """Most attempts, the first included."""
    first_wait: float = 0.5
    """Seconds before the second attempt; each further wait is twice as long."""
    max_wait: float = 60.0
    """Seconds that a wait grows to."""
    jitter: float = 0.25
    """Share by which a wait is longer or shorter, so that what failed together does not come back together."""

    def is_spent(self, failed: int) -> bool:
        """Whether so many failed attempts are all there may be."""
        return failed >= self.attempts

    def wait(self, failed: int, asked: float | None = None) -> float:
        """Seconds to wait before the next attempt.

        Args:
            failed: Attempts so far, from 1.
            asked: What the server asks for, which is heeded to the second. No time at all is not: a server that
                says so, or names a date that is past by this clock, would be asked again in a moment.
        """
        if asked:
            return asked
        longest = self.first_wait * 2.0 ** min(failed - 1, _MAX_DOUBLINGS)
        return min(self.max_wait, longest) * random.uniform(1 - self.jitter, 1 + self.jitter)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response's headers ask to wait; None: they do not say.

    `Retry-After` is a number or a date (RFC 9110, 10.2.3); `retry-after-ms`, which some servers of OpenAI's form send
    beside it, is more exact.

    Args:
        headers: With names that are found in lower case.
    """
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return exact / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
