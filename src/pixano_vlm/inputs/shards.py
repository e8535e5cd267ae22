"""Several files as one manifest: their rows one after another, each file opened when its turn comes.

A record without an id is called by its file and its number in it (`part-003:17`), so its id does not change when
files are added. Knows no format.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from itertools import accumulate, islice
from pathlib import Path

from pixano_vlm.errors import ManifestError
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.rows import GivenRow, Layout, Row, Rows
from pixano_vlm.records.request import Origin

__all__ = ["RowsOfShard", "Shards"]

_AT_A_TIME = 16
"""Files in a store that are looked at at once, to find out how many rows each has."""


class Shards(Rows):
    """The rows of several files.

    Args:
        name: How messages call them together.
        files: They, in order.
        open_file: Opens one.
        reading: How they are read, as text: rows of a file that is the same are the same while this is.

    Raises:
        ManifestError: When the first cannot be opened.
    """

    def __init__(
        self, name: str, files: Sequence[InputFile], open_file: Callable[[InputFile], Rows], reading: str = ""
    ) -> None:
        self.files = tuple(files)
        self._open, self._reading = open_file, reading.encode("utf-8", "surrogatepass")
        self.kinds = open_file(self.files[0]).kinds
        self.layout = Layout(name, _common_folder(self.files))
        self._names = _short_names(self.files)
        self._counts: list[int | None] = [None] * len(self.files)
        self.are_numbered = False
        """Whether every file says without being read how many rows it has, and of its state; known once counted."""
        are_unique = len({file.name for file in files}) == len(files)
        self._origins = [Origin(file.name if are_unique else str(file), file.base) for file in self.files]

    def rows(self) -> Iterator[Row]:
        """The rows of each file."""
        return self.rows_after(0)

    def rows_after(self, skipped: int) -> Iterator[Row]:
        """The rows behind so many; files before that whose count is known are not opened."""
        for index in range(len(self.files)):
            count = self._counts[index]
            if skipped and count is not None and count <= skipped:
                skipped -= count
                continue
            part = self._open(self.files[index])
            state = self._state(index, part)
            if count is None:  # rows are counted as they are passed over
                count = 0
                for count, row in enumerate(part.rows(), 1):
                    if count > skipped:
                        yield self._named(index, row, state)
                self._counts[index] = count
            else:
                for row in part.rows_after(skipped):
                    yield self._named(index, row, state)
            skipped = max(0, skipped - count)

    def outline(self) -> Iterator[Row]:
        """The rows of each file, those of files that say how many they have without their text."""
        for index in range(len(self.files)):
            part = self._open(self.files[index])
            state = self._state(index, part)
            if state is None:
                for row in part.rows():
                    yield self._named(index, row, None)
            else:
                for number in range(1, (part.count() or 0) + 1):
                    yield self._named(index, Row(number, b""), state)

    def with_whole_paths(self) -> Shards:
        """The same files, for a process with another current folder."""
        other = copy(self)
        other.files = tuple(
            file if file.path is None else InputFile(str(file.path.absolute())) for file in self.files
        )
        return other

    def starts(self) -> list[int]:
        """How many rows there are before each file's, of files that are numbered."""
        return list(accumulate((count or 0 for count in self._counts[:-1]), initial=0))

    def rows_of(self, index: int, skipped: int) -> Iterator[Row]:
        """The rows of one file behind so many."""
        return (self._named(index, row, None) for row in self._open(self.files[index]).rows_after(skipped))

    def outline_of(self, index: int) -> Callable[[int], Row]:
        """What gives the rows of one file that is numbered, by their numbers from 1: without text or reading it."""
        stamp = self.files[index].stamp()
        state = None if stamp is None else stamp + self._reading
        return lambda number: self._named(index, Row(number, b""), state)

    def count_of(self, index: int) -> int:
        """How many rows one file has, of files that are numbered."""
        return self._counts[index] or 0

    def is_shorter(self, index: int, number: int) -> ManifestError:
        """What is wrong where a file ends before a row that it was said to have."""
        return ManifestError(
            f"{self.files[index]} ends before its row {number + 1}, which it had when the run began.",
            hint="Leave the files as they are while a run reads them, and resume it.",
        )

    def _state(self, index: int, part: Rows) -> bytes | None:
        stamp = self.files[index].stamp() if part.is_numbered else None
        return None if stamp is None else stamp + self._reading

    def _named(self, index: int, row: Row, state: bytes | None) -> Row:
        number, text, problem, name, _, _ = row
        called = f"{self._names[index]}:{name or number}"
        return Row(number, text, problem, called, self._origins[index], state)

    def given(self) -> Iterator[GivenRow]:
        """Each row's id and values."""
        for file, name in zip(self.files, self._names, strict=True):
            for row in self._open(file).given():
                yield row if row.has_own_id else row._replace(id=f"{name}:{row.id}")

    def count(self) -> int | None:
        """How many rows there are in all; None where one of the files does not say.

        Raises:
            ManifestError: When one of the files cannot be read, or its columns are not usable.
        """
        if all(file.path is not None for file in self.files):
            counted = [self._count_of(file) for file in self.files]
        else:
            with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="count") as pool:
                counted = list(pool.map(self._count_of, self.files))
        self._counts = [count for count, _ in counted]
        self.are_numbered = all(is_numbered for _, is_numbered in counted)
        known = [count for count in self._counts if count is not None]
        return sum(known) if len(known) == len(self._counts) else None

    def _count_of(self, file: InputFile) -> tuple[int | None, bool]:
        part = self._open(file)
        return part.count(), part.is_numbered and file.stamp() is not None


class RowsOfShard(Rows):
    """Every n-th row of a source.

    Args:
        rows: The source.
        first: The first row that is taken, from 0.
        step: How many shares there are.
    """

    def __init__(self, rows: Rows, first: int, step: int) -> None:
        self._rows, self._first, self._step = rows, first, step
        self.layout, self.kinds = rows.layout, rows.kinds

    def passed_over(self) -> Mapping[str, int]:
        """As the source has it."""
        return self._rows.passed_over()

    def rows(self) -> Iterator[Row]:
        """The rows of the share."""
        return islice(self._rows.rows(), self._first, None, self._step)

    def outline(self) -> Iterator[Row]:
        """As of the source."""
        return islice(self._rows.outline(), self._first, None, self._step)

    def given(self) -> Iterator[GivenRow]:
        """Each row's id and values."""
        return islice(self._rows.given(), self._first, None, self._step)

    def count(self) -> int | None:
        """How many rows it has."""
        count = self._rows.count()
        return None if count is None else len(range(self._first, count, self._step))


def _common_folder(files: Sequence[InputFile]) -> Path | str:
    folders = [str(file.folder) for file in files]
    if all(file.path is not None for file in files):
        return Path(os.path.commonpath([os.path.realpath(folder) for folder in folders]))
    schemes = {folder.partition("://")[0] for folder in folders}
    if len(schemes) > 1 or any(file.path is not None for file in files):
        return Path()
    common = posixpath.commonpath([folder.partition("://")[2] for folder in folders])
    return f"{schemes.pop()}://{common}/"


def _short_names(files: Sequence[InputFile]) -> list[str]:
    """For each file a name that no other has: without its endings or folder where that is enough."""
    stems = [file.stem for file in files]
    if len(set(stems)) == len(stems):
        return stems
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    common = str(_common_folder(files)).rstrip("/") + "/"
    return [
        (os.path.realpath(file.path) if file.path is not None else str(file)).removeprefix(common)
        for file in files
    ]
