"""An Arrow file with named columns -> rows: Feather version 2, or what `datasets` keeps. Needs pyarrow.

There are two formats under one name: files, which have an index at their end, and streams, as the `datasets` library
writes them into the folders of `save_to_disk`. A file on this machine is mapped, not read, so that columns and rows
that are not asked for cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from pixano_vlm.errors import ManifestError
from pixano_vlm.extras import import_extra
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.typed_rows import TypedRows, TypedTable, rows_at_a_time

__all__ = ["ArrowRows", "ArrowTable"]

_MAGIC = b"ARROW1"


class ArrowTable(TypedTable):
    """The values of an Arrow file."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self._arrow: Any = import_extra("pyarrow", extra="parquet", purpose="an Arrow file")
        self._is_stream = not file.head(len(_MAGIC)).startswith(_MAGIC)
        with ExitStack() as stack, self._explained():
            reader = self._open(stack)
            self.schema = reader.schema
            self.rows = sum(batch.num_rows for batch in self._batches(reader)) if file.is_plain else None

    def _explained(self) -> _Explained:
        return _Explained(self.file)

    def _open(self, stack: ExitStack) -> Any:
        if self.file.is_plain:
            source = stack.enter_context(self._arrow.memory_map(str(self.file.path)))
        else:
            opened = stack.enter_context(self.file.open())
            source = self._arrow.PythonFile(opened, mode="r")
            if not self._is_stream and not opened.seekable():
                source = self._arrow.BufferReader(opened.read())
        open_ = self._arrow.ipc.open_stream if self._is_stream else self._arrow.ipc.open_file
        return stack.enter_context(open_(source))

    def _batches(self, reader: Any) -> Iterator[Any]:
        if self._is_stream:
            yield from reader
        else:
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))

    def values(self, skipped: int = 0, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Each row's values by column; those of skipped rows and other columns are not looked at."""
        with ExitStack() as stack, self._explained():
            for batch in self._batches(self._open(stack)):
                wanted = batch if columns is None else batch.select(columns)
                first, skipped = min(skipped, batch.num_rows), max(0, skipped - batch.num_rows)
                step = rows_at_a_time(wanted.nbytes, wanted.num_rows)
                for at in range(first, wanted.num_rows, step):
                    yield from wanted.slice(at, step).to_pylist()


class _Explained:
    """What pyarrow raises of a damaged file becomes an error that names the file."""

    def __init__(self, file: InputFile) -> None:
        self._file = file

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, ValueError)):  # pyarrow's own errors are ValueErrors
            raise ManifestError(
                f"{self._file} cannot be read as an Arrow file: {' '.join(str(error).split())[:300]}.",
                hint="Feather files of version 1 are another format: write Feather version 2, or Parquet.",
            ) from error


class ArrowRows(TypedRows):
    """An Arrow file."""

    table = ArrowTable
