"""A finished output in other forms beside it.

The JSONL file with its journal is what a run is resumed from; these are made of it when a run is complete, each put
in its place in one step. Which forms there are is in `forms`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from pixano_vlm.errors import RESUME, OutputError, RunError, UsageError
from pixano_vlm.outputs.forms import (
    Answers,
    Lines,
    OutputForm,
    check_ending,
    endings,
    form_of,
    without_ending,
)
from pixano_vlm.outputs.shard_names import existing_shards, is_sharded
from pixano_vlm.outputs.shards import write_shards
from pixano_vlm.outputs.table_columns import Given

__all__ = [
    "check_exports", "export_rows", "files_of", "is_export", "needs_prompt", "split_outputs", "states_of",
    "write_export", "write_exports",
]  # fmt: skip


def is_export(path: Path) -> bool:
    """Whether the name asks for another form than the tool's own JSONL."""
    return form_of(path) is not None


def split_outputs(
    names: Sequence[str], default: Path, inputs: Sequence[Path] = ()
) -> tuple[Path | None, tuple[Path, ...]]:
    """The JSONL output (None: standard output) and the other forms that were asked for.

    Args:
        names: Those of `-o`. Without one for JSONL, it is named after the first: `a.csv` is beside `a.jsonl`, or
            beside `a.outputs.jsonl` where `a.jsonl` is an input or something else.
        default: The output when there are no names.
        inputs: The manifests, which no output may be.

    Raises:
        UsageError: When two JSONL outputs are named, standard output among others, or a form that there is not.
    """
    for name in names:
        if name != "-":
            check_ending(Path(name))
    exports = tuple(Path(name) for name in names if name != "-" and is_export(Path(name)))
    own = [name for name in names if name == "-" or not is_export(Path(name))]
    if len(own) > 1:
        raise UsageError(
            f"{own[0]} and {own[1]} are both outputs of our own form.",
            hint=f"Name one JSONL file; the others end with {endings()}.",
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
    stem = without_ending(exports[0])
    first = exports[0].with_name(stem + ".jsonl")
    if first.exists() and (_is_one_of(first, inputs) or not _has_journal(first)):
        return exports[0].with_name(stem + ".outputs.jsonl"), exports
    return first, exports


def _has_journal(path: Path) -> bool:
    return path.with_name(path.name + ".journal").exists()


def _is_one_of(path: Path, others: Sequence[Path]) -> bool:
    return path.exists() and any(other.exists() and path.samefile(other) for other in others)


def needs_prompt(exports: Sequence[Path]) -> bool:
    """Whether one of them says what was asked, so that the output has to."""
    return any(_form(path).needs_prompt for path in exports)


def states_of(exports: Sequence[Path]) -> dict[str, list[int]]:
    """What each file is recognised by that a run wrote: its size in bytes, and its CRC-32."""
    files = [file for path in exports for file in files_of(path)]
    return {os.path.realpath(file): [file.stat().st_size, _crc(file)] for file in files}


def files_of(path: Path) -> list[Path]:
    """The files that are there of one export: itself, its shards, or those in its folder."""
    if is_sharded(path):
        return existing_shards(path)
    if _form(path).is_folder:
        return _form(path).files_in(path) if path.is_dir() else []
    return [path] if path.is_file() else []


def export_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Each record's id, and what is written of it, of one export. Raises as `OutputForm.read`."""
    for file in existing_shards(path) if is_sharded(path) else [path]:
        yield from _form(path).read(file)


def write_export(answers: Answers, path: Path) -> None:
    """Writes one.

    Raises:
        OSError: When it cannot be written.
    """
    if is_sharded(path):
        write_shards(_form(path), answers, path)
    else:
        _form(path).put(answers, path)


def _is_as_written(path: Path, state: Sequence[int]) -> bool:
    return path.stat().st_size == state[0] and _crc(path) == state[1]


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            crc = crc32(data, crc)
    return crc


def check_exports(
    exports: Sequence[Path],
    *,
    sources: Sequence[Path],
    replace: bool,
    written: Mapping[str, Any] | None = None,
    shard_size: int | None = None,
) -> None:
    """Finds out before a run what would go wrong after it.

    Args:
        exports: What is to be written.
        sources: The manifests, which none may be.
        replace: Whether what is there may be replaced.
        written: What `states_of` said when an earlier run had written them; one that changed since is kept.
        shard_size: How many records were asked for in each shard.

    Raises:
        UsageError: When a size is given, and nothing is to be in shards.
        OutputError: When one exists, or its folder does not.
        MissingPackageError: When one needs a package that is not installed.
    """
    if shard_size is not None and not any(is_sharded(path) or _form(path).has_shards for path in exports):
        raise UsageError(
            "--shard-size goes with an output in shards.",
            hint="Name one: -o 'part-{shard}.parquet', or -o NAME.hf for a Hugging Face dataset.",
        )
    for path in exports:
        if _is_one_of(path, sources) or any(path.resolve() in source.resolve().parents for source in sources):
            raise OutputError(f"{path} is the manifest itself.", hint="Name another file with -o FILE.")
        if (there := _what_is_there(path)) is not None and not replace:
            raise OutputError(
                f"{there} exists.",
                hint="Resume its run (--resume), replace it (--overwrite), or name another (-o FILE).",
            )
        if path.exists() and path.is_dir() != _form(path).is_folder:
            kind = "a folder" if path.is_dir() else "a file"
            raise OutputError(f"{path} is {kind}.", hint="Name another with -o.")
        for file in files_of(path):
            state = (written or {}).get(os.path.realpath(file))
            if state is None or _is_as_written(file, state):
                continue
            raise OutputError(
                f"{file} was changed since the run wrote it, and would be replaced.",
                hint="Move it elsewhere to keep it, or add --force to replace it.",
            )
        if not path.parent.is_dir():
            raise OutputError(
                f"{path} cannot be written: there is no folder {path.parent}.", hint="Create the folder."
            )
        _form(path).check()


def _form(path: Path) -> OutputForm:
    form = form_of(path)
    assert form is not None, "it was told from the tool's own by its form"
    return form


def _what_is_there(path: Path) -> Path | None:
    """Something that writing would replace: the file, its first shard, a shard of the folder's."""
    if is_sharded(path) or (path.is_dir() and _form(path).is_folder):  # what others have in a folder stays
        return next(iter(files_of(path)), None)
    return path if path.exists() else None


def write_exports(
    output: Path, exports: Sequence[Path], given: Given | None = None, keys: Sequence[str] = (),
    shard_size: int | None = None,
) -> None:  # fmt: skip
    """Writes each, from a finished output.

    Args:
        output: The output.
        exports: The files to write.
        given: The columns of the input, which tables have beside the answers.
        keys: Keys that answers in JSON were asked to have; tables have a column for each.
        shard_size: How many records each shard has, of what is in shards.

    Raises:
        RunError: When one cannot be written; the output is as it was.
    """
    answers = Answers(Lines(output), given, keys, output, shard_size)
    for path in exports:
        try:
            write_export(answers, path)
        except OSError as error:
            raise RunError(
                f"{path} cannot be written: {error.strerror or error}. {output} holds every result.",
                hint=f"Make room. {RESUME}",
            ) from error
