"""A Parquet file with named columns -> rows, a few at a time. Needs pyarrow, which it imports when it is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ManifestError
from pixano_vlm.extras import pyarrow_parquet
from pixano_vlm.inputs.columns import Columns
from pixano_vlm.inputs.rows import Layout, Row, Rows
from pixano_vlm.inputs.template import Template

__all__ = ["ParquetRows"]

_AT_A_TIME = 64
"""Rows in memory: a row may hold whole pictures."""
_BUFFER = 1 << 20


class ParquetRows(Rows):
    """A Parquet file. Its rows are called by their number, from 1.

    Args:
        path: The file.
        template: The prompt, for files without a column of that name.

    Raises:
        ManifestError: When it is no Parquet file, or its columns are not usable.
        MissingPackageError: When pyarrow is not installed.
        UsageError: When the prompt has a placeholder that no column fills.
    """

    def __init__(self, path: Path, template: Template | None = None) -> None:
        self.path = path
        self.layout = Layout(path.name, path.parent)
        with self._file() as file:
            self._count = int(file.metadata.num_rows)
            self._columns = Columns(path.name, list(file.schema_arrow.names), template, text=False)

    def _file(self) -> Any:
        parquet = pyarrow_parquet()
        try:
            # As it comes, pyarrow reads ahead and keeps what it has read: gigabytes of pictures.
            return parquet.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False)
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise ManifestError(f"{self.path} cannot be read as Parquet: {error}.") from error

    def rows(self) -> Iterator[Row]:
        """The rows."""
        number = 0
        with self._file() as file:
            try:
                for batch in file.iter_batches(batch_size=_AT_A_TIME):
                    for values in batch.to_pylist():
                        number += 1
                        yield self._columns.row(number, values)
            except (OSError, ValueError) as error:
                raise ManifestError(f"{self.path} cannot be read behind row {number}: {error}.") from error

    def count(self) -> int:
        """How many rows there are, from the file's footer."""
        return self._count
