"""How many requests may be under way: fewer after a server says that it is too many, more after a run of answers.

Also lets one request through alone, to find out whether it is the one that a server fails over. Knows no request
and no server. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["Gate", "Pass"]


@dataclass(slots=True, eq=False)
class Pass:
    """One request that is under way."""

    began: float
    """By the event loop's clock."""
    in_company: bool = False
    """Whether another was under way at any moment of it."""


class Gate:
    """Lets requests through, at most `limit` at a time.

    Args:
        most: The most that `limit` may grow to; it starts there.
    """

    def __init__(self, most: int) -> None:
        self.limit = most
        self._most = most
        self._under_way: set[Pass] = set()
        self._changed = asyncio.Condition()
        self._waiting_alone = 0
        self._is_alone = False
        self._answered = 0
        self._lowered = 0.0

    @asynccontextmanager
    async def enter(self, *, alone: bool = False) -> AsyncIterator[Pass]:
        """Waits for its turn.

        Args:
            alone: Wait until nothing is under way, and let nothing else through meanwhile.
        """
        await self._wait(alone)
        ticket = Pass(asyncio.get_running_loop().time())
        for other in self._under_way:
            other.in_company = ticket.in_company = True
        self._under_way.add(ticket)
        self._is_alone = alone
        try:
            yield ticket
        finally:
            self._under_way.discard(ticket)
            if alone:
                self._is_alone = False
            async with self._changed:
                self._changed.notify_all()

    async def _wait(self, alone: bool) -> None:
        async with self._changed:
            if not alone:
                await self._changed.wait_for(self._has_room)
                return
            self._waiting_alone += 1
            try:
                await self._changed.wait_for(lambda: not self._under_way)
            finally:
                self._waiting_alone -= 1
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return not (self._is_alone or self._waiting_alone) and len(self._under_way) < self.limit

    def answered(self) -> None:
        """One was answered: after as many as may be under way, one more may be."""
        self._answered += 1
        if self._answered >= self.limit and self.limit < self._most:
            self.limit += 1
            self._answered = 0

    def too_many(self, ticket: Pass) -> None:
        """The server refused one because too many were under way: from now on, half as many are.

        Of several that were under way together only the first counts.
        """
        if ticket.began >= self._lowered:
            self.limit = max(1, self.limit // 2)
            self._lowered = asyncio.get_running_loop().time()
        self._answered = 0
