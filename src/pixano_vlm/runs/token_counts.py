"""Counts of tokens over many records: smallest, median, largest, sum. Memory grows with distinct counts only."""

from __future__ import annotations

from collections import Counter

__all__ = ["TokenCounts"]


class TokenCounts:
    """Numbers of tokens, one a record."""

    def __init__(self) -> None:
        self._times: Counter[int] = Counter()

    def __len__(self) -> int:
        return self._times.total()

    def add(self, tokens: int) -> None:
        """Counts one record."""
        self._times[tokens] += 1

    @property
    def total(self) -> int:
        """The sum."""
        return sum(tokens * times for tokens, times in self._times.items())

    @property
    def mean(self) -> float:
        """The mean; 0 without any."""
        return self.total / len(self) if self._times else 0.0

    @property
    def least(self) -> int:
        """The smallest; 0 without any."""
        return min(self._times, default=0)

    @property
    def most(self) -> int:
        """The largest; 0 without any."""
        return max(self._times, default=0)

    @property
    def median(self) -> int:
        """The middle one, of an even number the lower; 0 without any."""
        half, seen = (len(self) + 1) // 2, 0
        for tokens in sorted(self._times):
            seen += self._times[tokens]
            if seen >= half:
                return tokens
        return 0
