"""A CSV file with named columns -> rows. Commas, semicolons or tabs, whichever its first line has most of.

Knows lines and cells; what the columns mean stands in `columns`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pixano_vlm.errors import ManifestError
from pixano_vlm.inputs.columns import Columns
from pixano_vlm.inputs.rows import Layout, Problem, Row, Rows
from pixano_vlm.inputs.template import Template

__all__ = ["CsvRows"]

MAX_LINE = 32 * 2**20
"""Longest line and longest cell, in characters."""

_DELIMITERS = ",;\t"


class CsvRows(Rows):
    """A CSV file. Its rows are called by the line they begin in; blank lines are none.

    Args:
        path: The file: UTF-8, its first line the columns' names.
        template: The prompt, for files without a column of that name.

    Raises:
        ManifestError: When the file or its first line is not usable.
        UsageError: When the prompt has a placeholder that no column fills.
    """

    def __init__(self, path: Path, template: Template | None = None) -> None:
        self.path = path
        self.layout = Layout(path.name, path.parent)
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
        try:
            with self._open() as file:
                head = file.readline(MAX_LINE)
                self._delimiter = max(_DELIMITERS, key=head.count)
            with self._open() as file:
                self._header = [cell.strip() for cell in next(self._reader(file)[1], [])]
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error
        except csv.Error as error:
            raise ManifestError(f"{path}: {error}.", hint="Its first line names the columns.") from error
        if not any(self._header) or _wrong_text(self._header) is not None:
            raise ManifestError(
                f"{path.name} names no columns in its first line, in UTF-8.",
                hint="Write a first line such as: id,prompt,image",
            )
        if "" in self._header:
            raise ManifestError(f"{path.name}: a column has no name.", hint="Name it in the first line.")
        self._columns = Columns(path.name, self._header, template, text=True)

    def rows(self) -> Iterator[Row]:
        """The rows below the first line."""
        for number, cells in self._cells():
            yield Row(number, b"{}", cells) if isinstance(cells, Problem) else self._row(number, cells)

    def count(self) -> int:
        """How many rows there are: the file is read, and nothing made of it."""
        return sum(1 for _ in self._cells())

    def _cells(self) -> Iterator[tuple[int, list[str] | Problem]]:
        """Each row's number and its cells."""
        with self._open() as file:
            lines, reader = self._reader(file)
            next(reader, None)
            while True:
                number = lines.number + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield number, Problem(f"not CSV: {error}.", "Quote cells that hold quotes or line ends.")
                    continue
                if cells:
                    yield number, cells

    def _row(self, number: int, cells: list[str]) -> Row:
        wrong = _wrong_text(cells)
        if wrong is not None:
            column = self._header[wrong] if wrong < len(self._header) else wrong + 1
            return Row(number, b"{}", Problem(f"column {column!r} is not UTF-8.", "Save the file as UTF-8."))
        row = self._columns.row(number, dict(zip(self._header, cells, strict=False)))
        if len(cells) > len(self._header):
            more = Problem(
                f"{len(cells)} cells, and there are {len(self._header)} columns.",
                "Quote cells that hold a delimiter.",
            )
            return row._replace(problem=more)
        return row

    def _open(self) -> IO[str]:
        # What is no UTF-8 is kept as half surrogate pairs, so that it is one row's error and not the file's.
        return self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _reader(self, file: IO[str]) -> tuple[_Lines, Iterator[list[str]]]:
        lines = _Lines(file)
        return lines, csv.reader(lines, delimiter=self._delimiter, strict=True)


class _Lines:
    """The file's lines, none longer than the limit. It can be gone on with behind one that was."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == MAX_LINE and not line.endswith("\n"):
            while (rest := self._file.readline(1 << 20)) and not rest.endswith("\n"):
                pass
            raise csv.Error(f"a line is longer than {MAX_LINE:,} characters")
        if "\0" in line:  # Python 3.10 refuses it in words of its own
            raise csv.Error("a line holds a NUL character")
        return line


def _wrong_text(cells: list[str]) -> int | None:
    """The first cell that is not UTF-8."""
    for place, cell in enumerate(cells):
        if not cell.isascii():
            try:
                cell.encode()
            except UnicodeEncodeError:
                return place
    return None
