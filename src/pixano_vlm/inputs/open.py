"""What was named as a manifest -> the rows to read. Decides by what is there and by suffix, and reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.inputs.csv_rows import CsvRows
from pixano_vlm.inputs.folder import FolderRows, is_glob
from pixano_vlm.inputs.parquet_rows import ParquetRows
from pixano_vlm.inputs.rows import Rows
from pixano_vlm.inputs.template import Template
from pixano_vlm.media.formats import is_image_name
from pixano_vlm.nearest import nearest_path

__all__ = ["Source", "open_source"]

_TABLES: dict[str, type[CsvRows] | type[ParquetRows]] = {
    ".csv": CsvRows,
    ".tsv": CsvRows,
    ".parquet": ParquetRows,
    ".pq": ParquetRows,
}


@dataclass(frozen=True, slots=True)
class Source:
    """An opened manifest: a JSONL file, standard input, or rows."""

    path: Path | None
    """The JSONL file or the table; None for standard input and pictures."""
    rows: Rows | None
    """None for JSONL."""
    stem: str
    """What an output is named after."""
    stream: IO[bytes] | None = None
    """Lines that are read instead of standard input."""
    name: str | None = None
    """How messages call it; None: as the file or the rows are called."""

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be read again later: not standard input."""
        return self.path is not None or self.rows is not None


def open_source(names: Sequence[str], template: Template | None = None, *, recursive: bool = False) -> Source:
    """Opens what a run was asked to read.

    Args:
        names: `-`, a JSONL, CSV or Parquet file, a folder, a glob, or pictures.
        template: The prompt of sources that bring none.
        recursive: Of a folder, also the folders below it.

    Raises:
        ManifestError: When it is not there, cannot be read, or lacks a prompt.
        UsageError: When a flag does not go with it.
        MissingPackageError: When it is a Parquet file and pyarrow is not installed.
    """
    name = names[0]
    path = Path(name)
    if name != "-" and (
        len(names) > 1 or path.is_dir() or is_glob(name) or (is_image_name(path.name) and path.is_file())
    ):
        if template is None:
            what = "is a folder" if path.is_dir() else "names pictures"
            raise ManifestError(
                f"{name} {what}.",
                hint='Say what to ask about each picture: --prompt "Describe this picture."',
            )
        return Source(None, FolderRows(names, template, recursive=recursive), _stem(name, len(names)))
    if name != "-" and not path.exists():
        raise ManifestError(
            f"there is no manifest {name}.",
            hint=nearest_path(name)
            or "Give a JSONL file, a folder with --prompt TEXT, or - for standard input.",
        )
    if recursive:
        raise UsageError("--recursive goes with a folder.", hint="Name a folder of pictures.")
    table = _TABLES.get(path.suffix.lower())
    if table is not None and path.is_file():
        return Source(path, table(path, template), path.stem)
    if template is not None:
        raise UsageError(
            f"{template.source} goes with a folder, pictures or a table, and {name} brings its own prompts.",
            hint="Leave it out, or name a folder.",
        )
    return Source(None, None, "stdin") if name == "-" else Source(path, None, path.stem)


def _stem(name: str, count: int) -> str:
    if count > 1:
        return "pictures"
    if is_glob(name):
        kept = [part for part in Path(name).parts if not is_glob(part)]
        return Path(*kept).resolve().name if kept else "pictures"
    path = Path(name).resolve()
    return path.name if path.is_dir() else path.stem
