"""What a record's `response_format` asks of its answer: the form, the schema in it, and whether an answer follows it.

The form is OpenAI's: `{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}`;
`{"type": "json_object"}` for any object; `{"type": "text"}` for free text. Schemas are read and answers judged by
the library jsonschema (extra `json`); nothing is ever fetched. Knows no model, and no way to make one keep to a
schema.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

__all__ = [
    "INSTALL",
    "check_response_format",
    "find_json",
    "follows",
    "keys_of",
    "missing_packages",
    "parse_json",
    "parsed_answer",
    "schema_of",
]

INSTALL = "Run: pip install 'pixano-vlm[json]'"
FORM = '{"type": "json_schema", "json_schema": {"name": "...", "schema": {...}}}'
TYPES = ("json_schema", "json_object", "text")

PACKAGES = ("jsonschema", "llguidance", "regex")
"""Those of the extra `json`."""
PATTERN_SECONDS = 1.0
"""How long one `pattern` of a schema may be looked for in one string: some take years."""
_TYPES = "array, boolean, integer, null, number, object and string"
_NOT_SCHEMAS = frozenset({"const", "default", "enum", "examples"})
"""Keys of a schema whose values are data."""


def missing_packages() -> list[str]:
    """Packages that answers in JSON need and that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def schema_of(response_format: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that is asked for; None for free text.

    Raises:
        ValueError: When the form is not OpenAI's; its text continues the words `response_format`.
    """
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise ValueError(f"has the type {kind!r}; types are {', '.join(TYPES)}")
    named = response_format.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict):
        raise ValueError(f"has no schema; the form is {FORM}")  # noqa: TRY004 - bad data
    return schema


def check_response_format(value: Any) -> dict[str, Any]:
    """The value, found to be one that can be asked for.

    Raises:
        ValueError: Naming the part that is wrong; its text continues the words `response_format`.
    """
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {_short(value)}; the form is {FORM}")  # noqa: TRY004 - bad data
    schema = schema_of(value)
    try:
        wrong = None if schema is None else _wrong_with(json.dumps(schema))
    # Nested too deep, a $schema that is a number, a pattern with a huge count: the library raises what comes of it.
    except Exception as error:
        wrong = f"has an unusable schema: {type(error).__name__}: {_sentence(str(error))}"
    if wrong is not None:
        raise ValueError(wrong)
    return value


def follows(text: str, response_format: dict[str, Any]) -> bool:
    """Whether an answer's text is JSON that validates against what was asked for."""
    if schema_of(response_format) is None:
        return True
    value, is_bare = find_json(text)
    return is_bare and validates(value, response_format)


def validates(value: Any, response_format: dict[str, Any]) -> bool:
    """Whether a JSON value validates against what was asked for."""
    try:
        return bool(_validator(json.dumps(schema_of(response_format))).is_valid(value))
    # A pattern that takes years, a schema that goes round in a circle, a number that no float holds: a record's own
    # schema can make the library raise anything, and nobody then knows that the answer follows it.
    except Exception:
        return False


def parse_json(text: str) -> Any:
    """The JSON value that a text holds, None where it holds none, or is cut off; see `find_json`."""
    return find_json(text)[0]


def parsed_answer(text: str, response_format: dict[str, Any] | None) -> Any:
    """The JSON value of an answer where one was asked for; None for free text, and where it holds none."""
    if response_format is None or schema_of(response_format) is None:
        return None
    return parse_json(text)


def find_json(text: str) -> tuple[Any, bool]:
    """The JSON value of an answer, and whether the answer is nothing else.

    Models that nothing holds to JSON put it in a fence, or words around it: then it is the only fenced block that is
    an object or a list, or the only outermost object. Where there are several, nobody knows which was meant.

    Returns:
        The value, None where there is none; and False where other words are around it.
    """
    try:
        return _DECODER.decode(text.strip()), True
    except (ValueError, RecursionError):
        pass
    fenced = list(_values_at(text, (match.end() for match in _FENCE.finditer(text)), "{["))
    if not fenced:
        fenced = list(_values_at(text, (match.start() for match in _BRACE.finditer(text)), "{"))
    return (fenced[0], False) if len(fenced) == 1 else (None, False)


def _values_at(text: str, places: Iterable[int], opening: str) -> Iterator[Any]:
    """The JSON values that begin at the given places, those inside another passed over."""
    end = tries = 0
    for place in places:
        if place < end or text[place : place + 1] not in opening or tries == _MAX_TRIES:
            continue
        tries += 1
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
        yield value


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_FENCE = re.compile(r"```[^\S\n]*\w*\s*")
_BRACE = re.compile(r"\{")
_MAX_TRIES = 64


@lru_cache(maxsize=256)
def _wrong_with(schema_text: str) -> str | None:
    """What makes a schema unusable, and where in it."""
    try:
        import regex  # noqa: F401 - reads no schema, but without it no answer would follow a `pattern`
        from jsonschema import FormatChecker
        from jsonschema.exceptions import best_match
        from jsonschema.validators import Draft202012Validator, validator_for
    except ImportError as missing:
        return f"needs the package {missing.name}. {INSTALL}"
    schema = json.loads(schema_text)
    kind = validator_for(schema, default=Draft202012Validator)
    judge = kind(kind.META_SCHEMA, format_checker=FormatChecker(["regex"]))
    error = best_match(judge.iter_errors(schema))
    if error is not None:
        path = list(error.absolute_path)
        # The library says of a misspelt type that none of two ways to write one fits.
        is_type = path[-1:] == ["type"] and isinstance(error.instance, str)
        why = f"{error.instance!r} is not a type; types are {_TYPES}" if is_type else _sentence(error.message)
        return f"has an unusable schema, at {_place(path)}: {why}"
    for place, reference in _references(schema, ()):
        if unknown := _unresolvable(schema, reference):
            return f"has an unusable schema, at {_place(place)}: {unknown}"
    return None


@lru_cache(maxsize=256)
def _validator(schema_text: str) -> Any:
    from jsonschema.validators import Draft202012Validator, extend, validator_for
    from referencing import Registry

    schema = json.loads(schema_text)
    kind = extend(validator_for(schema, default=Draft202012Validator), {"pattern": _pattern})
    # An empty registry retrieves nothing: jsonschema's own would ask the network for what a $ref names.
    return kind(schema, registry=Registry())


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    """The keyword `pattern`, by a library whose search can be given up."""
    import regex
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not regex.search(pattern, instance, timeout=PATTERN_SECONDS):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _references(part: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every `$ref` of a schema and where it stands."""
    if isinstance(part, list):
        for number, inner in enumerate(part):
            yield from _references(inner, (*path, number))
    elif isinstance(part, dict):
        for key, inner in part.items():
            if key in ("$ref", "$dynamicRef") and isinstance(inner, str):
                yield (*path, key), inner
            elif key not in _NOT_SCHEMAS:
                yield from _references(inner, (*path, key))


def _unresolvable(schema: Any, reference: str) -> str | None:
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = Registry().with_resource("", resource).crawl().resolver()
    try:
        resolver.lookup(reference)
    except Unresolvable:
        inside = reference.startswith("#")
        return (
            f"{reference!r} is not in the schema"
            if inside
            else f"{reference!r} is elsewhere, and nothing is fetched"
        )
    return None


def _place(path: Iterable[Any]) -> str:
    """A place in a schema as people write it: `properties.colours.items.type`."""
    return ".".join(map(str, path)) or "its top"


def _sentence(message: str) -> str:
    return message if len(message) <= 200 else message[:197] + "..."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def keys_of(asked: dict[str, Any] | None) -> list[str]:
    """The keys that answers in JSON are to have, in the schema's order."""
    schema = None if asked is None else schema_of(asked)
    keys = None if schema is None else schema.get("properties")
    return list(keys) if isinstance(keys, dict) else []
