"""Control tokens that a user's text spells out: they reach the model as text, never as the tokens themselves.

A control token frames prompts: the chat template writes it, or the processor puts it around images, or the tokenizer
names it (beginning, end, padding). Tokens that answers and questions are made of (`<loc_5>`, `<|grounding|>`) are not
control tokens, and stay what they are.

Marking happens before the template is rendered and puts a character of no text into the token, so that neither the
template's nor the processor's searches find it; the tokenizer, once it heeds marks, encodes what is marked as text.
Knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

__all__ = ["ControlTokens", "heed_marks", "unmarked"]

MARK = "\U000f0002"
"""A private character that no text has: it comes after the first character of a marked token."""

NAMED = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class ControlTokens:
    """The control tokens of one processor."""

    tokens: frozenset[str]
    images: frozenset[str]
    """Those that stand for images, videos and sounds, or frame them."""

    @classmethod
    def of(cls, processor: Any) -> ControlTokens:
        """Reads them off a processor, its tokenizer and its chat template."""
        tokenizer = getattr(processor, "tokenizer", processor)
        added = {
            token.content: bool(token.special)
            for token in getattr(tokenizer, "added_tokens_decoder", {}).values()
        }
        templates = getattr(processor, "chat_template", None) or ""
        template = "\0".join(templates.values()) if isinstance(templates, dict) else str(templates)
        named = {str(value) for name in NAMED if (value := getattr(tokenizer, name, None)) is not None}
        framing = {*_token_attributes(processor), *_token_attributes(tokenizer)} - named
        written = {token for token in added if token in template and not token.isspace()}
        usable = {token for token in added if len(token) > 1}
        special = {token for token in usable if added[token]}
        return cls(frozenset((special & (named | framing)) | (usable & written)), frozenset(usable & framing))

    def mark(self, text: str) -> str:
        """A user's text with its control tokens marked."""
        return self._pattern.sub(_mark, text.replace(MARK, ""))

    def mark_images(self, text: str) -> str:
        """A text, such as a model's earlier answer, with the tokens of images alone marked."""
        return self._images_pattern.sub(_mark, text.replace(MARK, ""))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return _pattern(self.tokens)

    @cached_property
    def _images_pattern(self) -> re.Pattern[str]:
        return _pattern(self.images)


def unmarked(text: str) -> str:
    """A text as it was before it was marked."""
    return text.replace(MARK, "")


def heed_marks(tokenizer: Any, control: ControlTokens) -> None:
    """Makes a tokenizer encode marked tokens as text; texts without marks go their usual way.

    The object stays the same one, which its processor and others hold; its class becomes a subclass of what it was.
    What the tokens are as text is encoded now: it takes a switch in the tokenizer that all threads share.
    """
    if isinstance(tokenizer, _MarkHeeding) or not control.tokens:
        return
    as_text = {token: _as_text(tokenizer, token) for token in sorted(control.tokens)}
    tokenizer(FRAME, add_special_tokens=False)  # sets the switch back
    kind = type(tokenizer)
    tokenizer.__class__ = type(kind.__name__, (_MarkHeeding, kind), {"__module__": kind.__module__})
    tokenizer._marked_as_text = as_text


FRAME = "\n"
"""Pieces of a text are encoded behind it, and its tokens left out again: some tokenizers put a space first."""


Spans = list[tuple[int, int]]
"""For each token the characters it stands for, as a start and an end."""


