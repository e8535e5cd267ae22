"""Outputs as a table: the columns, and a CSV or Parquet file of them. Reads lines one at a time and keeps few.

What has no column of its own (the settings, the metadata) stands in the table as JSON text, so that the columns are
the same whatever the records hold.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from pixano_vlm.extras import pyarrow_parquet

__all__ = ["write_csv", "write_parquet"]

GROUP_ROWS = 10_000
"""Most rows in one row group of a Parquet file."""
GROUP_CHARACTERS = 16 * 2**20
"""About the most text in one: answers may be long, and so may metadata."""


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _of(outer: str, key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda line: (line.get(outer) or {}).get(key)


COLUMNS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "id": ("string", lambda line: line["id"]),
    "status": ("string", lambda line: line["status"]),
    "generated_text": ("string", lambda line: line["generated_text"]),
    "finish_reason": ("string", lambda line: line["finish_reason"]),
    "prompt_tokens": ("int64", _of("usage", "prompt_tokens")),
    "completion_tokens": ("int64", _of("usage", "completion_tokens")),
    "total_tokens": ("int64", _of("usage", "total_tokens")),
    "flags": ("strings", lambda line: line.get("flags") or []),
    "attempts": ("int64", lambda line: line.get("attempts", 1)),
    "parsed": ("string", lambda line: _json(line.get("parsed"))),
    "error_type": ("string", _of("error", "type")),
    "error_message": ("string", _of("error", "message")),
    "model": ("string", lambda line: line["model"]),
    "images": ("strings", lambda line: line["images"]),
    "generation_config": ("string", lambda line: _json(line["generation_config"])),
    "metadata": ("string", lambda line: _json(line["metadata"])),
}
"""Column -> its type, and where it stands in a line of the output."""


def write_csv(lines: Iterable[dict[str, Any]], path: Path) -> None:
    """Writes a CSV file, UTF-8, its first line the columns; what is not there is empty, a list is JSON."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for line in lines:
            values = (read(line) for _, read in COLUMNS.values())
            writer.writerow([_json(value) if isinstance(value, list) else value for value in values])


def write_parquet(lines: Iterable[dict[str, Any]], path: Path) -> None:
    """Writes a Parquet file with typed columns, one row group at a time.

    Raises:
        MissingPackageError: When pyarrow is not installed.
    """
    parquet, arrow = pyarrow_parquet(), import_module("pyarrow")
    types = {"string": arrow.string(), "int64": arrow.int64(), "strings": arrow.list_(arrow.string())}
    schema = arrow.schema([(name, types[kind]) for name, (kind, _) in COLUMNS.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        held: list[dict[str, Any]] = []
        characters = 0
        for line in lines:
            row = {name: _encodable(read(line)) for name, (_, read) in COLUMNS.items()}
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
