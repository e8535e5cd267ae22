"""The records of one stream, shared out among workers: who has which, and what of a lost worker is asked again.

Plain Python: knows neither Ray nor models.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic

from pixano_vlm.engines.ray.waiting import Asked, Waiting, part_of
from pixano_vlm.models.vlm import Key, VLMInput
from pixano_vlm.prompts.messages import image_sources

__all__ = ["AHEAD", "Share", "Shares"]

AHEAD = 64
"""Records that lie ready at a worker beside those that its model has taken."""
FAR_AHEAD = 32
"""So many times as far the source is read for a worker whose own part has nothing left there."""
SUSPECT_AFTER = 2
"""A record that was with so many workers when they were lost is given to one that has nothing else."""


@dataclass(slots=True, eq=False)
class Share(Generic[Key]):
    """What one worker has."""

    held: dict[Key, Asked] = field(default_factory=dict)
    """All that it has not answered, sent or not."""
    unsent: list[tuple[Key, Asked]] = field(default_factory=list)
    part: int | None = None
    """The part of the source that it had a record of last."""
    waiting: int = 0
    """How many of those sent its model had not taken when it was last heard of."""

    def take_unsent(self) -> list[tuple[Key, Asked]]:
        """What is to be sent now."""
        unsent, self.unsent = self.unsent, []
        return unsent


class Shares(Generic[Key]):
    """The records of one stream.

    Args:
        source: Read a bounded way ahead.
        workers: Among how many it is shared out.
    """

    def __init__(self, source: Iterator[tuple[Key, Asked]], workers: int) -> None:
        self._source: Iterator[tuple[Key, Asked]] | None = source
        self._workers = workers
        self._read: Waiting[Key] = Waiting()
        self._given: list[Share[Key]] = []
        """Those that have been given something."""
        self._alone: deque[tuple[Key, Asked]] = deque()
        self._emptying: Share[Key] | None = None
        """That of the worker which gets nothing until it can take a suspect alone."""
        self._losses: Counter[Key] = Counter()
        self._open = 0  # read and not answered

    def is_done(self) -> bool:
        """Whether every record is answered."""
        self._read_ahead(None)
        return not self._open

    def is_suspect(self, key: Key) -> bool:
        """Whether the record is one that is given to a worker alone."""
        return self._losses[key] >= SUSPECT_AFTER

    def losses(self, key: Key) -> int:
        """How many workers were lost with this record."""
        return self._losses[key]

    def fill(self, share: Share[Key]) -> bool:
        """Gives a worker what it is to have now.

        Returns:
            Whether there will be more for it as soon as it asks again.
        """
        while share.waiting + len(share.unsent) < AHEAD:
            self._read_ahead(share.part)
            if self._losses and (any(map(self.is_suspect, share.held)) or self._takes_suspect(share)):
                return False
            if self._source is None and len(share.held) >= -(-self._open // self._workers):
                return False  # the rest is for the others
            if not len(self._read):
                return False
            self._give_group(share)
        return self._source is not None or len(self._read) > 0

    def answered(self, share: Share[Key], key: Key) -> bool:
        """A worker has answered a record, or it is not to be asked again.

        Returns:
            Whether it had the record: an answer to one that it has no more is a second one, and the first counts.
        """
        if share.held.pop(key, None) is None:
            return False
        self._losses.pop(key, None)
        self._open -= 1
        return True

    def lost(self, share: Share[Key]) -> None:
        """A worker is gone: what it had is given to others."""
        self._losses.update(share.held.keys())
        self._alone.extendleft(item for item in share.held.items() if self.is_suspect(item[0]))
        self._read.put_back(item for item in share.held.items() if not self.is_suspect(item[0]))
        self._given = [other for other in self._given if other is not share]
        if self._emptying is share:
            self._emptying = None

    def _takes_suspect(self, share: Share[Key]) -> bool:
        """Gives a suspect to a worker that has nothing; where none has nothing, one gets nothing more."""
        if self._alone and not share.held:
            self._give(share, *self._alone.popleft())
            if self._emptying is share:
                self._emptying = None
            return True
        if self._alone and self._emptying is None:
            self._emptying = share
        return self._emptying is share

    def _read_ahead(self, part: int | None) -> None:
        # So far that a short rest, known to be the rest, can be shared evenly.
        far = self._workers * AHEAD
        if part is not None and not self._read.has(part):
            far *= FAR_AHEAD
        while self._source is not None and len(self._read) < far:
            item = next(self._source, None)
            if item is None:
                self._source = None
                return
            self._read.put(*item)
            self._open += 1
            if len(self._read) >= self._workers * AHEAD and part_of(item[1]) == part:
                return

    def _give_group(self, share: Share[Key]) -> None:
        """The next record, and those after it with the same image: one worker then encodes it once."""
        part = self._read.choose(share.part, (other.part for other in self._given if other is not share))
        if all(other is not share for other in self._given):
            self._given.append(share)
        key, input = self._read.take(part)
        share.part = part
        self._give(share, key, input)
        picture = _first_picture(input)
        if picture is None:
            return
        for _ in range(AHEAD):
            following = self._read.peek(part)
            if following is None or _first_picture(following) != picture:
                return
            self._give(share, *self._read.take(part))

    def _give(self, share: Share[Key], key: Key, input: Asked) -> None:
        share.held[key] = input
        share.unsent.append((key, input))


def _first_picture(input: Asked) -> Any:
    if not isinstance(input, VLMInput):
        return None
    if input.images:
        return input.images[0]
    sources = [] if isinstance(input.prompt, str) else image_sources(input.prompt)
    return sources[0] if sources else None
