"""A finished output in other forms beside it.

The JSONL file with its journal is what a run is resumed from; these are made of it when a run is complete, each put
in its place in one step. Which forms there are is in `forms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixano_vlm.errors import OutputError, RunError, UsageError
from pixano_vlm.outputs.dataset_folder import SHARDS
from pixano_vlm.outputs.forms import Answers, Form, Lines, check_ending, endings, form_of, without_ending
from pixano_vlm.outputs.shard_names import existing_shards, is_sharded
from pixano_vlm.outputs.shards import write_shards
from pixano_vlm.outputs.table_columns import Given

__all__ = ["check_exports", "is_export", "split_outputs", "write_exports"]


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


def check_exports(
    exports: Sequence[Path], *, sources: Sequence[Path], replace: bool, shard_size: int | None = None
) -> None:
    """Finds out before a run what would go wrong after it.

    Args:
        exports: What is to be written.
        sources: The manifests, which none may be.
        replace: Whether what is there may be replaced.
        shard_size: How many records were asked for in each shard.

    Raises:
        UsageError: When a size is given, and nothing is to be in shards.
        OutputError: When one exists, or its folder does not.
        MissingPackageError: When one needs a package that is not installed.
    """
    if shard_size is not None and not any(is_sharded(path) or _form(path).is_folder for path in exports):
        raise UsageError(
            "--shard-size goes with an output in shards.",
            hint="Name one: -o 'part-{shard}.parquet', or -o NAME.hf for a Hugging Face dataset.",
        )
    for path in exports:
        if _is_one_of(path, sources):
            raise OutputError(f"{path} is the manifest itself.", hint="Name another file with -o FILE.")
        if (there := _what_is_there(path)) is not None and not replace:
            raise OutputError(
                f"{there} exists.",
                hint="Resume its run (--resume), replace it (--overwrite), or name another (-o FILE).",
            )
        if path.exists() and path.is_dir() != _form(path).is_folder:
            kind = "a folder" if path.is_dir() else "a file"
            raise OutputError(f"{path} is {kind}.", hint="Name another with -o.")
        if not path.parent.is_dir():
            raise OutputError(
                f"{path} cannot be written: there is no folder {path.parent}.", hint="Create the folder."
            )
        _form(path).check()


def _form(path: Path) -> Form:
    form = form_of(path)
    assert form is not None, "it was told from the tool's own by its form"
    return form


def _what_is_there(path: Path) -> Path | None:
    """Something that writing would replace: the file, its first shard, a shard of the folder's."""
    if is_sharded(path):
        return next(iter(existing_shards(path)), None)
    if path.is_dir() and _form(path).is_folder:  # what others have in it stays
        return path if existing_shards(path / SHARDS) else None
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
            if is_sharded(path):
                write_shards(_form(path), answers, path)
            else:
                _form(path).put(answers, path)
        except OSError as error:
            raise RunError(
                f"{path} cannot be written: {error.strerror or error}. {output} holds every result.",
                hint="Make room, then run the same command with --resume.",
            ) from error
