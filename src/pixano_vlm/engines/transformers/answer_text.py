"""Which tokens of an answer are its text, by one checkpoint: the decoder of both in-process engines."""

from __future__ import annotations

from typing import Any

from pixano_vlm.batching.answer_decoder import AnswerDecoder
from pixano_vlm.engines.transformers.end_tokens import EndTokens, framing_ids
from pixano_vlm.prompts.chat_template import ChatTemplateRenderer

__all__ = ["answer_decoder"]


def answer_decoder(
    processor: Any, renderer: ChatTemplateRenderer, ends: EndTokens, skip_special_tokens: bool | None = None
) -> AnswerDecoder:
    """Decodes answers as the checkpoint's processor does, without the tokens that frame turns.

    Args:
        processor: The model's.
        renderer: Knows what the chat template writes around turns, and how thoughts are marked.
        ends: The model's end tokens.
        skip_special_tokens: As of `AnswerDecoder`.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    framing = framing_ids(tokenizer, ends, renderer.control.images, renderer.between_turns())
    thinking = renderer.thinking
    marks = () if thinking is None else (thinking.begins, thinking.ends)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    kept = frozenset(id for id, token in added.items() if token.content in marks)
    return AnswerDecoder(processor, framing, skip_special_tokens, kept)
