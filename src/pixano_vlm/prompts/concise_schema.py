"""A schema in one line, such as `caption, colours list[str], count int?`: its words -> a JSON schema of an object.

    schema := field {("," | newline) field}
    field  := name ["?"] [type] ["?"] [":" description]
    type   := "str" | "int" | "float" | "bool" | "list" ["[" type "]"] | "enum" "(" word {"|" word} ")"

A field without a type is text, and a list holds text where nothing else is said. With `?` the value may be null.
Every key is there, in this order, and no other. Where there are several lines, each is one field, and a description
may have commas. Fields, types and descriptions are written as simonw's `llm` has them; `list`, `enum` and `?` are
further words.
"""

from __future__ import annotations

import re
from typing import Any

from pixano_vlm.errors import UsageError
from pixano_vlm.nearest import did_you_mean

__all__ = ["concise_schema", "is_concise"]

WORDS = {
    "str": "string", "string": "string", "text": "string",
    "int": "integer", "integer": "integer",
    "float": "number", "number": "number",
    "bool": "boolean", "boolean": "boolean",
}  # fmt: skip
"""Word -> the type of JSON Schema."""
_LISTS = ("list", "array")
_TYPES = "Types are str, int, float, bool, list, list[TYPE] and enum(a|b|c)."
_FIELD = re.compile(r"(?P<name>[^\W\d][\w-]*)(?P<may>\?)?(?:\s+(?P<type>.*))?", re.DOTALL)
_MOST_NESTED = 8


def concise_schema(text: str, source: str = "the schema") -> dict[str, Any]:
    """The JSON schema that a line of words means.

    Args:
        text: The line, or several.
        source: What messages call it.

    Raises:
        UsageError: Naming the word that is wrong, with what was most likely meant.
    """
    properties: dict[str, Any] = {}
    for field in _fields(text, source):
        declared, colon, description = field.partition(":")
        match = _FIELD.fullmatch(declared.strip())
        if match is None:
            name = declared.strip() or field.strip()
            raise UsageError(
                f"{source}: {name!r} is not the name of a field.",
                hint='Write letters, digits and _, then its type: "caption, count int".',
            )
        name, words = match["name"], (match["type"] or "").strip()
        if name in properties:
            raise UsageError(f"{source}: the field {name!r} is there twice.", hint="Rename one of them.")
        may_be_null = bool(match["may"]) or words.endswith("?")
        schema = _type(words.removesuffix("?").strip(), name, source)
        if may_be_null:
            schema = {"anyOf": [schema, {"type": "null"}]}
        if colon and description.strip():
            schema["description"] = description.strip()
        properties[name] = schema
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


def is_concise(text: str) -> bool:
    """Whether a text reads as such a schema, of more than a single name."""
    try:
        return "," in text + text.replace(" ", ",") and bool(concise_schema(text))
    except UsageError:
        return False


def _fields(text: str, source: str) -> list[str]:
    lines = text.strip().split("\n")
    fields = lines if len(lines) > 1 else _apart(text)
    found = [field.strip().rstrip(",") for field in fields if field.strip().rstrip(",")]
    if not found:
        raise UsageError(
            f"{source} names no field.", hint='Write fields and their types: "caption, count int".'
        )
    return found


def _apart(text: str) -> list[str]:
    """A text, taken apart at the commas that are in no brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _type(words: str, name: str, source: str, depth: int = 0) -> dict[str, Any]:
    kind, bracket, rest = re.fullmatch(r"(\w*)\s*([\[(]?)(.*)", words, re.DOTALL).groups()  # type: ignore[union-attr]
    where = f"{source}: {name} {words}"
    lower = kind.lower()
    if words == "":
        return {"type": "string"}
    if lower in WORDS and not bracket and not rest:
        return {"type": WORDS[lower]}
    if lower in _LISTS and (bracket or not rest):
        inner = rest.removesuffix("]").strip()
        if bracket and (bracket != "[" or not rest.endswith("]") or not inner or depth > _MOST_NESTED):
            raise UsageError(f"{where}: what the list holds is not said.", hint="Write list[int].")
        return {"type": "array", "items": _type(inner, name, source, depth + 1)}
    if lower == "enum":
        values = [value.strip() for value in re.split(r"[|,]", rest.removesuffix(")"))]
        if bracket != "(" or not rest.endswith(")") or not all(values):
            raise UsageError(f"{where}: the values are not said.", hint="Write enum(red|green|blue).")
        return {"enum": list(dict.fromkeys(values))}
    if lower in WORDS or lower in _LISTS:
        raise UsageError(
            f"{where}: {bracket}{rest} behind the type is not understood.",
            hint=f'{_TYPES} A description comes behind a colon: "{name} {kind}: {rest}".',
        )
    meant = did_you_mean(lower, [*WORDS, *_LISTS, "enum"])
    raise UsageError(
        f"{source}: {name}: there is no type {kind or words!r}.",
        hint=f"{meant} {_TYPES}" if meant else _TYPES,
    )
