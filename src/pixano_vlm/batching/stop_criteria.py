"""When a record ends: at an end token, before a stop string, or at its length. Knows no model and no cache."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from collections.abc import Sequence as Tokens
from contextlib import contextmanager

from pixano_vlm.batching.answer_decoder import AnswerDecoder
from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.batching.thinking_constraint import ThinkingConstraint
from pixano_vlm.prompts.thinking import Thinking

__all__ = ["StopCriteria"]


class StopCriteria:
    """When records end, and what they say then.

    Args:
        end_ids: The model's end tokens.
        decoder: Decodes tokens, for answers and to look for stop strings.
        stop_strings: Those of the checkpoint, which hold for every record beside its own.
        thinking: The marks of thoughts that come before an answer.
    """

    def __init__(
        self,
        end_ids: frozenset[int],
        decoder: AnswerDecoder,
        stop_strings: Tokens[str] = (),
        thinking: Thinking | None = None,
    ) -> None:
        self.end_ids = end_ids
        self.decoder = decoder
        self.stop_strings = tuple(stop_strings)
        self._thinking = thinking
        self._recorded: dict[Hashable, list[int]] | None = None

    def endless(self) -> StopCriteria:
        """The same without end tokens and stop strings: records run to their length."""
        return StopCriteria(frozenset(), self.decoder)

    @contextmanager
    def recording(self) -> Iterator[dict[Hashable, list[int]]]:
        """Notes the tokens of every record that ends meanwhile, by its key."""
        self._recorded = {}
        try:
            yield self._recorded
        finally:
            self._recorded = None

    def append(self, sequence: Sequence, token: int) -> None:
        """Adds a generated token and sets `finish_reason` when it is the last."""
        sequence.tokens.append(token)
        constraint = sequence.prompt.constraint
        ended = token in self.end_ids or (constraint is not None and constraint.is_complete)
        if ended or self._meets_stop(sequence):
            sequence.finish_reason = "stop"
        elif sequence.remaining <= 0:
            sequence.finish_reason = "length"

    def text(self, sequence: Sequence) -> str:
        """The answer of a record that has ended, cut before a stop string."""
        if self._recorded is not None:
            self._recorded[sequence.key] = list(sequence.tokens)
        stops = self._stops(sequence)
        cut = self.decoder.text_before(sequence.tokens, stops) if stops else None
        return self.decoder.text(sequence.tokens) if cut is None else cut

    def parts(self, sequence: Sequence) -> tuple[str | None, str]:
        """The thoughts of a record that has ended, None where it has none, and its answer."""
        text = self.text(sequence)
        if self._thinking is None or not self._may_think(sequence):
            return None, text
        return self._thinking.split(text, is_open=sequence.prompt.thinks)

    def thought_tokens(self, sequence: Sequence) -> int:
        """How many of a record's tokens, from the first on, are thoughts and the marks around them."""
        thinking, tokens = self._thinking, sequence.tokens
        if thinking is None or not self._may_think(sequence):
            return 0
        marked = thinking.count_tokens(tokens, self.decoder.whole, is_open=sequence.prompt.thinks)
        # What a budget has forced behind the mark is not the answer's either: nobody chose it.
        constraint = sequence.prompt.constraint
        return max(marked, constraint.forced) if isinstance(constraint, ThinkingConstraint) else marked

    def _may_think(self, sequence: Sequence) -> bool:
        """Not where a schema holds from the first token on: marks of thoughts in its strings are text."""
        constraint = sequence.prompt.constraint
        return constraint is None or (isinstance(constraint, ThinkingConstraint) and constraint.has_thoughts)

    def _stops(self, sequence: Sequence) -> list[str]:
        return [*(sequence.input.stop or ()), *self.stop_strings]

    def _meets_stop(self, sequence: Sequence) -> bool:
        stops = self._stops(sequence)
        if not stops:
            return False
        # A token is at least one byte, so a stop string that the newest token completed lies within its last
        # `len(stop in bytes)` tokens and a few more that an unfinished character may take.
        reach = max(len(stop.encode()) for stop in stops) + 8
        if self.decoder.text_before(sequence.tokens[-reach:], stops) is None:
            return False
        return self.decoder.text_before(sequence.tokens, stops) is not None
