"""A Parquet file with named columns -> rows, a few at a time. Needs pyarrow, which it imports when it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from pixano_vlm.errors import ManifestError
from pixano_vlm.extras import pyarrow_parquet
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.typed_rows import TypedRows, TypedTable, rows_at_a_time

__all__ = ["ParquetRows", "ParquetTable"]

_BUFFER = 1 << 20


class ParquetTable(TypedTable):
    """The values of a Parquet file."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        with ExitStack() as stack:
            opened = self._open(stack)
            meta = opened.metadata
            self.schema = opened.schema_arrow
            self.rows = int(meta.num_rows)
            size = sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups))
            self._at_a_time = rows_at_a_time(size, self.rows)

    def _open(self, stack: ExitStack) -> Any:
        parquet = pyarrow_parquet()
        try:
            source = self.file.path or stack.enter_context(self.file.open_as_it_is())
            # As it comes, pyarrow reads ahead and keeps what it has read: gigabytes of images.
            return stack.enter_context(parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False))
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise ManifestError(f"{self.file} cannot be read as Parquet: {error}.") from error

    def values(self, skipped: int = 0, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Each row's values by column; of the first `skipped` rows, whole groups are not read."""
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


class ParquetRows(TypedRows):
    """A Parquet file."""

    table = ParquetTable
