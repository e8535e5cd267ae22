"""How sure a model is of each value of an answer in JSON. Knows text, tokens' pieces of it and their probabilities.

A number, a truth value, null and a value that the schema lists (`enum`, `const`) are right or wrong as a whole: their
confidence is the product of the probabilities of the tokens that spell them. That of a free string is the geometric
mean, so that a long text is not less sure because it is long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from json import JSONDecoder
from typing import Any

__all__ = ["field_confidence"]

_STRING = JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")
_LITERAL = re.compile(r"-?\d[\d.eE+-]*|true|false|null")


def field_confidence(text: str, pieces: Sequence[str], log_probs: Sequence[float], schema: Any = None) -> Any:
    """The shape of an answer's JSON value with a probability for each leaf.

    Args:
        text: The answer, one JSON value.
        pieces: What each token adds to it; together they contain `text`.
        log_probs: Of each token.
        schema: The JSON schema that was asked for, by which listed values are known.

    Returns:
        Objects and lists as in the answer, with 0 to 1 for every other value; None where `text` is not in the pieces
        or not JSON.
    """
    start = "".join(pieces).find(text)
    if start < 0:
        return None
    try:
        root, _ = _Reader(text).value(0)
    except (ValueError, IndexError, RecursionError):
        return None
    bounds, end = [], -start
    for piece in pieces:
        bounds.append((end, end + len(piece)))
        end += len(piece)
    return _Confidence(bounds, log_probs, schema).of(root, schema)


@dataclass(frozen=True, slots=True)
class _Leaf:
    start: int
    end: int
    is_string: bool


class _Reader:
    """A JSON text as its shape: dicts and lists, with the place of each leaf."""

    def __init__(self, text: str) -> None:
        self._text = text

    def value(self, at: int) -> tuple[Any, int]:
        """The shape of the value that begins at or behind `at`, and where it ends."""
        at = self._skip(at)
        mark = self._text[at]
        if mark == "{":
            return self._object(at + 1)
        if mark == "[":
            return self._list(at + 1)
        if mark == '"':
            _, end = _STRING(self._text, at)
            # Without its quotes, which say nothing; of an empty text the closing one is all that there is.
            return _Leaf(at + 1, max(end - 1, at + 2), is_string=True), end
        match = _LITERAL.match(self._text, at)
        if match is None:
            raise ValueError(f"no value at {at}")
        return _Leaf(at, match.end(), is_string=False), match.end()

    def _list(self, at: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        at = self._skip(at)
        while self._text[at] != "]":
            value, at = self.value(at)
            found.append(value)
            at = self._behind_comma(at)
        return found, at + 1

    def _object(self, at: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        at = self._skip(at)
        while self._text[at] != "}":
            key, at = _STRING(self._text, at)
            found[key], at = self.value(self._skip(at) + 1)  # behind the colon
            at = self._behind_comma(at)
        return found, at + 1

    def _behind_comma(self, at: int) -> int:
        at = self._skip(at)
        return self._skip(at + 1) if self._text[at] == "," else at

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        assert match is not None, "it matches nothing, too"
        return match.end()


class _Confidence:
    def __init__(self, bounds: list[tuple[int, int]], log_probs: Sequence[float], schema: Any) -> None:
        self._bounds, self._log_probs, self._root = bounds, log_probs, schema
        self._first = 0
        """Tokens before this one end before every leaf that is still to come."""

    def of(self, shape: Any, schema: Any) -> Any:
        schema = self._resolved(schema)
        if isinstance(shape, dict):
            properties = schema.get("properties") or {}
            return {key: self.of(value, properties.get(key)) for key, value in shape.items()}
        if isinstance(shape, list):
            items, first = schema.get("items"), schema.get("prefixItems") or []
            return [self.of(value, first[n] if n < len(first) else items) for n, value in enumerate(shape)]
        return self._leaf(shape, is_listed="enum" in schema or "const" in schema)

    def _leaf(self, leaf: _Leaf, *, is_listed: bool) -> float | None:
        while self._first < len(self._bounds) and self._bounds[self._first][1] <= leaf.start:
            self._first += 1
        logs, at = [], self._first
        while at < len(self._bounds) and self._bounds[at][0] < leaf.end:
            if self._bounds[at][1] > leaf.start:
                logs.append(self._log_probs[at])
            at += 1
        if not logs:
            return None
        total = sum(logs)
        return round(math.exp(total / len(logs) if leaf.is_string and not is_listed else total), 6)

    def _resolved(self, schema: Any) -> dict[str, Any]:
        """The schema that a reference inside of it leads to; an empty one for what is not a plain schema."""
        for _ in range(100):
            reference = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(reference, str) or not reference.startswith("#/"):
                break
            schema = self._root
            for key in reference[2:].split("/"):
                schema = schema.get(key) if isinstance(schema, dict) else None
        return schema if isinstance(schema, dict) else {}
