"""From what a record asks of its answer to the constraint that holds it: a JSON schema, a budget of its thoughts.

Knows no model and no batch; how thoughts are marked the chat template says.
"""

from __future__ import annotations

from typing import Any

from pixano_vlm.batching.constraint import Constraint, Grammars
from pixano_vlm.batching.thinking_constraint import ThinkingConstraint
from pixano_vlm.errors import PromptError
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.chat_template import ChatTemplateRenderer, RenderedPrompt
from pixano_vlm.prompts.thinking import Thinking

__all__ = ["AnswerConstraints"]


class AnswerConstraints:
    """Makes the constraints of one model's records.

    Args:
        renderer: Knows how the model marks its thoughts.
        grammars: Compiles the schemas that records ask for.
        tokenizer: The model's.
    """

    def __init__(self, renderer: ChatTemplateRenderer, grammars: Grammars, tokenizer: Any) -> None:
        self._renderer = renderer
        self._grammars = grammars
        self._tokenizer = tokenizer

    def of(self, input: VLMInput, rendered: RenderedPrompt) -> Constraint | ThinkingConstraint | None:
        """What one record may say; None: anything.

        Raises:
            PromptError: When the schema cannot be enforced, or thoughts and answer have no room together.
        """
        schema: Constraint | None = None
        if input.response_format is not None and input.response_format.get("type") != "text":
            schema = self._grammars.constrain(input.response_format, input.max_new_tokens)
        thinking = self._renderer.thinking
        if thinking is None or (schema is None and input.thinking_budget is None):
            return schema
        if not rendered.thinks and thinking.is_closed(rendered.text):
            return schema  # thinking is off
        begin_id = None if rendered.thinks else self._id_of(thinking.begins)
        if schema is not None and not rendered.thinks and begin_id is None:
            return schema
        closing = self._closing(thinking)
        if schema is not None and input.thinking_budget is not None:
            _check_room(input, schema, input.thinking_budget, len(closing))
        return ThinkingConstraint(
            schema,
            thinking,
            self._decode,
            begin_id=begin_id,
            is_open=rendered.thinks,
            closing=closing,
            budget=input.thinking_budget,
        )

    def _closing(self, thinking: Thinking) -> tuple[int, ...]:
        """The tokens that end thoughts: of the mark, and of what the template writes between it and an answer."""
        end_id, space = self._id_of(thinking.ends), self._renderer.after_thoughts
        if end_id is None:
            return tuple(self._encode(thinking.ends + space))
        return (end_id, *(self._encode(space) if space else ()))

    def _id_of(self, mark: str) -> int | None:
        """The token of a mark, where it is one."""
        # Not `convert_tokens_to_ids`, which takes a mark that is not a token for the unknown token.
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        return next((id for id, token in added.items() if token.content == mark), None)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))


def _check_room(input: VLMInput, schema: Constraint, budget: int, closing: int) -> None:
    """Checks that an answer that follows its schema still has room when all of the budget was thought."""
    if 1 + budget + closing + schema.shortest > input.max_new_tokens:
        raise PromptError(
            f"thinking_budget is {budget:,} and max_new_tokens is {input.max_new_tokens:,}, thoughts included: an "
            f"answer that follows the schema takes about {schema.shortest:,} tokens or more.",
            hint="Raise max_new_tokens, or lower thinking_budget.",
        )
