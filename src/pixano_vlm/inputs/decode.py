"""One manifest line's bytes -> its JSON object, strictly. Knows JSON and nothing of what the keys mean."""

from __future__ import annotations

import json
from typing import Any

from pixano_vlm.errors import RecordError

MAX_DEPTH = 100
"""Deepest nesting of a line's JSON."""


def _refuse_constant(name: str) -> Any:
    raise RecordError(f"{name} is not JSON.", hint="Give a finite number, or null.")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise RecordError(f"the number {text[:40]} is too large.", hint="Give a finite number.")
    return value


DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
"""Decodes without looking for keys that stand twice, depth or surrogates."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RecordError(f"the key {twice!r} stands twice in one object.", hint="Remove one of them.")
    return values


_STRICT_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_no_duplicates
)


def decode_line(text: bytes) -> dict[str, Any]:
    """One line's JSON object.

    Raises:
        RecordError: When it is anything else: not UTF-8, not JSON, not an object, too deep, keys twice.
    """
    try:
        string = text.decode()
    except UnicodeDecodeError as error:
        hint = "Save the manifest as UTF-8."
        if text[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in text[:4]:
            hint = "It looks like UTF-16: save the manifest as UTF-8."
        raise RecordError(f"not UTF-8 at byte {error.start + 1} of the line.", hint=hint) from None
    try:
        values = _decoded(string)
    except json.JSONDecodeError as error:
        raise RecordError(
            f"not JSON: {error.msg} at character {error.pos + 1}.",
            hint="Write one complete JSON object on the line.",
        ) from None
    except RecursionError:
        raise RecordError(f"nested more than {MAX_DEPTH} deep.", hint="Flatten it.") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise RecordError(f"not a usable number: {error}.", hint="Write numbers of fewer digits.") from None
    if type(values) is not dict:
        raise RecordError(
            f"a JSON {json_kind(values)}, where an object is wanted.",
            hint='Write an object such as {"prompt": "...", "images": ["a.jpg"]}.',
        )
    if string.count("{") + string.count("[") > MAX_DEPTH and _deeper_than(values, MAX_DEPTH):
        raise RecordError(f"nested more than {MAX_DEPTH} deep.", hint="Flatten it.")
    for key in values:
        # Decoding with a hook costs twice as much, so only a line in which a key may stand twice pays for it.
        if string.count(f'"{key}"') > 1:
            _STRICT_DECODER.decode(string)
            break
    if "\\u" in string and "\\ud" in string.lower():
        _refuse_lone_surrogates(values)
    return values


def _decoded(string: str) -> Any:
    """As `DECODER.decode`, faster where there is nothing around the object."""
    if string[:1] == "{":
        values, end = DECODER.raw_decode(string)
        if end == len(string):
            return values
    return DECODER.decode(string)


def json_kind(value: object) -> str:
    """What JSON calls a decoded value."""
    kinds = {"list": "list", "str": "string", "int": "number", "float": "number", "bool": "boolean"}
    return kinds.get(type(value).__name__, "null")


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _refuse_lone_surrogates(values: dict[str, Any]) -> None:
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RecordError(
            "half of a surrogate pair (\\ud800 to \\udfff) stands alone in a string.",
            hint="Write the character itself, in UTF-8.",
        ) from None
