"""Thoughts that a model writes before its answer: how they are marked, and an answer's two parts.

Which marks a model uses, its chat template and its tokenizer say. Knows no tokenizer and no model by name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pixano_vlm.errors import PromptError
from pixano_vlm.models.generation import GenerationFields

__all__ = ["MARKS", "Thinking", "check_thinking_budget", "find_thinking"]

MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
)
"""How thoughts begin and end, in the forms that published templates write."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """The marks of one model's thoughts."""

    begins: str
    ends: str

    def is_open(self, prompt: str, begun: str = "") -> bool:
        """Whether a prompt ends inside of thoughts: the model continues them.

        Args:
            prompt: The whole prompt.
            begun: An answer that the record begins itself, which the prompt ends with.
        """
        if begun:
            return begun.rfind(self.begins) > begun.rfind(self.ends)
        return prompt.rstrip().endswith(self.begins)

    def is_closed(self, prompt: str) -> bool:
        """Whether a prompt ends with thoughts that are over, as templates write them where thinking is off."""
        return prompt.rstrip().endswith(self.ends)

    def split(self, text: str, *, is_open: bool) -> tuple[str | None, str]:
        """The thoughts and the answer of a generated text; None: it has no thoughts, or empty ones that have ended.

        Args:
            text: What was generated.
            is_open: Whether the prompt ended inside of thoughts.
        """
        stripped = text.lstrip()
        begun = stripped.startswith(self.begins)
        inside = stripped.removeprefix(self.begins) if begun else text
        thoughts, end, answer = inside.partition(self.ends)
        if not end and not (begun or is_open):
            return None, text
        return thoughts.strip() or (None if end else ""), answer.strip()

    def count_tokens(
        self, tokens: Sequence[int], decode: Callable[[Sequence[int]], str], *, is_open: bool
    ) -> int:
        """How many generated tokens, from the first on, are thoughts and the marks around them.

        Args:
            tokens: What was generated.
            decode: Tokens -> text, marks included.
            is_open: Whether the prompt ended inside of thoughts.
        """
        text = decode(tokens)
        if self.ends not in text:
            return len(tokens) if is_open or text.lstrip().startswith(self.begins) else 0
        counts = range(len(tokens))
        return bisect_left(counts, True, key=lambda count: self.ends in decode(tokens[: count + 1])) + 1


def find_thinking(template: str, added_tokens: Iterable[str]) -> Thinking | None:
    """The marks that a template writes or a tokenizer has tokens for; None for a model that has none."""
    added = set(added_tokens)
    for begins, ends in MARKS:
        if ends in template or {begins, ends} <= added:
            return Thinking(begins, ends)
    return None


def check_thinking_budget(asked: GenerationFields, thinking: Thinking | None) -> None:
    """Checks that a record's `thinking_budget` can be held to, where it has one.

    Args:
        asked: The record.
        thinking: The marks of the model's thoughts; None for a model that has none.

    Raises:
        PromptError: When the model has no thoughts, or no token would be left for the answer.
    """
    if asked.thinking_budget is None:
        return
    if thinking is None:
        raise PromptError(
            "thinking_budget: neither the template nor the tokenizer of this model marks thoughts.",
            hint="Leave thinking_budget out, or use a model that thinks: `load` prints how it marks its thoughts.",
        )
    if asked.max_new_tokens is not None and asked.thinking_budget >= asked.max_new_tokens:
        raise PromptError(
            f"thinking_budget is {asked.thinking_budget:,} and max_new_tokens is {asked.max_new_tokens:,}, thoughts "
            "included: no token would be left for the answer.",
            hint="Raise max_new_tokens, or lower thinking_budget.",
        )
