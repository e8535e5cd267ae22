"""Outputs as a table: the columns, and a CSV or Parquet file of them. Reads lines one at a time and keeps few.

What has no column of its own (the settings, the metadata) is in the table as JSON text, so that the columns are
the same whatever the records hold.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pixano_vlm.extras import pyarrow_parquet
from pixano_vlm.records.output_line import OutputLine

__all__ = ["write_csv", "write_parquet"]

GROUP_ROWS = 10_000
"""Most rows in one row group of a Parquet file."""
GROUP_CHARACTERS = 16 * 2**20
"""About the most text in one: answers may be long, and so may metadata."""


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    kind: str
    """`string`, `int64` or `strings`."""
    read: Callable[[OutputLine], Any]
    """Its value in one line."""


def _columns() -> dict[str, Column]:
    """A column for each field of a line; of the token counts and the error, one for each of their own."""
    found: dict[str, Column] = {}
    for name, field in OutputLine.model_fields.items():
        inner = next((kind for kind in get_args(field.annotation) if _is_model(kind)), None)
        if inner is None:
            found[name] = _column(name, field.annotation)
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

    def read(line: OutputLine) -> Any:
        whole = line if outer is None else getattr(line, outer)
        return None if whole is None else getattr(whole, name)

    if kind is int:
        return Column("int64", read)
    if kind == list[str]:
        return Column("strings", read)
    if kind is str or get_origin(kind) is Literal:
        return Column("string", read)
    return Column("string", lambda line: _json(read(line)))


COLUMNS = _columns()
"""Column -> its type, and its value in a line of the output."""


def write_csv(lines: Iterable[OutputLine], path: Path) -> None:
    """Writes a CSV file, UTF-8, its first line the columns; what is not there is empty, a list is JSON."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for line in lines:
            values = (column.read(line) for column in COLUMNS.values())
            writer.writerow([_json(value) if isinstance(value, list) else value for value in values])


def write_parquet(lines: Iterable[OutputLine], path: Path) -> None:
    """Writes a Parquet file with typed columns, one row group at a time.

    Raises:
        MissingPackageError: When pyarrow is not installed.
    """
    parquet, arrow = pyarrow_parquet(), import_module("pyarrow")
    types = {"string": arrow.string(), "int64": arrow.int64(), "strings": arrow.list_(arrow.string())}
    schema = arrow.schema([(name, types[column.kind]) for name, column in COLUMNS.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        held: list[dict[str, Any]] = []
        characters = 0
        for line in lines:
            row = {name: _encodable(column.read(line)) for name, column in COLUMNS.items()}
            held.append(row)
            characters += sum(len(value) for value in row.values() if isinstance(value, str))
            if len(held) >= GROUP_ROWS or characters >= GROUP_CHARACTERS:
                writer.write_table(arrow.Table.from_pylist(held, schema))
                held, characters = [], 0
        if held:
            writer.write_table(arrow.Table.from_pylist(held, schema))


def _encodable(value: Any) -> Any:
    """The value; half surrogate pairs, which UTF-8 has no bytes for, are written as escapes."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return [_encodable(item) for item in value] if isinstance(value, list) else value
