"""Records that were read ahead and that no worker has: in their order, those of one part of the source together.

Knows neither workers nor models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic

from pixano_vlm.models.deferred import Deferred
from pixano_vlm.models.vlm import Key, VLMInput

__all__ = ["Asked", "Waiting", "part_of"]

Asked = VLMInput | Deferred
"""A request, or where it is."""


def part_of(asked: Asked) -> int | None:
    """The part of the source that a record is to be read from; None: it was read."""
    return asked.part if isinstance(asked, Deferred) else None


class Waiting(Generic[Key]):
    """Queues, one for each part."""

    def __init__(self) -> None:
        self._queues: dict[int | None, deque[tuple[Key, Asked]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def has(self, part: int | None) -> bool:
        """Whether a record of that part waits."""
        return part in self._queues

    def put(self, key: Key, asked: Asked) -> None:
        """Adds one at the end of its part's."""
        self._queues.setdefault(part_of(asked), deque()).append((key, asked))
        self._count += 1

    def put_back(self, items: Iterable[tuple[Key, Asked]]) -> None:
        """Adds some in front, in their order."""
        for key, asked in reversed(list(items)):
            part = part_of(asked)
            # Their part comes first again.
            self._queues = {part: self._queues.pop(part, deque()), **self._queues}
            self._queues[part].appendleft((key, asked))
            self._count += 1

    def peek(self, part: int | None) -> Asked | None:
        """The next of a part."""
        queue = self._queues.get(part)
        return queue[0][1] if queue else None

    def take(self, part: int | None) -> tuple[Key, Asked]:
        """The next of a part, which has one."""
        queue = self._queues[part]
        item = queue.popleft()
        self._count -= 1
        if not queue:
            del self._queues[part]
        return item

    def choose(self, own: int | None, others: Iterable[int | None]) -> int | None:
        """The part to take from: one's own, else one that nobody else has, else any.

        Args:
            own: The part that the last record was of.
            others: Those of the other workers.
        """
        if own in self._queues:
            return own
        taken = set(others)
        return next((part for part in self._queues if part not in taken), next(iter(self._queues)))
