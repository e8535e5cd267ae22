"""Who goes next: plain Python over lengths and arrivals. Knows no tensor.

Records that share images go together, so that an image is encoded and its prefix computed while it is at hand;
those that may generate longest go first, so that the tail of a run is short; nobody is overtaken for ever.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

from pixano_vlm.batching.kv_cache import SLACK
from pixano_vlm.batching.sequence import Sequence

PATIENCE = 512
"""A record that this many later ones have overtaken goes first."""

SAMPLE_ROWS = 4
"""So many samples of records with several count as one record: their prompts cost nothing, and a step of many rows
costs less per token."""

FILL_SHARE = 8
"""Rows are filled when this part of them is empty: 8 is an eighth."""


class Span(NamedTuple):
    """How far the rows of some records reach: all end at one column, so the longest and the last to end decide."""

    longest: int = 0
    """Tokens of the longest row so far."""
    steps: int = 0
    """Tokens that any may still generate."""

    @classmethod
    def of(cls, sequences: Iterable[Sequence]) -> Span:
        """Of these records together."""
        return functools.reduce(cls.with_one, sequences, cls())

    def with_one(self, sequence: Sequence) -> Span:
        """With another record."""
        return Span(max(self.longest, sequence.length), max(self.steps, sequence.remaining))

    @property
    def columns(self) -> int:
        """Columns that the cache keeps for each row."""
        return self.longest + self.steps + SLACK


def _weight(sequences: Iterable[Sequence]) -> float:
    """As how many records some rows count."""
    return sum(1 if sequence.copy is None else 1 / SAMPLE_ROWS for sequence in sequences)


class Scheduler:
    """The records that wait, and those in flight in the order of their rows.

    Args:
        max_rows: Most records in flight; a sample of several counts as a part of one.
        max_tokens: Most tokens, prompts and room for answers, in flight; one record may exceed it alone.
    """

    def __init__(self, max_rows: int, max_tokens: int) -> None:
        self.max_rows = max_rows
        self._most_rows = max_rows
        self.max_tokens = max_tokens
        self.waiting: list[Sequence] = []
        self.active: list[Sequence] = []
        self._admitted = 0
        self._grow_at = 0

    @property
    def free_rows(self) -> int:
        """Records that may begin now."""
        return max(0, self.max_rows - math.ceil(_weight(self.active)))

    def add(self, sequence: Sequence) -> None:
        """Queues a record."""
        self.waiting.append(sequence)

    def admit(self) -> list[Sequence]:
        """Takes from the queue what fits beside the records in flight, at least one when there are none.

        Rows are filled several at a time: one prefill of eight short prompts costs little more than of one.
        """
        worthwhile = max(1, self.max_rows // FILL_SHARE)
        if self.free_rows < min(worthwhile, len(self.waiting)) or not self.waiting:
            return []
        admitted: list[Sequence] = []
        span, weight = Span.of(self.active), _weight(self.active)
        for sequence in self._by_priority():
            rows = len(self.active) + len(admitted) + 1
            wider = span.with_one(sequence)
            weight += _weight([sequence])
            if weight > self.max_rows or (rows > 1 and rows * wider.columns > self.max_tokens):
                break
            admitted.append(sequence)
            span = wider
        taken = set(map(id, admitted))
        self.waiting = [sequence for sequence in self.waiting if id(sequence) not in taken]
        self._admitted += len(admitted)
        if self._admitted >= self._grow_at:
            self.max_rows = min(self._most_rows, 2 * self.max_rows)
            self._grow_at = self._admitted + PATIENCE
        return admitted

    def row_limit(self, sequences: list[Sequence]) -> int:
        """Most rows that may be held for records as long as these."""
        has_samples = any(sequence.copy is not None for sequence in sequences)
        most = self.max_rows * (SAMPLE_ROWS if has_samples else 1)
        return max(1, min(most, self.max_tokens // Span.of(sequences).columns))

    def put_back(self, sequences: Iterable[Sequence]) -> None:
        """Queues admitted records again, to begin again."""
        for sequence in sequences:
            sequence.restart()
            self.waiting.append(sequence)

    def shrink(self) -> None:
        """Half as many rows for a while: memory ran out with as many as there are."""
        self.max_rows = max(1, math.ceil(_weight(self.active)) // 2)
        self._grow_at = self._admitted + PATIENCE

    def _by_priority(self) -> list[Sequence]:
        groups: dict[object, list[Sequence]] = {}
        for sequence in self.waiting:
            images = tuple(image.digest for image in sequence.prompt.images)
            groups.setdefault(images or sequence.arrival, []).append(sequence)

        def rank(group: list[Sequence]) -> tuple[bool, int, int]:
            first = min(sequence.arrival for sequence in group)
            patient = self._admitted - first < PATIENCE
            return patient, -max(s.max_new_tokens for s in group) if patient else 0, first

        ordered: list[Sequence] = []
        for group in sorted(groups.values(), key=rank):
            ordered.extend(sorted(group, key=lambda s: (-s.max_new_tokens, s.arrival)))
        return ordered
