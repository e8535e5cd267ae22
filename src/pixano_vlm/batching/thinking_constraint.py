"""What a record that thinks may say: its thoughts, ended at their budget, then what its schema allows.

Knows no schema: that is `constraint`'s.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pixano_vlm.batching.constraint import Constraint
from pixano_vlm.prompts.thinking import Thinking

__all__ = ["ThinkingConstraint"]


class ThinkingConstraint:
    """What a record that thinks may say: anything in its thoughts, up to their budget, then what its schema allows.

    Args:
        constraint: That of the answer; None: anything.
        thinking: The marks of the thoughts.
        decode: Tokens -> text, special tokens too.
        begin_id: The token that begins thoughts, where it is one; None: they begin in the prompt, or, where there is
            no schema, with the text of the mark.
        is_open: Whether the prompt ended inside of thoughts.
        closing: The tokens that end thoughts: those of the mark, and of what the template writes between it and an
            answer.
        budget: Most tokens of thoughts, the marks around them not counted; None: they are as long as the model makes
            them.
    """

    def __init__(
        self,
        constraint: Constraint | None,
        thinking: Thinking,
        decode: Callable[[list[int]], str],
        *,
        begin_id: int | None,
        is_open: bool,
        closing: tuple[int, ...],
        budget: int | None = None,
    ) -> None:
        self._constraint = constraint
        self._thinking = thinking
        self._decode = decode
        self._begin_id = begin_id
        self._is_open = is_open
        self._closing = closing
        self._budget = budget
        self.restart()

    @property
    def is_complete(self) -> bool:
        """Whether the answer has ended."""
        return not self._thinks and self._constraint is not None and self._constraint.is_complete

    @property
    def has_thoughts(self) -> bool:
        """Whether the answer has begun, or was begun, with thoughts; without a schema, whether it may have."""
        return self._is_open or self._has_begun or self._constraint is None

    def fresh(self) -> ThinkingConstraint:
        """The same for another sample of the record, at the beginning."""
        return ThinkingConstraint(
            None if self._constraint is None else self._constraint.fresh(),
            self._thinking,
            self._decode,
            begin_id=self._begin_id,
            is_open=self._is_open,
            closing=self._closing,
            budget=self._budget,
        )

    def restart(self) -> None:
        """Back to the beginning."""
        self._thinks = self._is_open
        self._may_begin = not self._is_open and (self._constraint is None or self._begin_id is not None)
        self._has_begun = False
        self._tokens: list[int] = []
        self._first = 0  # the place of the first thought
        self._to_force: list[int] = []
        self.forced = 0
        """Tokens up to the last one that was forced; 0: none was."""
        if self._constraint is not None:
            self._constraint.restart()

    def restrict(self, scores: Tensor) -> Tensor:
        """Minus infinity for every token that may not come next: none inside of thoughts."""
        if self._thinks or self._constraint is None:
            return scores
        restricted = self._constraint.restrict(scores)
        if self._may_begin:
            restricted[..., self._begin_id] = scores[..., self._begin_id]
        return restricted

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""
        if self._thinks or self._constraint is None:
            return True
        return (self._may_begin and token == self._begin_id) or self._constraint.allows(token)

    def allowed(self) -> NDArray[np.bool_] | None:
        """The tokens `[vocabulary]` that the schema allows next; None: all."""
        if self._thinks or self._constraint is None:
            return None
        allowed = self._constraint.allowed()
        if self._may_begin:
            allowed = allowed.copy()  # the schema keeps its own
            allowed[self._begin_id] = True
        return allowed

    def accept(self, token: int, remaining: int) -> int:
        """Takes the chosen token, or puts one that ends the thoughts in its place; see `Constraint.accept`."""
        if self._thinks and not self._to_force and (self._is_spent or self._would_end(token)):
            self._to_force = self._closing_left()
        if self._to_force:
            return self._force()
        if self._thinks:
            self._tokens.append(token)
            # A mark is a few tokens at most, whatever they are cut into.
            tail = self._decode(self._tokens[-len(self._thinking.ends.encode()) - 4 :])
            self._thinks = self._thinking.ends not in tail
            return token
        if self._may_begin:
            self._look_for_begin(token)
        self._tokens.append(token)
        if self._thinks or self._constraint is None:
            return token
        return self._constraint.accept(token, remaining)

    @property
    def _is_spent(self) -> bool:
        return self._budget is not None and len(self._tokens) - self._first >= self._budget

    def _would_end(self, token: int) -> bool:
        """Whether a token would end the turn inside of thoughts, and leave a schema without its answer."""
        return self._constraint is not None and token in self._constraint.end_ids

    def _closing_left(self) -> list[int]:
        """The tokens that end the thoughts, without those that the model itself has written last."""
        closing, thoughts = list(self._closing), self._tokens[self._first :]
        for written in range(min(len(closing) - 1, len(thoughts)), 0, -1):
            if thoughts[-written:] == closing[:written]:
                return closing[written:]
        return closing

    def _force(self) -> int:
        token = self._to_force.pop(0)
        self._tokens.append(token)
        self.forced = len(self._tokens)
        self._thinks = bool(self._to_force)
        return token

    def _look_for_begin(self, token: int) -> None:
        """Finds out whether thoughts begin with a token, or may begin with the next ones."""
        if self._constraint is not None:
            begins, self._may_begin = token == self._begin_id, False
        else:
            text = self._decode([*self._tokens, token]).lstrip()
            begins = text.startswith(self._thinking.begins)
            self._may_begin = not begins and self._thinking.begins.startswith(text)
        if begins:
            self._thinks = self._has_begun = True
            self._first = len(self._tokens) + 1
