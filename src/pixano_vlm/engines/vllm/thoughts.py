"""Thoughts before an answer in vLLM: a grammar that leaves room for them before JSON, and budgets that end them.

vLLM finds thoughts by tokens. Its own reasoning parsers let a schema begin only behind the mark that ends thoughts,
and wait for it in vain where a model answers at once; a grammar has both ways. Knows no engine.
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from pixano_vlm.errors import PromptError
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.chat_template import ChatTemplateRenderer, RenderedPrompt
from pixano_vlm.prompts.control_tokens import unmarked
from pixano_vlm.prompts.response_format import schema_of
from pixano_vlm.prompts.thinking import Thinking

__all__ = ["ThoughtRules"]


@dataclass(slots=True)
class ThoughtRules:
    """How thoughts are marked by one model, and what vLLM can do with them."""

    thinking: Thinking
    space: str
    """What the template writes between the end of thoughts and an answer."""
    begin_id: int | None
    """The token that begins thoughts, where it is one."""
    end_id: int | None
    tokenizer: Any
    takes_grammars: bool = True
    """Whether schemas are enforced by the library whose grammars are written here, from the first token on."""
    has_parser: bool = False
    """Whether a reasoning parser of vLLM's own was asked for, behind whose thoughts a schema begins."""
    takes_budgets: bool = True
    """Whether this vLLM ends thoughts at a budget."""

    @classmethod
    def of(cls, renderer: ChatTemplateRenderer, tokenizer: Any) -> ThoughtRules | None:
        """Those of a model; None for one that has no thoughts."""
        thinking = renderer.thinking
        if thinking is None:
            return None
        ids = {token.content: id for id, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
        begin_id, end_id = ids.get(thinking.begins), ids.get(thinking.ends)
        return cls(thinking, renderer.after_thoughts, begin_id, end_id, tokenizer)

    def configure(self, arguments: dict[str, Any], known: Container[str]) -> None:
        """Adds to vLLM's engine arguments how thoughts are marked, and notes what they let vLLM do.

        Args:
            arguments: With `structured_outputs_config` as vLLM's object.
            known: The names of the arguments that this vLLM has.
        """
        structured = arguments["structured_outputs_config"]
        self.has_parser = bool(arguments.get("reasoning_parser") or structured.reasoning_parser)
        self.takes_grammars = structured.backend == "guidance" and not self.has_parser
        self.takes_budgets = "reasoning_config" in known
        is_told = self.has_parser or "reasoning_config" in arguments
        if self.takes_budgets and not is_told and self.begin_id is not None and self.end_id is not None:
            from vllm.config import ReasoningConfig

            marks = {"reasoning_start_str": self.thinking.begins, "reasoning_end_str": self.thinking.ends}
            arguments["reasoning_config"] = ReasoningConfig(**marks)

    def is_held(self, input: VLMInput) -> bool:
        """Whether a record's schema holds from the first token on, and no grammar leaves room for thoughts."""
        return not (self.takes_grammars or self.has_parser) and _schema(input) is not None

    def grammar(self, input: VLMInput, rendered: RenderedPrompt, end_ids: frozenset[int]) -> str | None:
        """A grammar of llguidance for a record's thoughts and the JSON behind them; None: its schema alone holds.

        Args:
            input: The record.
            rendered: Its prompt.
            end_ids: The tokens that end an answer, which do not end thoughts.
        """
        schema = _schema(input)
        may_begin = self.begin_id is not None and not self.thinking.is_closed(rendered.text)
        if schema is None or not self.takes_grammars or not (rendered.thinks or may_begin):
            return None
        answer = "%json " + json.dumps({**schema, "x-guidance": {"whitespace_flexible": False}})
        if self.end_id is None:
            body = f"thoughts[suffix={json.dumps(self.thinking.ends)}]: /(?s:.*)/"
        else:
            others = ",".join(map(str, sorted({self.end_id, *end_ids})))
            body = f"thoughts: (<[^{others}]>)* <[{self.end_id}]>"
        behind = f"{json.dumps(self.space)}? " if self.space else ""
        # Either the prompt has begun them, or the model may.
        before = f"thoughts {behind}" if rendered.thinks else f"(<[{self.begin_id}]> thoughts {behind})? "
        return f"start: {before}answer\n{body}\nanswer: {answer}\n"

    def budget(self, input: VLMInput, rendered: RenderedPrompt) -> int | None:
        """A record's budget as vLLM counts it: with what the prompt has behind the mark that begins thoughts.

        Raises:
            PromptError: When vLLM cannot hold to it.
        """
        if input.thinking_budget is None or (not rendered.thinks and self.thinking.is_closed(rendered.text)):
            return None
        if self.begin_id is None or self.end_id is None:
            raise PromptError(
                f"thinking_budget: vLLM finds thoughts by tokens, and this model has none for {self.thinking.begins} "
                f"or {self.thinking.ends}.",
                hint="Leave thinking_budget out, or run the model by TransformersVLMModel.",
            )
        if not self.takes_budgets:
            raise PromptError(
                "thinking_budget: this version of vLLM does not end thoughts at a budget.",
                hint="Install a later vLLM, or leave thinking_budget out.",
            )
        if not rendered.thinks:
            return input.thinking_budget
        begun = unmarked(rendered.text).rpartition(self.thinking.begins)[2]
        count = len(self.tokenizer(begun, add_special_tokens=False)["input_ids"]) if begun else 0
        return input.thinking_budget + count


def _schema(input: VLMInput) -> dict[str, Any] | None:
    try:
        return None if input.response_format is None else schema_of(input.response_format)
    except ValueError as error:
        raise PromptError(f"response_format {error}.") from error
