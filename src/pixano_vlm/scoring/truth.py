"""The truth of a record: a key of its metadata, or a file with ids. Knows no answer.

A file is JSONL, CSV (any of the usual delimiters) or Parquet, compressed or not. One of its columns is the id; the
truth is the column `truth`, or `answer`, `answers`, `label`, `ground_truth`, or the only other one. A cell of CSV
that is a JSON list or object is read as such: `["a cat", "cat"]` accepts both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from pixano_vlm.errors import UsageError
from pixano_vlm.inputs.csv_rows import CsvTable
from pixano_vlm.inputs.file import BROKEN, InputFile
from pixano_vlm.inputs.parquet_rows import ParquetTable
from pixano_vlm.nearest import nearest

__all__ = ["MISSING", "JudgedLine", "Truth", "open_truth"]

MISSING = object()
"""Instead of a truth that nobody gave. `null` is one that was not given, too."""

COLUMNS = ("truth", "answer", "answers", "label", "ground_truth")
IDS = ("id", "record_id", "question_id", "uid")
TABLES = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"}


class JudgedLine(Protocol):
    """What is looked at of an output line; whoever reads outputs may have a type of their own for it."""

    @property
    def id(self) -> str:
        """The record's."""

    @property
    def status(self) -> str:
        """`ok`, or `error` for a record that failed."""

    @property
    def generated_text(self) -> str | None:
        """The answer."""

    @property
    def parsed(self) -> Any:
        """Its value, where it is JSON."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The record's own."""


class Truth:
    """The truths of all records.

    Args:
        name: How messages call it.
        key: The key of the metadata; None where they come by id.
        by_id: Truths by id, where they come from a file.
    """

    def __init__(self, name: str, *, key: str | None = None, by_id: Mapping[str, Any] | None = None) -> None:
        self.name, self._key = name, key
        self.by_id = by_id

    def of(self, line: JudgedLine) -> Any:
        """The truth of a line's record, or `MISSING`."""
        if self.by_id is not None:
            return self.by_id.get(line.id, MISSING)
        value = line.metadata.get(self._key or "")
        return MISSING if value is None else value


def open_truth(named: str, column: str | None = None) -> Truth:
    """The truth that `--truth` names: a file that exists, else a key of the metadata.

    Args:
        named: The file or the key.
        column: The column of a file that is the truth; None: see the module's docstring.

    Raises:
        UsageError: When the file does not exist, or it is not clear what in it is the truth.
        ManifestError: When the file cannot be read.
        MissingPackageError: When what reads it is not installed.
    """
    file = InputFile(named)
    if file.url is None and not Path(named).is_file():
        if file.suffix in TABLES or "/" in named:
            raise UsageError(
                f"there is no truth {named}.", hint="--truth takes a file, or a key of the metadata."
            )
        return Truth(named, key=named)
    by_id: dict[str, Any] = {}
    twice: list[str] = []
    for id, value in _rows(file, column):
        if id in by_id and by_id[id] != value:
            twice.append(id)
        if value is not None:
            by_id[id] = value
    if twice:
        raise UsageError(
            f"{named} has two truths for id {twice[0]!r}"
            + (f", and for {len(twice) - 1:,} others." if twice[1:] else "."),
            hint='Write answers that are all accepted as a list: ["a cat", "cat"].',
        )
    if not by_id:
        raise UsageError(f"{named} holds no truth.", hint='Write lines such as {"id": "1", "truth": "cat"}.')
    return Truth(file.name, by_id=by_id)


def _rows(file: InputFile, column: str | None) -> Iterator[tuple[str, Any]]:
    """Ids and truths of a file."""
    names: tuple[str, str] | None = None
    for number, row in _read(file):
        # Lines of JSON may each have other keys: the first says which are meant.
        names = names or _columns(file.name, list(row), column)
        id_column, truth_column = names
        id = row.get(id_column)
        if id is None:
            raise UsageError(
                f"{file.name}:{number} has no {id_column!r}.", hint="Each truth needs its record's id."
            )
        yield str(id), row.get(truth_column)


def _columns(name: str, there: list[str], column: str | None) -> tuple[str, str]:
    id = next((known for known in IDS if known in there), None)
    if id is None:
        raise UsageError(
            f"{name} has no column id; it has {', '.join(there)}.", hint="Call the one with the ids: id."
        )
    others = [other for other in there if other != id]
    if column is not None:
        if column not in others:
            near = nearest(column, others)
            raise UsageError(
                f"{name} has no column {column!r}.",
                hint=f"--truth-column {near[0]}" if near else f"It has {', '.join(others)}.",
            )
        return id, column
    chosen = next((known for known in COLUMNS if known in others), others[0] if len(others) == 1 else None)
    if chosen is None:
        raise UsageError(
            f"which column of {name} is the truth? It has {', '.join(others) or 'ids only'}.",
            hint="--truth-column NAME says so.",
        )
    return id, chosen


def _read(file: InputFile) -> Iterator[tuple[int, dict[str, Any]]]:
    if file.suffix == ".parquet":
        yield from enumerate(ParquetTable(file).values(), 1)
    elif file.suffix in {".csv", ".tsv"}:
        table = CsvTable(file)
        for number, cells, problem in table.cells():
            if problem is not None:
                raise UsageError(f"{file.name}:{number}: {problem.message}", hint=problem.hint)
            yield number, dict(zip(table.header, map(_cell, cells), strict=False))
    else:
        yield from _json_lines(file)


def _cell(text: str) -> Any:
    if text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text if text.strip() else None


def _json_lines(file: InputFile) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open() as opened:
        try:
            for number, text in enumerate(opened, 1):
                if not text.strip():
                    continue
                try:
                    row = json.loads(text.removeprefix(b"\xef\xbb\xbf"))
                except (ValueError, RecursionError) as error:
                    raise UsageError(
                        f"{file.name}:{number} is not JSON: {error}.",
                        hint="A truth is JSONL, CSV or Parquet.",
                    ) from None
                if not isinstance(row, dict):
                    raise UsageError(
                        f"{file.name}:{number} is not a JSON object.",
                        hint='Write lines such as {"id": "1", "truth": "cat"}.',
                    )
                yield number, row
        except BROKEN as error:
            raise UsageError(f"{file} cannot be read: {error}.") from error
