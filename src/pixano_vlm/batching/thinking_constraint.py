"""A record's schema that holds from the end of its thoughts on. Knows no schema: that is `constraint`'s."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pixano_vlm.batching.constraint import Constraint
from pixano_vlm.prompts.thinking import Thinking

__all__ = ["ThinkingConstraint"]


class ThinkingConstraint:
    """What a record that thinks may say: anything in its thoughts, then what its schema allows.

    Args:
        constraint: That of the answer.
        thinking: The marks of the thoughts.
        decode: Tokens -> text, special tokens too.
        begin_id: The token that begins thoughts, where it is one; None: they begin in the prompt or not at all.
        is_open: Whether the prompt ended inside of thoughts.
    """

    def __init__(
        self,
        constraint: Constraint,
        thinking: Thinking,
        decode: Callable[[list[int]], str],
        *,
        begin_id: int | None,
        is_open: bool,
    ) -> None:
        self._constraint = constraint
        self._thinking = thinking
        self._decode = decode
        self._first_begin_id = begin_id
        self._is_open = is_open
        self.restart()

    @property
    def is_complete(self) -> bool:
        """Whether the answer has ended."""
        return not self._thinks and self._constraint.is_complete

    @property
    def has_thoughts(self) -> bool:
        """Whether the answer has begun, or was begun, with thoughts."""
        return self._is_open or self._has_begun

    def fresh(self) -> ThinkingConstraint:
        """The same for another sample of the record, at the beginning."""
        return ThinkingConstraint(
            self._constraint.fresh(),
            self._thinking,
            self._decode,
            begin_id=self._first_begin_id,
            is_open=self._is_open,
        )

    def restart(self) -> None:
        """Back to the beginning."""
        self._begin_id = self._first_begin_id
        self._thinks = self._is_open
        self._has_begun = False
        self._tokens: list[int] = []
        self._constraint.restart()

    def restrict(self, scores: Tensor) -> Tensor:
        """Minus infinity for every token that may not come next: none inside of thoughts."""
        if self._thinks:
            return scores
        restricted = self._constraint.restrict(scores)
        if self._may_begin:
            restricted[..., self._begin_id] = scores[..., self._begin_id]
        return restricted

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""
        return self._thinks or (self._may_begin and token == self._begin_id) or self._constraint.allows(token)

    def allowed(self) -> NDArray[np.bool_] | None:
        """The tokens `[vocabulary]` that the schema allows next; None: all."""
        if self._thinks:
            return None
        allowed = self._constraint.allowed()
        if self._may_begin:
            allowed = allowed.copy()  # the schema keeps its own
            allowed[self._begin_id] = True
        return allowed

    def accept(self, token: int, remaining: int) -> int:
        """Takes the chosen token; see `Constraint.accept`."""
        begins = self._may_begin and token == self._begin_id
        if not (self._thinks or begins):
            self._tokens.append(token)
            return self._constraint.accept(token, remaining)
        self._thinks = self._has_begun = True
        self._tokens.append(token)
        # A mark is a few tokens at most, whatever they are cut into.
        tail = self._decode(self._tokens[-len(self._thinking.ends.encode()) - 4 :])
        if self._thinking.ends in tail:
            self._thinks = False
            self._begin_id = None
        return token

    @property
    def _may_begin(self) -> bool:
        return self._begin_id is not None and not self._tokens
