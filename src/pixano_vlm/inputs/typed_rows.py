"""A table whose columns have Arrow types -> rows, a few at a time. Knows types and values, not how they are stored.

A form of such tables is a `TypedTable` that reads it, and a `TypedRows` that says which one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, ClassVar

from pixano_vlm.inputs.columns import Columns, Reading
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.rows import GivenRow, Layout, Row, Rows

__all__ = ["TypedRows", "TypedTable", "rows_at_a_time"]

_AT_A_TIME = 256
"""Most rows in memory."""
_BYTES_AT_A_TIME = 4 * 2**20
"""About the most bytes of them: a row may hold whole images."""


class TypedTable(ABC):
    """The values of one file.

    Args:
        file: The file.

    Raises:
        ManifestError: When it is not of this form.
        MissingPackageError: When what reads it is not installed.
    """

    schema: Any
    """Its `pyarrow.Schema`."""
    rows: int | None
    """How many rows it has; None where counting them would mean reading it from far away."""

    @abstractmethod
    def __init__(self, file: InputFile) -> None: ...

    @abstractmethod
    def values(self, skipped: int = 0, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Each row's values by column.

        Args:
            skipped: How many rows to pass over.
            columns: Only these.

        Raises:
            ManifestError: When it cannot be read to its end.
        """


class TypedRows(Rows):
    """The rows of one such file. They are called by their number, from 1.

    Args:
        file: The file.
        reading: How it is to be read.

    Raises:
        ManifestError: When it is not of this form, or its columns are not usable.
        MissingPackageError: When what reads it is not installed.
        UsageError: When the prompt has a placeholder that no column fills.
    """

    table: ClassVar[type[TypedTable]]
    """What reads it."""

    def __init__(self, file: InputFile, reading: Reading | None = None) -> None:
        self._table = self.table(file)
        self.is_numbered = self._table.rows is not None
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
        """The rows behind so many; as far as the form allows, those before are not read."""
        for number, values in enumerate(self._table.values(skipped), skipped + 1):
            yield self._columns.row(number, values)

    def given(self) -> Iterator[GivenRow]:
        """Each row's id and values; other columns of bytes are not read, for images may be large."""
        own = self._columns.id
        read = [
            field.name for field in self._table.schema if field.name == own or not _holds_bytes(field.type)
        ]
        for number, values in enumerate(self._table.values(columns=read), 1):
            yield self._columns.given(number, values)

    def count(self) -> int | None:
        """How many rows there are, as the file says."""
        return self._table.rows


def rows_at_a_time(size: int, rows: int) -> int:
    """How many rows to hold at once, of so many that are `size` bytes together."""
    return int(max(1, min(_AT_A_TIME, _BYTES_AT_A_TIME * max(1, rows) // max(1, size))))


def _is_list(kind: Any) -> bool:
    types = import_module("pyarrow").types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _kind(kind: Any) -> str:
    """What a column of answers' table has to be to take a column's values again."""
    types = import_module("pyarrow").types
    if types.is_dictionary(kind):  # categories, as pandas calls them
        kind = kind.value_type
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "int64"
    if types.is_floating(kind):
        return "double"
    return "strings" if _is_list(kind) and _is_text(kind.value_type) else "string"


def _is_text(kind: Any) -> bool:
    types = import_module("pyarrow").types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _holds_bytes(kind: Any) -> bool:
    types = import_module("pyarrow").types
    while _is_list(kind):
        kind = kind.value_type
    if types.is_struct(kind):
        return any(_holds_bytes(kind.field(n).type) for n in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _holds_images(kind: Any) -> bool:
    """Whether a column's type is that of images in Hugging Face's datasets, or of lists of them."""
    while _is_list(kind):
        kind = kind.value_type
    is_struct = import_module("pyarrow").types.is_struct(kind)
    return bool(is_struct) and {kind.field(n).name for n in range(kind.num_fields)} == {"bytes", "path"}
