"""Answers as a table: a CSV, Parquet or Arrow file. Reads lines one at a time, twice, and keeps few."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pixano_vlm.extras import import_extra, pyarrow_parquet
from pixano_vlm.outputs.forms import Answers
from pixano_vlm.outputs.table_columns import COLUMNS, Given, as_json
from pixano_vlm.records.output_line import OutputLine

__all__ = [
    "COLUMNS", "arrow_of", "arrow_rows", "csv_of", "csv_rows", "parquet_of", "parquet_rows", "write_csv",
    "write_parquet",
]  # fmt: skip

GROUP_ROWS = 10_000
"""Most rows in one row group of a Parquet file."""
GROUP_CHARACTERS = 16 * 2**20
"""About the most text in one: answers may be long, and so may metadata."""


def write_csv(
    lines: Iterable[OutputLine], path: Path, given: Given | None = None, keys: Sequence[str] = ()
) -> None:
    """Writes a CSV file.

    Args:
        lines: The output's; iterated twice.
        path: The file.
        given: The columns of the input.
        keys: Keys that answers in JSON were asked to have.
    """
    csv_of(Answers(lines, given, keys), path)


def write_parquet(
    lines: Iterable[OutputLine], path: Path, given: Given | None = None, keys: Sequence[str] = ()
) -> None:
    """Writes a Parquet file. Arguments as of `write_csv`.

    Raises:
        MissingPackageError: When pyarrow is not installed.
    """
    parquet_of(Answers(lines, given, keys), path)


def csv_of(answers: Answers, path: Path) -> None:
    """A finished output as a CSV file: UTF-8 with a byte-order mark, by which Excel knows it.

    Its first line is the columns. What is not there is empty; lists and truth values are JSON.
    """
    columns = answers.columns
    with path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for line, values in answers.rows():
            cells = (column.read(line, values) for column in columns.values())
            writer.writerow([as_json(cell) if isinstance(cell, (list, bool)) else cell for cell in cells])


def parquet_of(answers: Answers, path: Path) -> None:
    """A finished output as a Parquet file with typed columns, written one row group at a time."""
    parquet, schema = pyarrow_parquet(), _schema(answers)
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(answers, schema):
            writer.write_table(group)


def arrow_of(answers: Answers, path: Path) -> None:
    """A finished output as an Arrow file (IPC, or Feather version 2): columns and groups as of `parquet_of`."""
    arrow, schema = import_module("pyarrow"), _schema(answers)
    with arrow.OSFile(str(path), "wb") as file, arrow.ipc.new_file(file, schema) as writer:
        for group in _groups(answers, schema):
            writer.write_table(group)


def _schema(answers: Answers) -> Any:
    arrow = import_module("pyarrow")
    types = {
        "string": arrow.string(), "int64": arrow.int64(), "double": arrow.float64(), "bool": arrow.bool_(),
        "strings": arrow.list_(arrow.string()),
    }  # fmt: skip
    return arrow.schema([(_encodable(name), types[column.kind]) for name, column in answers.columns.items()])


def _groups(answers: Answers, schema: Any) -> Iterator[Any]:
    """The rows as tables of Arrow, each small enough to be held."""
    arrow = import_module("pyarrow")
    columns = answers.columns
    held: list[dict[str, Any]] = []
    characters = 0
    for line, values in answers.rows():
        row = {_encodable(name): _encodable(column.read(line, values)) for name, column in columns.items()}
        held.append(row)
        characters += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(held) >= GROUP_ROWS or characters >= GROUP_CHARACTERS:
            yield arrow.Table.from_pylist(held, schema)
            held, characters = [], 0
    if held:
        yield arrow.Table.from_pylist(held, schema)


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


def arrow_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Each row of an Arrow file of answers. As `parquet_rows`."""
    arrow = import_extra("pyarrow", extra="parquet", purpose="an Arrow file")
    with arrow.OSFile(str(path)) as file, arrow.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            for row in reader.get_batch(number).to_pylist():
                yield str(row.get("id")), str(as_json(row))


def _encodable(value: Any) -> Any:
    """The value; half surrogate pairs, which UTF-8 has no bytes for, are written as escapes."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return [_encodable(item) for item in value] if isinstance(value, list) else value
