"""A finished output in other forms beside it.

The JSONL file with its journal is what a run is resumed from; these are made of it when a run is complete, each put
in its place in one step. Which forms there are is in `forms`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from pixano_vlm.errors import OutputError, RunError, UsageError
from pixano_vlm.outputs.forms import Answers, check_ending, endings, form_of, without_ending
from pixano_vlm.outputs.table_columns import Given

__all__ = ["check_exports", "is_export", "split_outputs", "states_of", "write_exports"]


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


def states_of(exports: Sequence[Path]) -> dict[str, list[int]]:
    """What each file is recognised by that a run wrote: its size in bytes, and its CRC-32."""
    return {os.path.realpath(path): [path.stat().st_size, _crc(path)] for path in exports if path.exists()}


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
) -> None:
    """Finds out before a run what would go wrong after it.

    Args:
        exports: What is to be written.
        sources: The manifests, which none may be.
        replace: Whether what is there may be replaced.
        written: What `states_of` said when an earlier run had written them; one that changed since is kept.

    Raises:
        OutputError: When one exists, or its folder does not.
        MissingPackageError: When one needs a package that is not installed.
    """
    for path in exports:
        if _is_one_of(path, sources):
            raise OutputError(f"{path} is the manifest itself.", hint="Name another file with -o FILE.")
        if path.exists() and not replace:
            raise OutputError(
                f"{path} exists.",
                hint="Resume its run (--resume), replace it (--overwrite), or name another (-o FILE).",
            )
        state = (written or {}).get(os.path.realpath(path))
        if state is not None and path.exists() and not _is_as_written(path, state):
            raise OutputError(
                f"{path} was changed since the run wrote it, and would be replaced.",
                hint="Move it elsewhere to keep it, or add --force to replace it.",
            )
        if not path.parent.is_dir():
            raise OutputError(
                f"{path} cannot be written: there is no folder {path.parent}.", hint="Create the folder."
            )
        form = form_of(path)
        assert form is not None, "it was told from the tool's own by its form"
        form.check()


def write_exports(
    output: Path, exports: Sequence[Path], given: Given | None = None, keys: Sequence[str] = ()
) -> None:
    """Writes each, from a finished output.

    Args:
        output: The output.
        exports: The files to write.
        given: The columns of the input, which tables have beside the answers.
        keys: Keys that answers in JSON were asked to have; tables have a column for each.

    Raises:
        RunError: When one cannot be written; the output is as it was.
    """
    answers = Answers(output, given, keys)
    for path in exports:
        temporary = path.with_name(path.name + ".new")
        form = form_of(path)
        assert form is not None, "it was told from the tool's own by its form"
        try:
            form.write(answers, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RunError(
                f"{path} cannot be written: {error.strerror or error}. {output} holds every result.",
                hint="Make room, then run the same command with --resume.",
            ) from error