class _MarkHeeding:
    """Mixed into a tokenizer's class."""

    _marked_as_text: dict[str, list[int]]

    def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        texts = [text] if isinstance(text, str) else text
        marked = isinstance(texts, (list, tuple)) and any(isinstance(t, str) and MARK in t for t in texts)
        if not marked:
            return super().__call__(text, *args, **kwargs)  # type: ignore[misc]  # of the class it is mixed into
        first, last = self._ends() if kwargs.get("add_special_tokens", True) else ([], [])
        rows, spans = [], []
        for ids, places in map(self._encode_marked, texts):
            rows.append([*first, *ids, *last])
            spans.append([*[(-1, -1)] * len(first), *places])
        encoded: dict[str, Any] = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}
        if kwargs.get("return_token_type_ids") or "token_type_ids" in self.model_input_names:  # type: ignore[attr-defined]
            encoded["token_type_ids"] = [[0] * len(row) for row in rows]
        if isinstance(text, str) and not kwargs.get("return_tensors"):
            encoded = {name: rows[0] for name, rows in encoded.items()}
        padded = self.pad(  # type: ignore[attr-defined]  # likewise
            encoded, padding=kwargs.get("padding") or False, return_tensors=kwargs.get("return_tensors")
        )
        # Some processors ask which token a character went to.
        padded.char_to_token = partial(_token_at, spans)
        return padded

    def _encode_marked(self, text: str) -> tuple[list[int], Spans]:
        """A text in pieces: those between marked tokens as ever, the marked ones as text."""
        ids: list[int] = []
        spans: Spans = []
        pattern = _pattern([*(token[0] + MARK + token[1:] for token in self._marked_as_text), MARK])
        end = 0
        for start, stop in [*(match.span() for match in pattern.finditer(text)), (len(text), len(text))]:
            piece, places = self._encode_piece(text[end:start], is_first=not end)
            ids += piece
            spans += [(end + first, end + last) for first, last in places]
            as_text = self._marked_as_text.get(unmarked(text[start:stop]), [])
            ids += as_text
            spans += [(start, stop)] * len(as_text)
            end = stop
        return ids, spans

    def _encode_piece(self, piece: str, *, is_first: bool) -> tuple[list[int], Spans]:
        if not piece:
            return [], []
        if not is_first:
            frame, _ = self._encode(FRAME)
            ids, spans = self._encode(FRAME + piece)
            if ids[: len(frame)] == frame:
                shift = len(FRAME)
                return ids[len(frame) :], [(a - shift, b - shift) for a, b in spans[len(frame) :]]
        return self._encode(piece)

    def _encode(self, text: str) -> tuple[list[int], Spans]:
        options = {"return_offsets_mapping": True} if getattr(self, "is_fast", False) else {}
        encoded = super().__call__(text, add_special_tokens=False, **options)  # type: ignore[misc]
        return _ids(encoded), list(encoded.get("offset_mapping", []))

    def _ends(self) -> tuple[list[int], list[int]]:
        """The tokens that the tokenizer puts before and behind a text."""
        inner, _ = self._encode("a")
        whole = _ids(super().__call__("a"))  # type: ignore[misc]
        start = next((i for i in range(len(whole)) if whole[i : i + len(inner)] == inner), 0)
        return whole[:start], whole[start + len(inner) :]


def _token_at(spans: list[Spans], row: int, character: int) -> int | None:
    """The first token of a text that a character went to."""
    return next((i for i, (start, end) in enumerate(spans[row]) if start <= character < end), None)


def _as_text(tokenizer: Any, token: str) -> list[int]:
    """The ids of a control token's text, which are not its own."""
    own = tokenizer.convert_tokens_to_ids(token)
    frame = _ids(tokenizer(FRAME, add_special_tokens=False))
    ids = _ids(tokenizer(FRAME + token, add_special_tokens=False, split_special_tokens=True))
    ids = ids[len(frame) :] if ids[: len(frame)] == frame else ids
    if own not in ids:
        return ids
    # An added token that is not special is found whatever the switch says.
    pieces = (token[0], token[1:])
    return [
        id
        for piece in pieces
        for id in _ids(tokenizer(piece, add_special_tokens=False, split_special_tokens=True))
    ]


def _ids(encoded: Any) -> list[int]:
    return list(encoded["input_ids"])


def _mark(match: re.Match[str]) -> str:
    return match[0][0] + MARK + match[0][1:]


def _pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _token_attributes(thing: Any) -> set[str]:
    """The values of a processor's attributes that name tokens: `image_token`, `boi_token`, `fake_image_token`, ..."""
    held = dict(getattr(thing, "__dict__", {}))
    # A tokenizer keeps named ones apart.
    held |= {
        name: value
        for store in ("_special_tokens_map", "_extra_special_tokens_map")
        for name, value in (held.get(store) or {}).items()
        if isinstance(held.get(store), dict)
    }
    return {
        str(value)
        for name, value in held.items()
        if name.endswith(("_token", "_tag"))
        and name not in NAMED
        and value is not None
        and not callable(value)
    }
