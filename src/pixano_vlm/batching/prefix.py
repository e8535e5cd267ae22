"""Shared prefixes computed once: keys and values of prompt beginnings, within a budget of bytes.

Two prompts that begin with the same tokens, image content included, have the same keys and values there in a
causal model. Knows no model: states come from and go to `SlotCache`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

States = list[tuple[Tensor, Tensor] | None]

SHORTEST = 16
"""Fewest tokens worth sharing: below this, copying costs about what computing does."""

MOST_ENTRIES = 256
"""Most prefixes kept, since each look-up compares with all of them."""


def shared_length(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    """How many leading ids two prompts have in common."""
    size = min(len(first), len(second))
    differ = np.flatnonzero(first[:size] != second[:size])
    return int(differ[0]) if len(differ) else size


@dataclass(slots=True, eq=False)
class _Entry:
    ids: NDArray[np.int64]
    states: States
    nbytes: int


class PrefixStore:
    """Keys and values of prompt beginnings, the least recently used thrown out first.

    Args:
        budget: Bytes to keep; 0 keeps none.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._entries: list[_Entry] = []  # least recently used first
        self.nbytes = 0
        self.reused_tokens = 0

    @property
    def is_on(self) -> bool:
        """Whether there is a budget at all."""
        return self._budget > 0

    def find(self, ids: NDArray[np.int64]) -> tuple[int, States | None]:
        """The longest kept beginning of a prompt: its length, and its states (None below `SHORTEST`).

        At least the prompt's last token is left to compute, since its logits are wanted.
        """
        best, entry = 0, None
        for candidate in self._entries:
            length = min(shared_length(candidate.ids, ids), len(ids) - 1)
            if length > best:
                best, entry = length, candidate
        if entry is None or best < SHORTEST:
            return 0, None
        self._entries.remove(entry)
        self._entries.append(entry)
        return best, entry.states

    def kept_length(self, ids: NDArray[np.int64]) -> int:
        """How many leading tokens of a prompt are kept already; nothing counts as used by asking."""
        return max((shared_length(entry.ids, ids) for entry in self._entries), default=0)

    def longest_shared(self, ids: NDArray[np.int64], others: Iterable[NDArray[np.int64]]) -> int:
        """The longest beginning of `ids` that another prompt has too, and that is not kept yet; else 0."""
        wanted = max((shared_length(ids, other) for other in others), default=0)
        if wanted < SHORTEST:
            return 0
        return wanted if wanted > self.kept_length(ids) else 0

    def keep(self, ids: NDArray[np.int64], states: States) -> None:
        """Keeps the states of a prompt beginning."""
        nbytes = sum(t.numel() * t.element_size() for state in states if state is not None for t in state)
        if nbytes > self._budget:
            return
        # An entry that is a beginning of the new one has nothing to add.
        for entry in [e for e in self._entries if shared_length(e.ids, ids) == len(e.ids)]:
            self._drop(entry)
        self._entries.append(_Entry(ids, states, nbytes))
        self.nbytes += nbytes
        while self.nbytes > self._budget or len(self._entries) > MOST_ENTRIES:
            self._drop(self._entries[0])

    def clear(self) -> None:
        """Forgets all."""
        self._entries.clear()
        self.nbytes = 0

    def _drop(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self.nbytes -= entry.nbytes


def without_followers(ids: Sequence[NDArray[np.int64] | None], kept: Sequence[int]) -> list[int]:
    """Which prompts to prefill first: those that would not gain from an earlier one of the same list.

    Args:
        ids: Prompts; None for one that cannot share.
        kept: For each, how many leading tokens the store has already.

    Returns:
        Indices, in order. The others come after, when the first ones' prefixes are kept.
    """
    leaders: list[int] = []
    for index, prompt in enumerate(ids):
        if prompt is None or not any(
            (other := ids[leader]) is not None and shared_length(other, prompt) >= kept[index] + SHORTEST
            for leader in leaders
        ):
            leaders.append(index)
    return leaders
