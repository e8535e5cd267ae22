"""Several files as one manifest: their rows one after another, each file opened when its turn comes.

A record without an id is called by its file and its number in it (`part-003:17`), so its id does not change when
files are added. Knows no format.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.rows import GivenRow, Layout, Row, Rows
from pixano_vlm.records.request import Origin

__all__ = ["Shards", "Share"]

_AT_A_TIME = 16
"""Files in a store that are looked at at once, to find out how many rows each has."""


class Shards(Rows):
    """The rows of several files.

    Args:
        name: How messages call them together.
        files: They, in order.
        open_file: Opens one.

    Raises:
        ManifestError: When the first cannot be opened.
    """

    def __init__(self, name: str, files: Sequence[InputFile], open_file: Callable[[InputFile], Rows]) -> None:
        self.files = tuple(files)
        self._open = open_file
        self.kinds = open_file(self.files[0]).kinds
        self.layout = Layout(name, _common_folder(self.files))
        self._names = _short_names(self.files)

    def rows(self) -> Iterator[Row]:
        """The rows of each file."""
        for file, name in zip(self.files, self._names, strict=True):
            origin = Origin(file.name if _are_unique(self.files) else str(file), file.base)
            for row in self._open(file).rows():
                yield row._replace(name=f"{name}:{row.name or row.number}", origin=origin)

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
            counts = [self._open(file).count() for file in self.files]
        else:
            with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="count") as pool:
                counts = list(pool.map(lambda file: self._open(file).count(), self.files))
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None


class Share(Rows):
    """Every n-th row of a source.

    Args:
        rows: The source.
        first: The first row that is taken, from 0.
        step: How many shares there are.
    """

    def __init__(self, rows: Rows, first: int, step: int) -> None:
        self._rows, self._first, self._step = rows, first, step
        self.layout, self.kinds = rows.layout, rows.kinds

    def rows(self) -> Iterator[Row]:
        """The rows of the share."""
        for index, row in enumerate(self._rows.rows()):
            if index % self._step == self._first:
                yield row

    def given(self) -> Iterator[GivenRow]:
        """Each row's id and values."""
        for index, row in enumerate(self._rows.given()):
            if index % self._step == self._first:
                yield row

    def count(self) -> int | None:
        """How many rows it has."""
        count = self._rows.count()
        return None if count is None else len(range(self._first, count, self._step))


def _are_unique(files: Sequence[InputFile]) -> bool:
    return len({file.name for file in files}) == len(files)


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
    if _are_unique(files):
        return [file.name for file in files]
    common = str(_common_folder(files)).rstrip("/") + "/"
    return [
        (os.path.realpath(file.path) if file.path is not None else str(file)).removeprefix(common)
        for file in files
    ]
