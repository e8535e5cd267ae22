"""`metadata.jsonl`, `.csv`, `.tsv` or `.parquet` of a Hugging Face image folder: what is said of each image.

Only where each row begins is kept, in bounded memory; a row is read again when its image's turn comes. The format is
that of the `imagefolder` builder of the `datasets` library: one row per image, `file_name` relative to the file.
"""

from __future__ import annotations

import json
import posixpath
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pixano_vlm.errors import ManifestError, RecordError
from pixano_vlm.inputs.columns import plain
from pixano_vlm.inputs.csv_rows import CsvTable
from pixano_vlm.inputs.decode import decode_line
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.parquet_rows import ParquetTable
from pixano_vlm.records.request import hash_id

__all__ = ["METADATA_NAMES", "ImageMetadata"]

METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.tsv", "metadata.parquet")
"""In this order; the first that a folder has counts."""

_MAX_LINE = 1 << 20


class ImageMetadata:
    """The rows of one metadata file, by image.

    Args:
        path: The file. It is read once, to its end.

    Raises:
        ManifestError: When it cannot be read, or a row of it is not an object with a `file_name`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, None] = {}
        """Every field of any row but `file_name`, in the order they first appear in."""
        self._places = HashTable(values=True)
        self._spool: IO[bytes] | None = None
        if path.suffix != ".jsonl":
            self._spool = tempfile.TemporaryFile(prefix="pixano-vlm-")  # noqa: SIM115 - lives as long as this
            weakref.finalize(self, self._spool.close)
            for values in _table(path):
                self._spool.write(json.dumps(values, default=str).encode() + b"\n")
            self._spool.seek(0)
        offset = number = 0
        try:
            with self._open() as file:
                while line := file.readline(_MAX_LINE):
                    number += 1
                    if line.strip():
                        values = self._decode(line, number)
                        self.fields.update(dict.fromkeys(key for key in values if key != "file_name"))
                        self._places.insert(hash_id(_place(values["file_name"])), offset)
                    offset += len(line)
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error

    def _open(self) -> Any:
        return self.path.open("rb") if self._spool is None else _Open(self._spool)

    def _decode(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            values = decode_line(line.strip().removeprefix(b"\xef\xbb\xbf"))
        except RecordError as error:
            raise ManifestError(f"{self.path}:{number}: {error.message}", hint=error.hint) from None
        if not isinstance(values.get("file_name"), str):
            raise ManifestError(
                f"{self.path}:{number}: there is no file_name.",
                hint=f'Each row of {self.path.name} names its image, as file_name: "a.jpg".',
            )
        return values

    def of(self, name: str) -> dict[str, Any]:
        """What is said of an image, without its `file_name`; empty when nothing is.

        Args:
            name: Its path relative to the file's folder, with slashes.
        """
        for offset in self._places.find(hash_id(_place(name))):
            with self._open() as file:
                file.seek(offset)
                values = self._decode(file.readline(_MAX_LINE), 0)
            if _place(values.pop("file_name")) == _place(name):  # hashes may be equal by chance
                return values
        return {}


def _place(name: str) -> str:
    """A path in one spelling, whether it was written on Windows or not."""
    return posixpath.normpath(name.replace("\\", "/"))


class _Open:
    """A file that stays open behind a `with`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __enter__(self) -> IO[bytes]:
        return self._file

    def __exit__(self, *exc: object) -> None: ...


def _table(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table, each as its columns; what a CSV file leaves empty is absent."""
    file = InputFile(str(path))
    if path.suffix in {".csv", ".tsv"}:
        table = CsvTable(file)
        for number, cells, problem in table.cells():
            if problem is not None:
                raise ManifestError(f"{path}:{number}: {problem.message}", hint=problem.hint)
            yield {name: cell for name, cell in zip(table.header, cells, strict=False) if cell}
        return
    for values in ParquetTable(file).values():
        yield {name: plain(value) for name, value in values.items() if value is not None}
