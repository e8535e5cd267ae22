"""Structured values that were written as text: the JSON, or Python's print, of messages or of a list."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from pixano_vlm.errors import RecordError

__all__ = ["looks_like_turns", "parsed_text", "turns_in_text"]

_TURNS = re.compile(
    r"\s*(?:array\(\s*)?(?:\[\s*)?\{\s*(['\"])(?:role|content|from|value|messages|conversations|type)\1\s*:"
)
_QUOTED = re.compile(r'\s*"\s*(?:\[\s*)?\{\s*\\"')
_MOST = 4 * 2**20
"""Longest text that is taken for a Python literal."""


def looks_like_turns(text: str) -> bool:
    """Whether a text is the print of messages, or of the parts of one."""
    return _TURNS.match(text) is not None


def parsed_text(value: Any) -> Any:
    """The list or object that a text holds; the value itself where it holds none."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip()) if len(value) <= _MOST else value
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return found if isinstance(found, (list, dict)) else value


def _unquoted(text: str) -> str:
    """Messages that were written as JSON twice, as they were after the first time; any other text as it is."""
    if not _QUOTED.match(text):
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, str) and looks_like_turns(found) else text


def turns_in_text(text: str, where: str) -> Any:
    """The messages, or parts, that a text is the print of; the text itself where it is not one.

    Raises:
        RecordError: When it begins like messages and cannot be read as such.
    """
    text = _unquoted(text)
    if not looks_like_turns(text):
        return text
    found = parsed_text(text)
    if isinstance(found, dict):
        found = next((found[key] for key in ("messages", "conversations") if key in found), [found])
    if isinstance(found, list) and found and all(isinstance(item, dict) for item in found):
        return found
    raise RecordError(
        f"{where} begins like messages written as text, and is not JSON.",
        hint='Write it as JSON: [{"role": "user", "content": "..."}].',
    )
