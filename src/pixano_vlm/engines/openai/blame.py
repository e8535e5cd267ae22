"""Whose trouble a refusal is: the record's that was refused, or every record's.

A key that is wrong, a model that is not there, a setting that the server does not know: each record would be refused
in the same words, so the run ends at once and says what to do. An image that offends, a prompt that is too long: that
record is answered with its error and the others continue. A witness decides: a request of the same form that
nothing can be wrong with. Where that is refused and one in the plainest form is not, the form decides: a few in a row
end the run, a single one does not. Knows no connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from pixano_vlm.engines.openai.failure import Failure
from pixano_vlm.errors import RESUME, RunError

__all__ = ["Blame"]

Witness = Callable[[], Awaitable[Failure | None]]
Cause = tuple[str, int | None, str | None]

ROW = 5
"""So many equal refusals in a row, no answer between them, call the witness; twice as many after each acquittal."""
LONG_ROW = 20
"""So many with one status, each in other words, call it too."""
HOPELESS = 50
"""So many with one status and no answer at all end the run, whatever the witness says."""

_ALWAYS_ALL = frozenset({401, 402})
"""Statuses that are about the account and hardly ever about one record."""
_BY_STATUS = frozenset({401, 402, 403, 404, 405})
"""Statuses whose words may name the request, so that the status alone is compared."""


class Blame:
    """Judges the refusals of one server."""

    def __init__(self) -> None:
        self.has_answered = False
        """Whether any record was answered so far."""
        self._row: Counter[Cause] = Counter()
        self._total: Counter[Cause] = Counter()
        self._acquitted: dict[Cause, int] = {}
        """How many more in a row it takes to call the witness again."""
        self._judging = asyncio.Lock()

    def answered(self) -> None:
        """A record was answered: what was refused before was not everybody's trouble."""
        self.has_answered = True
        self._row.clear()

    def refused_for_now(self, failure: Failure) -> None:
        """A record has no time for the wait that the server asks for.

        Raises:
            RunError: When that is so of several in a row.
        """
        self._row[_status_of(failure)] += 1
        if self._row[_status_of(failure)] >= ROW:
            raise RunError(f"{failure.message}.", hint=f"Wait a while. {RESUME}")

    async def judge(self, failure: Failure, witness: Witness, plainest: Witness | None = None) -> None:
        """Returns where the refusal is the record's own.

        Args:
            failure: The refusal, or the last of the failures that used up a record's attempts.
            witness: Asks a plain request of the form of the one that was refused; gives its failure, or None.
            plainest: Asks one in the plainest form; None where `witness` does.

        Raises:
            RunError: When every record would be refused like it.
        """
        causes = (failure.likeness, _status_of(failure))
        for cause in causes:
            self._row[cause] += 1
            self._total[cause] += 1
        if not self._is_due(failure):
            return
        async with self._judging:
            if not self._is_due(failure):
                return  # another's verdict has come meanwhile
            if self._is_like(failure, await witness()):
                may_be_form = failure.kind == "refused" and (self.has_answered or self._is_short(failure))
                if not may_be_form or plainest is None or await plainest() is not None:
                    raise self._end(failure, "a plain request is refused alike")
                if not self.has_answered:
                    return
            count = self._total[_status_of(failure)]
            if not self.has_answered and count >= HOPELESS:
                raise self._end(failure, f"all of the first {count} records are refused alike")
            for cause in causes:
                self._acquitted[cause] = min(2 * self._acquitted.get(cause, ROW), HOPELESS)
                self._row[cause] = 0

    def _is_due(self, failure: Failure) -> bool:
        """Whether the witness is to be called."""
        status = _status_of(failure)
        if self._row[status] >= max(LONG_ROW, self._acquitted.get(status, 0)):
            return True
        return self._row[failure.likeness] >= self._limit(failure)

    def _limit(self, failure: Failure) -> int:
        if failure.status in _ALWAYS_ALL:
            return 1
        is_first = not self.has_answered and _status_of(failure) not in self._acquitted
        if failure.kind == "refused" and is_first:
            return 1
        return self._acquitted.get(failure.likeness, ROW)

    def _is_short(self, failure: Failure) -> bool:
        """Whether so few were refused in a row that it may be the form of these, and not every record's."""
        return self._row[failure.likeness] < ROW

    def _is_like(self, failure: Failure, other: Failure | None) -> bool:
        if other is None:
            return False
        is_long = self._row[_status_of(failure)] >= LONG_ROW
        if is_long or (failure.kind == "refused" and failure.status in _BY_STATUS):
            return _status_of(other) == _status_of(failure)
        return other.likeness == failure.likeness

    @staticmethod
    def _end(failure: Failure, why: str) -> RunError:
        return RunError(f"{failure.message}; {why}.", hint=failure.run_hint or failure.hint)


def _status_of(failure: Failure) -> Cause:
    return failure.kind, failure.status, None
