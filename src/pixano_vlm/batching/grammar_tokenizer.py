"""A model's tokenizer as llguidance is given it: added tokens that are not special are ordinary text.

llguidance takes every added token of the form `<...>` for a special one, which no string of a JSON answer may have.
Published tokenizers have thousands of such tokens that are text, such as `</table>`: a tokenizer writes them wherever
they are in a text. Here they are put among the model's own pieces, under the same ids. Knows no schema.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from copy import copy
from typing import Any

__all__ = ["grammar_tokenizer", "tokenizer_text"]

_ADDED, _VOCABULARY = '"added_tokens":', '"vocab":{'


def grammar_tokenizer(tokenizer: Any, vocabulary: int, end_ids: Collection[int]) -> Any:
    """The tokenizer that llguidance compiles schemas for. It takes seconds and some 100 MB: keep it.

    Args:
        tokenizer: The model's tokenizer, a fast one.
        vocabulary: How many logits the model gives.
        end_ids: The tokens that end an answer; none: the tokenizer's own.

    Raises:
        ImportError: When llguidance is not installed.
        ValueError: When llguidance cannot read the tokenizer.
    """
    from llguidance import LLTokenizer

    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ValueError("only fast tokenizers are known")
    ends = sorted(end_ids) or tokenizer.eos_token_id
    return LLTokenizer(tokenizer_text(tokenizer, end_ids), n_vocab=vocabulary, eos_token=ends)


def tokenizer_text(tokenizer: Any, end_ids: Collection[int] = ()) -> str:
    """The tokenizer's JSON form, in which added tokens that are text are pieces of the model.

    Args:
        tokenizer: A fast one.
        end_ids: Tokens that stay added ones, since they are never text.
    """
    backend = copy(tokenizer.backend_tokenizer)
    backend.no_padding()
    backend.no_truncation()
    whole = str(backend.to_str())
    # The form is megabytes long, nearly all of it pieces and merges: only the list of added tokens is parsed.
    start = whole.find(_ADDED) + len(_ADDED)
    if start < len(_ADDED):
        return whole
    added, end = json.JSONDecoder().raw_decode(whole, start)
    kept, new = [], {}
    for token in added:
        id, content = token["id"], token["content"]
        is_text = not token["special"] and id not in end_ids
        if is_text and backend.model.token_to_id(content) == id:
            continue
        # Some are decoded to other text than they were written with, which a schema could not follow.
        is_text = is_text and backend.decode([id], skip_special_tokens=False) == content
        piece = _as_piece(backend, content) if is_text else None
        if piece is None or backend.model.token_to_id(piece) is not None:
            kept.append(token)
        else:
            new[piece] = id
    rest = whole[end:]
    if new:
        # A reader numbers added tokens that the model has no piece for from the last piece on.
        new |= {
            token["content"]: token["id"]
            for token in kept
            if backend.model.token_to_id(token["content"]) is None
        }
        before, opening, pieces = rest.partition(_VOCABULARY)
        between = "" if pieces.startswith("}") else ","
        rest = before + opening + json.dumps(new, ensure_ascii=False)[1:-1] + between + pieces
    return whole[:start] + json.dumps(kept, ensure_ascii=False) + rest


def _as_piece(backend: Any, content: str) -> str | None:
    """How the model would write an added token's text as one of its pieces; None where that is not known."""
    from tokenizers import pre_tokenizers

    if (
        type(backend.model).__name__ != "BPE"
    ):  # pieces of the others have scores or marks that a new one lacks
        return None
    named = str(backend.decoder)
    if "ByteLevel" in named:
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        [(piece, _)] = byte_level.pre_tokenize_str(content)
        return str(piece)
    return content.replace(" ", "▁") if "ByteFallback" in named else None
