"""Which columns a table of answers has: those of the input, the answer and its keys beside them, then the rest.

Knows lines and columns, no form of table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pixano_vlm.records.output_line import FIRST as OLDEST
from pixano_vlm.records.output_line import OutputLine

__all__ = ["COLUMNS", "Column", "Given", "columns_of", "rows_of"]

MOST = 200
"""Most columns that are made of keys of the metadata, or of answers; what has none is in `metadata` and `parsed`."""
FIRST = ("id", "generated_text")
"""Columns of a line that come before the others: the input's follow the first, an answer's keys the second."""
_AGAIN = frozenset({"id", "images", "metadata"})
"""Columns of the input that a line has under the same name."""
_LATER = frozenset(OutputLine.model_fields) - frozenset(OLDEST)
"""Columns of keys that lines have only where they are set."""

Kind = Literal["string", "int64", "double", "bool", "strings"]


@dataclass(frozen=True, slots=True)
class Given:
    """The columns of the table that was the input."""

    kinds: Mapping[str, str]
    """Column -> its kind, in order."""
    rows: Callable[[], Iterable[tuple[str, Mapping[str, Any], bool]]]
    """Each record's id, its values, and whether the id is its own; in the manifest's order."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    kind: str
    """`string`, `int64`, `double`, `bool` or `strings`."""
    read: Callable[[OutputLine, Mapping[str, Any]], Any]
    """Its value, of a line and what its record gave."""


def as_json(value: Any) -> str | None:
    """A value as JSON text; None stays what it is."""
    return None if value is None else json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """Regions and sizes as a line of the output has them; anything else that JSON does not know as its text."""
    return value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else str(value)


def _columns() -> dict[str, Column]:
    """A column for each field of a line; of the token counts and the error, one for each of their own."""
    found: dict[str, Column] = {}
    for name, field_ in OutputLine.model_fields.items():
        inner = next((kind for kind in get_args(field_.annotation) if _is_model(kind)), None)
        if inner is None:
            found[name] = _column(name, field_.annotation)
            continue
        prefix = "" if name == "usage" else f"{name}_"
        for part, kind in inner.model_fields.items():
            found[prefix + part] = _column(part, kind.annotation, outer=name)
    return found


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _column(name: str, annotation: Any, outer: str | None = None) -> Column:
    kinds = set(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else {annotation}
    kinds.discard(NoneType)
    (kind,) = kinds if len(kinds) == 1 else (Any,)

    def read(line: OutputLine, given: Mapping[str, Any]) -> Any:
        whole = line if outer is None else getattr(line, outer)
        return None if whole is None else getattr(whole, name)

    if kind is int:
        return Column("int64", read)
    if kind is float:
        return Column("double", read)
    if kind == list[str]:
        return Column("strings", read)
    if kind is str or get_origin(kind) is Literal:
        return Column("string", read)
    return Column("string", lambda line, given: as_json(read(line, given)))


COLUMNS = _columns()
"""Column -> its kind, and its value in a line of the output."""


@dataclass(slots=True)
class _Kinds:
    """The kinds of values under each of many keys, in the order in which the keys first appear."""

    found: dict[str, set[str]] = field(default_factory=dict)

    def add(self, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            kinds = self.found.get(key)
            if kinds is None:
                if len(self.found) >= MOST:
                    continue
                kinds = self.found[key] = set()
            kinds.add(_kind_of(value))

    def kind(self, key: str) -> str:
        kinds = self.found.get(key, set()) - {"null"}
        if kinds == {"int64", "double"}:
            return "double"
        return kinds.pop() if len(kinds) == 1 else "string"


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -(2**63) <= value < 2**63 else "string"
    if isinstance(value, float):
        return "double"
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "strings"
    return "string"


def columns_of(lines: Iterable[OutputLine], given: Given | None, keys: Sequence[str]) -> dict[str, Column]:
    """The columns of a table, found in one pass over its lines.

    Args:
        lines: They.
        given: The columns of the input.
        keys: Keys that answers in JSON were asked to have: columns even where none has them.
    """
    metadata, parsed = _Kinds(), _Kinds({key: set() for key in keys[:MOST]})
    absent = set(_LATER)
    for line in lines:
        absent -= {name for name in absent if getattr(line, name) is not None}
        metadata.add(line.metadata)
        if isinstance(line.parsed, dict):
            parsed.add(line.parsed)
    found = {"id": COLUMNS["id"]}
    for name, kind in (given.kinds if given is not None else {}).items():
        if name == "prompt":
            absent.add(name)  # what the line may have is the same
            found[name] = Column(kind, _reader(name, kind, "given"))
        elif name not in _AGAIN:
            found[_free(name, found, "input")] = Column(kind, _reader(name, kind, "given"))
    for name in metadata.found:
        if given is None or name not in given.kinds:
            kind = metadata.kind(name)
            found[_free(name, found, "input")] = Column(kind, _reader(name, kind, "metadata"))
    found["generated_text"] = COLUMNS["generated_text"]
    for name in parsed.found:
        kind = parsed.kind(name)
        found[_free(name, found, "parsed")] = Column(kind, _reader(name, kind, "parsed"))
    return found | {name: column for name, column in COLUMNS.items() if name not in {*FIRST, *absent}}


def _free(name: str, found: Mapping[str, Column], prefix: str) -> str:
    """A column's name, with a prefix where another has it."""
    while name in found or name in COLUMNS:
        name = f"{prefix}.{name}"
    return name


def _reader(name: str, kind: str, where: str) -> Callable[[OutputLine, Mapping[str, Any]], Any]:
    def read(line: OutputLine, given: Mapping[str, Any]) -> Any:
        values = given if where == "given" else getattr(line, where)
        value = values.get(name) if isinstance(values, Mapping) else None
        if value is None or _fits(value, kind):
            return value
        return as_json(value) if kind == "string" else None

    return read


def _fits(value: Any, kind: str) -> bool:
    found = _kind_of(value)
    if kind == "string":
        return isinstance(value, str)
    return found == kind or (kind == "double" and found == "int64") or (kind == "strings" and value == [])


def rows_of(
    lines: Iterable[OutputLine], given: Given | None
) -> Iterator[tuple[OutputLine, Mapping[str, Any]]]:
    """Each line with what its record gave: both are in the manifest's order, and records may be left out of lines."""
    waiting = iter(() if given is None else given.rows())
    for line in lines:
        values: Mapping[str, Any] = next((row for id, row, _ in waiting if id == line.id), {})
        yield line, values
