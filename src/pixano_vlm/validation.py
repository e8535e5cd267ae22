"""What pydantic found wrong with some data, in this package's words: the key, what it must be, what it was instead.

Pydantic's own sentences never reach a user. Knows pydantic's kinds of error and no data of this package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pixano_vlm.nearest import did_you_mean

__all__ = ["Fault", "first_problem"]

SHOWN = 60
"""Longest value that is shown, in characters."""

EMPTY = "not be empty"

_TAG = re.compile(r"[a-z-]+\[.*\]|str|int|float|bool|bytes|none|path|url|date|datetime")

_MUST_BE: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda c: f"above {c['gt']:g}",
    "greater_than_equal": lambda c: f"{c['ge']:,g} or more",
    "less_than": lambda c: f"below {c['lt']:,g}",
    "less_than_equal": lambda c: f"at most {c['le']:,g}",
    "multiple_of": lambda c: f"a multiple of {c['multiple_of']:g}",
    "finite_number": lambda c: "a finite number",
    "literal_error": lambda c: str(c["expected"]),
    "enum": lambda c: str(c["expected"]),
    "string_too_short": lambda c: _at_least(c["min_length"], "character"),
    "too_short": lambda c: _at_least(c["min_length"], "item"),
    "string_too_long": lambda c: f"at most {c['max_length']:,} characters long",
    "too_long": lambda c: f"at most {c['max_length']:,} items long",
    "string_pattern_mismatch": lambda c: f"text of the form {c['pattern']}",
    "is_instance_of": lambda c: f"a {c['class']}",
    "is_subclass_of": lambda c: f"a subclass of {c['class']}",
}

_KINDS = {
    "string": "a string", "bytes": "bytes", "int": "a whole number", "float": "a number", "bool": "true or false",
    "list": "a list", "tuple": "a list", "set": "a list", "dict": "a mapping", "model": "a mapping",
    "dataclass": "a mapping", "mapping": "a mapping", "path": "a path", "none": "empty", "callable": "a function",
    "decimal": "a number", "date": "a date", "datetime": "a date with a time", "url": "a URL", "uuid": "a UUID",
}  # fmt: skip
"""What pydantic's `<kind>_type`, `<kind>_parsing` and their like ask for."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in some data."""

    key: str
    """Where it is, with dots; empty for the data as a whole."""
    kind: str
    """`unknown`, `missing` or `wrong`."""
    text: str
    """What is wrong, to be read after the key: `must be 1 or more, not 0`."""
    location: tuple[int | str, ...]
    """The steps of the key."""

    def message(self, noun: str = "key") -> str:
        """The whole sentence."""
        if self.kind == "unknown":
            return f"unknown {noun} {self.key!r}."
        if self.kind == "missing":
            return f"the {noun} {self.key!r} is missing."
        return f"{self.key or 'it'} {self.text}."

    def hint(self, known: Sequence[str]) -> str | None:
        """For an unknown key, the nearest known one."""
        if self.kind != "unknown" or not known:
            return None
        return did_you_mean(str(self.location[-1]), known) or f"Known: {', '.join(known)}."


def first_problem(error: ValidationError) -> Fault:
    """The first fault that pydantic found. Where all types of a union were refused, these are one fault."""
    errors = error.errors(include_url=False)
    first = errors[0]
    if first["loc"] != _path(first["loc"]):
        # The type of a union that was followed furthest is the one that was meant.
        top = first["loc"][:1]
        first = max(
            (other for other in errors if other["loc"][:1] == top), key=lambda e: len(_path(e["loc"]))
        )
    location = _path(first["loc"])
    same = [other for other in errors if other is first or _is_alternative(first, other)]
    key = ".".join(map(str, location))
    if first["type"] == "extra_forbidden":
        return Fault(key, "unknown", "is unknown", location)
    if first["type"] == "missing":
        return Fault(key, "missing", "is missing", location)
    own = first.get("ctx", {}).get("error")
    if first["type"] in {"value_error", "assertion_error"} and own is not None:
        return Fault(key, "wrong", str(own).rstrip("."), location)
    wanted = list(dict.fromkeys(filter(None, map(_wanted, same)))) or ["of another kind"]
    what = ", ".join(wanted[:-1]) + " or " * (len(wanted) > 1) + wanted[-1]
    text = f"must {what}" if what == EMPTY else f"must be {what}, not {_shown(first['input'])}"
    return Fault(key, "wrong", text, location)


def _is_tag(step: int | str) -> bool:
    """Whether it is the name of a type, which pydantic puts into the location of an error in a union."""
    return isinstance(step, str) and _TAG.fullmatch(step) is not None


def _path(location: Sequence[int | str]) -> tuple[int | str, ...]:
    """A location without names of types. Its first step is always a key."""
    return tuple(step for place, step in enumerate(location) if not place or not _is_tag(step))


def _is_alternative(first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether it is the same value, refused by another type of a union."""
    return first["input"] is other["input"] and _path(first["loc"]) == _path(other["loc"])


def _wanted(problem: Mapping[str, Any]) -> str | None:
    kind, context = str(problem["type"]), problem.get("ctx", {})
    if kind in _MUST_BE:
        return _MUST_BE[kind](context)
    for ending in ("_type", "_parsing", "_from_float", "_attributes_type", "_parsing_size", "_exact_type"):
        if kind.endswith(ending) and (named := _KINDS.get(kind.removesuffix(ending))):
            return named
    return None


def _at_least(least: int, unit: str) -> str:
    return f"at least {least:,} {unit}s long" if least > 1 else EMPTY


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
