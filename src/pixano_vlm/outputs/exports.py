"""A finished output in other forms beside it: CSV, Parquet, OpenAI Batch output.

The JSONL file with its journal stays what a run goes on with; these are made from it when a run is complete, each
put in its place in one step. Knows which form a name asks for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pixano_vlm.errors import OutputError, RunError, UsageError
from pixano_vlm.extras import pyarrow_parquet
from pixano_vlm.outputs.openai_batch import write_batch_responses
from pixano_vlm.outputs.tables import write_csv, write_parquet
from pixano_vlm.records.output_line import OutputLine

__all__ = ["check_exports", "is_export", "split_outputs", "write_exports"]

OPENAI = ".openai.jsonl"
_SUFFIXES = (".csv", ".parquet", ".pq", OPENAI)


def is_export(path: Path) -> bool:
    """Whether the name asks for another form than our own JSONL."""
    return path.name.lower().endswith(_SUFFIXES)


def split_outputs(names: Sequence[str], default: Path) -> tuple[Path | None, tuple[Path, ...]]:
    """The JSONL output (None: standard output) and the other forms that were asked for.

    Args:
        names: Those of `-o`. Without one for JSONL, it is named after the first: `a.csv` stands beside `a.jsonl`.
        default: The output when there are no names.

    Raises:
        UsageError: When two JSONL outputs are named, or standard output among others.
    """
    exports = tuple(Path(name) for name in names if name != "-" and is_export(Path(name)))
    own = [name for name in names if name == "-" or not is_export(Path(name))]
    if len(own) > 1:
        raise UsageError(
            f"{own[0]} and {own[1]} are both outputs of our own form.",
            hint="Name one JSONL file; the others end with .csv, .parquet or .openai.jsonl.",
        )
    if not names:
        return default, ()
    if own == ["-"]:
        if exports:
            raise UsageError(
                f"{exports[0]} cannot be written beside standard output.", hint="Name a file: -o FILE.jsonl"
            )
        return None, ()
    if own:
        return Path(own[0]), exports
    first = exports[0]
    end = next(suffix for suffix in _SUFFIXES if first.name.lower().endswith(suffix))
    return first.with_name(first.name[: -len(end)] + ".jsonl"), exports


def check_exports(exports: Sequence[Path], *, source: Path | None, replace: bool) -> None:
    """Finds out before a run what would go wrong after it.

    Args:
        exports: What is to be written.
        source: The manifest, which none may be.
        replace: Whether what is there may be replaced.

    Raises:
        OutputError: When one exists, or its folder does not.
        MissingPackageError: When one is a Parquet file and pyarrow is not installed.
    """
    for path in exports:
        if source is not None and path.exists() and source.exists() and path.samefile(source):
            raise OutputError(f"{path} is the manifest itself.", hint="Name another file with -o FILE.")
        if path.exists() and not replace:
            raise OutputError(
                f"{path} exists.",
                hint="Go on with its run (--resume), replace it (--overwrite), or name another (-o FILE).",
            )
        if not path.parent.is_dir():
            raise OutputError(
                f"{path} cannot be written: there is no folder {path.parent}.", hint="Create the folder."
            )
        if path.suffix.lower() in {".parquet", ".pq"}:
            pyarrow_parquet()


def write_exports(output: Path, exports: Sequence[Path]) -> None:
    """Writes each, from a finished output.

    Raises:
        RunError: When one cannot be written; the output is as it was.
    """
    for path in exports:
        temporary = path.with_name(path.name + ".new")
        try:
            _write(output, path.name.lower(), temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RunError(
                f"{path} cannot be written: {error.strerror or error}. {output} holds every result.",
                hint="Make room, then run the same command with --resume.",
            ) from error


def _write(output: Path, name: str, path: Path) -> None:
    if name.endswith(OPENAI):
        write_batch_responses(_lines(output), path, int(output.stat().st_mtime))
    elif name.endswith(".csv"):
        write_csv(_lines(output), path)
    else:
        write_parquet(_lines(output), path)


def _lines(output: Path) -> Iterator[OutputLine]:
    with output.open("rb") as file:
        for line in file:
            yield OutputLine.model_validate(json.loads(line))
