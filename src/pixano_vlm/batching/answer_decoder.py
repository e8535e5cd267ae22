"""Tokens to an answer's text: what frames the turn is dropped, and nothing else.

Boxes, tables and marks that a model writes with special tokens (`<loc_5>`, `[THINK]`, DocTags) belong to its answer.
Knows no record and no batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pixano_vlm.batching.postprocessor import Postprocessor

__all__ = ["AnswerDecoder"]

_WINDOW = 6
"""Tokens before one that decide how it is written: some tokenizers drop the blank of the first."""


class AnswerDecoder:
    """Decodes answers as one model's processor does.

    Args:
        processor: The model's processor.
        framing: The tokens that frame a turn: beginning, end, padding, and what the template writes between turns.
        skip_special_tokens: None drops what frames the turn; True drops every special token, False none.
        kept: Tokens that are never dropped: the marks of thoughts, which are told from the answer by them.
    """

    def __init__(
        self,
        processor: Any,
        framing: frozenset[int],
        skip_special_tokens: bool | None = None,
        kept: frozenset[int] = frozenset(),
    ) -> None:
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self.framing = framing - kept
        self._kept = kept
        self.skip_special_tokens = skip_special_tokens
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        self._special_ids = frozenset(id for id, token in added.items() if token.special)
        self._post_process = _post_processing(processor, self._tokenizer)
        self.postprocessor = Postprocessor(processor)

    def text(self, tokens: Sequence[int]) -> str:
        """The answer that tokens stand for, without outer white space."""
        return self._shown(tokens).strip()

    def _shown(self, tokens: Sequence[int]) -> str:
        return self._decode([token for token in tokens if not self._is_dropped(token)])

    def text_before(self, tokens: Sequence[int], stops: Sequence[str]) -> str | None:
        """The answer before the first of some stop strings; None: there is none.

        A stop string may spell a dropped token. One that does not is not looked for in the spelling of such tokens:
        "e" does not end an answer at `<end_of_turn>`.
        """
        marks = {self.whole([token]) for token in set(tokens) if self._is_dropped(token)} - {""}
        spelling = [stop for stop in stops if any(mark in stop for mark in marks)]
        texts = [_before(self._shown(tokens), [stop for stop in stops if stop not in spelling])]
        if spelling and (text := _before(self.whole(tokens), spelling)) is not None:
            for mark in marks:
                text = text.replace(mark, "")
            texts.append(text)
        found = [text for text in texts if text is not None]
        return min(found, key=len).strip() if found else None

    def whole(self, tokens: Sequence[int]) -> str:
        """The text of all tokens, those that frame the turn too."""
        return self._decode(list(tokens))

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """What each token adds to the text; of the tokens that spell one character, the last one adds it."""
        pieces: list[str] = []
        window: list[int] = []
        before = ""
        for token in tokens:
            if self._is_dropped(token):
                pieces.append("")
                continue
            window.append(token)
            after = self._plain(window)
            if after.endswith("\ufffd") and len(window) < 2 * _WINDOW:
                pieces.append("")
                continue
            pieces.append(after[len(before) :])
            window = window[-_WINDOW:]
            before = self._plain(window)
        return pieces

    def _plain(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=False)
        return text

    def _is_dropped(self, token: int) -> bool:
        if self.skip_special_tokens is None:
            return token in self.framing
        dropped = self._special_ids | self.framing
        return self.skip_special_tokens and token in dropped and token not in self._kept

    def _decode(self, tokens: list[int]) -> str:
        if self._post_process is not None:
            return self._post_process(tokens)
        return self._plain(tokens)


def _before(text: str, stops: Sequence[str]) -> str | None:
    """The text before the first of some stop strings; None: there is none."""
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(found)] if found else None


def _post_processing(processor: Any, tokenizer: Any) -> Callable[[list[int]], str] | None:
    """The processor's own way from tokens to text, where it has one that takes an answer alone."""
    method = getattr(processor, "post_process_image_text_to_text", None)
    if method is None:
        return None

    def post_process(tokens: list[int]) -> str:
        [text] = method([tokens], skip_special_tokens=False)
        return str(text)

    try:
        usable = bool(post_process(tokenizer("A", add_special_tokens=False)["input_ids"]).strip())
    # A model's own code. Some takes nothing but the sequence with its prompt.
    except Exception:
        return None
    return post_process if usable else None
