"""From what vLLM generated to an answer: its text, its thoughts apart from it, and what was told of its tokens.

The text is what the model's own processor makes of the tokens, as in the other in-process engine. Knows no engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pixano_vlm.batching.answer_decoder import AnswerDecoder
from pixano_vlm.engines.vllm.logprobs import told
from pixano_vlm.errors import GenerationError, VLMError
from pixano_vlm.models.generation import settings_used
from pixano_vlm.models.vlm import UsageInfo, VLMInput, VLMOutput
from pixano_vlm.prompts.response_format import parsed_answer, schema_of
from pixano_vlm.prompts.thinking import Thinking

__all__ = ["AnswerReader"]


class AnswerReader:
    """Reads the answers of one model.

    Args:
        decoder: Decodes tokens.
        thinking: The marks of thoughts; None for a model that has none.
        stop_strings: Those of the checkpoint, which hold for every record beside its own.
    """

    def __init__(
        self, decoder: AnswerDecoder, thinking: Thinking | None, stop_strings: Sequence[str] = ()
    ) -> None:
        self._decoder = decoder
        self._thinking = thinking
        self._stop_strings = stop_strings

    def read(self, output: Any, input: VLMInput, *, thinks: bool) -> VLMOutput | VLMError:
        """The answer of a request that has ended.

        Args:
            output: vLLM's `RequestOutput`.
            input: The record.
            thinks: Whether its answer began inside of thoughts.
        """
        completion = output.outputs[0]
        if completion.finish_reason not in ("stop", "length"):
            return GenerationError(f"vLLM ended this answer with {completion.finish_reason!r}.")
        tokens = list(completion.token_ids)
        stops = [*(input.stop or ()), *self._stop_strings]
        cut = self._decoder.text_before(tokens, stops) if stops else None
        text = self._decoder.text(tokens) if cut is None else cut
        reasoning, first = None, 0
        if self._thinking is not None and self._may_think(text, input, thinks=thinks):
            reasoning, text = self._thinking.split(text, is_open=thinks)
            first = self._thinking.count_tokens(tokens, self._decoder.whole, is_open=thinks)
        logs, written = told(completion, input.top_logprobs or 0, first)
        return VLMOutput(
            generated_text=text,
            reasoning=reasoning,
            reasoning_tokens=first or None,
            parsed=parsed_answer(text, input.response_format),
            usage=UsageInfo.of(len(output.prompt_token_ids or ()), len(tokens)),
            generation_config=settings_used(input, input.max_new_tokens),
            finish_reason=completion.finish_reason,
            confidence=None if not logs else round(math.exp(min(0.0, math.fsum(logs) / len(logs))), 6),
            logprobs=written,
        )

    def _may_think(self, text: str, input: VLMInput, *, thinks: bool) -> bool:
        """Not where a schema held from the first token on: marks of thoughts in its strings are text."""
        assert self._thinking is not None
        is_free = input.response_format is None or schema_of(input.response_format) is None
        return is_free or thinks or text.lstrip().startswith(self._thinking.begins)
