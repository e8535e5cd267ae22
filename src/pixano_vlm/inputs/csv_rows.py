"""A CSV file with named columns -> rows. Commas, semicolons, tabs or bars, whichever its first line has most of.
The line `sep=;` that Excel writes and reads above the names is heeded.

Knows lines and cells; what the columns mean is in `columns`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import IO

from pixano_vlm.errors import ManifestError
from pixano_vlm.inputs.columns import Columns, Reading
from pixano_vlm.inputs.file import BROKEN, InputFile
from pixano_vlm.inputs.rows import GivenRow, Layout, Problem, Row, Rows

__all__ = ["CsvRows", "CsvTable"]

MAX_LINE = 32 * 2**20
"""Longest line and longest cell, in characters."""

_DELIMITERS = ",;\t|"
_DECLARATION = re.compile(r'"?sep=([,;\t|])"?[\r\n]*', re.IGNORECASE)


class CsvTable:
    """The cells of a CSV file. Blank lines are not rows.

    Args:
        file: The file: UTF-8, its first line the columns' names.

    Raises:
        ManifestError: When the file or its first line is not usable.
    """

    def __init__(self, file: InputFile) -> None:
        self.file = file
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
        file.head()
        try:
            with self._open() as text:
                head = text.readline(MAX_LINE)
                declared = _DECLARATION.fullmatch(head)
                self._is_declared = declared is not None
                self._delimiter = declared[1] if declared else max(_DELIMITERS, key=head.count)
            with self._open() as text:
                self.header = [cell.strip() for cell in next(self._reader(text)[1], [])]
        except (OSError, *BROKEN) as error:
            raise ManifestError(f"{file} cannot be read: {error}.") from error
        except csv.Error as error:
            raise ManifestError(f"{file}: {error}.", hint="Its first line names the columns.") from error
        if not any(self.header) or wrong_text(self.header) is not None:
            raise ManifestError(
                f"{file.name} names no columns in its first line, in UTF-8.",
                hint="Write a first line such as: id,prompt,image",
            )
        if self.header[0] == "" and "" not in self.header[1:]:
            self.header[0] = "index"  # as pandas writes a table with its row numbers
        if "" in self.header:
            raise ManifestError(f"{file.name}: a column has no name.", hint="Name it in the first line.")

    def cells(self) -> Iterator[tuple[int, list[str], Problem | None]]:
        """Each row's first line and cells, or what is wrong with it."""
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
                    hint = "Quote cells that hold quotes or line ends."
                    yield number, [], Problem(f"not CSV: {error}.", hint)
                    continue
                except BROKEN as error:
                    raise ManifestError(f"{self.file} cannot be read: {error}.") from error
                if cells:
                    yield number, cells, None

    def _open(self) -> IO[str]:
        # What is not UTF-8 is kept as half surrogate pairs, so that it is one row's error and not the file's.
        return io.TextIOWrapper(self.file.open(), encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _reader(self, file: IO[str]) -> tuple[_LimitedLines, Iterator[list[str]]]:
        lines = _LimitedLines(file)
        if self._is_declared:
            next(lines, None)
        return lines, csv.reader(lines, delimiter=self._delimiter, strict=True)


class CsvRows(Rows):
    """A CSV file. Its rows are called by the line they begin in, and their ids are their numbers, from 1.

    Args:
        file: The file.
        reading: How it is to be read.

    Raises:
        ManifestError: When the file or its first line is not usable.
        UsageError: When the prompt has a placeholder that no column fills.
    """

    def __init__(self, file: InputFile, reading: Reading | None = None) -> None:
        self._table = CsvTable(file)
        self.layout = Layout(file.name, file.folder)
        self._header = tuple(self._table.header)
        self.kinds = dict.fromkeys(self._header, "string")
        self._columns = Columns(file.name, self._header, reading or Reading(), text=True)

    def rows(self) -> Iterator[Row]:
        """The rows below the first line."""
        for row, (number, cells, problem) in enumerate(self._table.cells(), 1):
            if problem is not None:
                yield Row(number, b"{}", problem, str(row))
            else:
                yield self._row(number, cells, str(row))

    def count(self) -> int:
        """How many rows there are; reads the file once."""
        return sum(1 for _ in self._table.cells())

    def given(self) -> Iterator[GivenRow]:
        """Each row's id and cells."""
        for row, (number, cells, _) in enumerate(self._table.cells(), 1):
            yield self._columns.given(number, dict(zip(self._header, cells, strict=False)), name=str(row))

    def _row(self, number: int, cells: list[str], name: str) -> Row:
        header, wrong = self._header, wrong_text(cells)
        if wrong is not None:
            column = header[wrong] if wrong < len(header) else wrong + 1
            problem = Problem(f"column {column!r} is not UTF-8.", "Save the file as UTF-8.")
            return Row(number, b"{}", problem, name)
        row = self._columns.row(number, dict(zip(header, cells, strict=False)), name=name)
        if len(cells) > len(header):
            more = Problem(
                f"{len(cells)} cells, and there are {len(header)} columns.",
                "Quote cells that hold a delimiter.",
            )
            return row._replace(problem=more)
        return row


class _LimitedLines:
    """The file's lines, none longer than the limit. It can be continued behind one that was."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> _LimitedLines:
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


def wrong_text(cells: list[str]) -> int | None:
    """The first cell that is not UTF-8."""
    for place, cell in enumerate(cells):
        if not cell.isascii():
            try:
                cell.encode()
            except UnicodeEncodeError:
                return place
    return None
