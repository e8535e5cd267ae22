"""A Parquet file with named columns -> rows, a few at a time. Needs pyarrow, which it imports when it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from pixano_vlm.errors import ManifestError
from pixano_vlm.extras import pyarrow_parquet
from pixano_vlm.inputs.columns import Columns, Reading
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.rows import GivenRow, Layout, Row, Rows

__all__ = ["ParquetRows", "ParquetTable"]

_AT_A_TIME = 256
"""Most rows in memory."""
_BYTES_AT_A_TIME = 4 * 2**20
"""About the most bytes of them: a row may hold whole images."""
_BUFFER = 1 << 20


class ParquetTable:
    """The values of a Parquet file.

    Args:
        file: The file.

    Raises:
        ManifestError: When it is not a Parquet file.
        MissingPackageError: When pyarrow is not installed.
    """

    def __init__(self, file: InputFile) -> None:
        self.file = file
        with ExitStack() as stack:
            opened = self._open(stack)
            self.schema = opened.schema_arrow
            self.rows: int = int(opened.metadata.num_rows)
            self._at_a_time = _rows_at_a_time(opened.metadata)

    def _open(self, stack: ExitStack) -> Any:
        parquet = pyarrow_parquet()
        try:
            source = self.file.path or stack.enter_context(self.file.open_as_it_is())
            # As it comes, pyarrow reads ahead and keeps what it has read: gigabytes of images.
            return stack.enter_context(parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False))
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise ManifestError(f"{self.file} cannot be read as Parquet: {error}.") from error

    def values(self, skipped: int = 0, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Each row's values by column; of the first `skipped` rows, whole groups are not read.

        Args:
            skipped: How many rows to pass over.
            columns: Only these.
        """
        number = 0
        groups: list[int] = []
        with ExitStack() as stack:
            file = self._open(stack)
            for group in range(file.metadata.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if not groups and number + size <= skipped:
                    number += size
                else:
                    groups.append(group)
            try:
                for batch in file.iter_batches(
                    batch_size=self._at_a_time, row_groups=groups, columns=columns
                ):
                    for values in batch.to_pylist():
                        number += 1
                        if number > skipped:
                            yield values
            except (OSError, ValueError) as error:
                raise ManifestError(f"{self.file} cannot be read behind row {number}: {error}.") from error


class ParquetRows(Rows):
    """A Parquet file. Its rows are called by their number, from 1.

    Args:
        file: The file.
        reading: How it is to be read.

    Raises:
        ManifestError: When it is not a Parquet file, or its columns are not usable.
        MissingPackageError: When pyarrow is not installed.
        UsageError: When the prompt has a placeholder that no column fills.
    """

    is_numbered = True

    def __init__(self, file: InputFile, reading: Reading | None = None) -> None:
        self._table = ParquetTable(file)
        self.layout = Layout(file.name, file.folder)
        schema = self._table.schema
        self.kinds = {field.name: _kind(field.type) for field in schema}
        self._columns = Columns(
            file.name, schema.names, reading or Reading(), text=False,
            held=[field.name for field in schema if _holds_images(field.type)],
            lists=[field.name for field in schema if _is_list(field.type)],
        )  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """The rows."""
        return self.rows_after(0)

    def rows_after(self, skipped: int) -> Iterator[Row]:
        """The rows behind so many; whole groups before that are not read."""
        for number, values in enumerate(self._table.values(skipped), skipped + 1):
            yield self._columns.row(number, values)

    def given(self) -> Iterator[GivenRow]:
        """Each row's id and values; columns of bytes are not read, for images may be large."""
        read = [field.name for field in self._table.schema if not _holds_bytes(field.type)]
        for number, values in enumerate(self._table.values(columns=read), 1):
            yield self._columns.given(number, values)

    def count(self) -> int:
        """How many rows there are, from the file's footer."""
        return int(self._table.rows)


def _rows_at_a_time(meta: Any) -> int:
    size = sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups))
    return int(max(1, min(_AT_A_TIME, _BYTES_AT_A_TIME * max(1, meta.num_rows) // max(1, size))))


def _is_list(kind: Any) -> bool:
    types = import_module("pyarrow").types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _kind(kind: Any) -> str:
    """What a column of answers' table has to be to take a column's values again."""
    types = import_module("pyarrow").types
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "int64"
    if types.is_floating(kind):
        return "double"
    return "strings" if _is_list(kind) and types.is_string(kind.value_type) else "string"


def _holds_bytes(kind: Any) -> bool:
    types = import_module("pyarrow").types
    while _is_list(kind):
        kind = kind.value_type
    if types.is_struct(kind):
        return any(_holds_bytes(kind.field(n).type) for n in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _holds_images(kind: Any) -> bool:
    """Whether a column's type is that of images in Hugging Face's datasets, or of lists of them."""
    while _is_list(kind):
        kind = kind.value_type
    is_struct = import_module("pyarrow").types.is_struct(kind)
    return bool(is_struct) and {kind.field(n).name for n in range(kind.num_fields)} == {"bytes", "path"}
