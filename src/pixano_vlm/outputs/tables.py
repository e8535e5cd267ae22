"""Answers as a table: a CSV or Parquet file. Reads lines one at a time, twice, and keeps few."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pixano_vlm.extras import pyarrow_parquet
from pixano_vlm.outputs.forms import Answers
from pixano_vlm.outputs.table_columns import COLUMNS, Given, as_json, columns_of, rows_of
from pixano_vlm.records.output_line import OutputLine

__all__ = ["COLUMNS", "csv_of", "csv_rows", "parquet_of", "parquet_rows", "write_csv", "write_parquet"]

GROUP_ROWS = 10_000
"""Most rows in one row group of a Parquet file."""
GROUP_CHARACTERS = 16 * 2**20
"""About the most text in one: answers may be long, and so may metadata."""


def write_csv(
    lines: Iterable[OutputLine], path: Path, given: Given | None = None, keys: Sequence[str] = ()
) -> None:
    """Writes a CSV file: UTF-8 with a byte-order mark, by which Excel knows it, its first line the columns.

    What is not there is empty; lists and truth values are JSON.

    Args:
        lines: The output's; iterated twice.
        path: The file.
        given: The columns of the input.
        keys: Keys that answers in JSON were asked to have.
    """
    columns = columns_of(lines, given, keys)
    with path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for line, values in rows_of(lines, given):
            cells = (column.read(line, values) for column in columns.values())
            writer.writerow([as_json(cell) if isinstance(cell, (list, bool)) else cell for cell in cells])


def write_parquet(
    lines: Iterable[OutputLine], path: Path, given: Given | None = None, keys: Sequence[str] = ()
) -> None:
    """Writes a Parquet file with typed columns, one row group at a time. Arguments as of `write_csv`.

    Raises:
        MissingPackageError: When pyarrow is not installed.
    """
    parquet, arrow = pyarrow_parquet(), import_module("pyarrow")
    types = {
        "string": arrow.string(), "int64": arrow.int64(), "double": arrow.float64(), "bool": arrow.bool_(),
        "strings": arrow.list_(arrow.string()),
    }  # fmt: skip
    columns = columns_of(lines, given, keys)
    schema = arrow.schema([(_encodable(name), types[column.kind]) for name, column in columns.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        held: list[dict[str, Any]] = []
        characters = 0
        for line, values in rows_of(lines, given):
            row = {
                _encodable(name): _encodable(column.read(line, values)) for name, column in columns.items()
            }
            held.append(row)
            characters += sum(len(value) for value in row.values() if isinstance(value, str))
            if len(held) >= GROUP_ROWS or characters >= GROUP_CHARACTERS:
                writer.write_table(arrow.Table.from_pylist(held, schema))
                held, characters = [], 0
        if held:
            writer.write_table(arrow.Table.from_pylist(held, schema))


def csv_of(answers: Answers, path: Path) -> None:
    """A finished output as a CSV file."""
    write_csv(answers, path, answers.given, answers.keys)


def parquet_of(answers: Answers, path: Path) -> None:
    """A finished output as a Parquet file."""
    write_parquet(answers, path, answers.given, answers.keys)


def csv_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Each row of a CSV file of answers: its record's id, and its cells by column as JSON.

    Raises:
        ValueError: When it is not one.
    """
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for row in csv.DictReader(file, strict=True):
                yield str(row.get("id")), str(as_json(row))
        except csv.Error as error:
            raise ValueError(str(error)) from error


def parquet_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Each row of a Parquet file of answers: its record's id, and its values by column as JSON.

    Raises:
        MissingPackageError: When pyarrow is not installed.
        ValueError: When it is not one.
    """
    with pyarrow_parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(1_000):
            for row in batch.to_pylist():
                yield str(row.get("id")), str(as_json(row))


def _encodable(value: Any) -> Any:
    """The value; half surrogate pairs, which UTF-8 has no bytes for, are written as escapes."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return [_encodable(item) for item in value] if isinstance(value, list) else value
