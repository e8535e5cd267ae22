"""What was named as a manifest -> the rows to read. Decides by what is there and by suffix, and reads a few bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.inputs.columns import Reading
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.folder import FolderRows
from pixano_vlm.inputs.forms import JSONL, check_lines, form_of, open_file
from pixano_vlm.inputs.json_rows import is_json_values
from pixano_vlm.inputs.jsonl_rows import JsonlRows
from pixano_vlm.inputs.names import expand
from pixano_vlm.inputs.naming import OWN_NAMES, Naming
from pixano_vlm.inputs.pixano_rows import dataset_files
from pixano_vlm.inputs.rows import Rows
from pixano_vlm.inputs.shards import RowsOfShard, Shards
from pixano_vlm.inputs.template import Template

__all__ = ["Source", "open_source", "read_share"]


@dataclass(frozen=True, slots=True)
class Source:
    """An opened manifest: a JSONL file, standard input, or rows."""

    path: Path | None
    """The JSONL file or the table; None for standard input, images and several files."""
    rows: Rows | None
    """None for JSONL."""
    stem: str
    """What an output is named after."""
    stream: IO[bytes] | None = None
    """Lines that are read instead of standard input."""
    name: str | None = None
    """How messages call it; None: as the file or the rows are called."""
    naming: Naming = OWN_NAMES
    """What columns and keys are called, where they do not have the tool's own names."""
    files: tuple[Path, ...] = ()
    """Every file on this machine that is read as a manifest."""

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be read again later: not standard input."""
        return self.path is not None or self.rows is not None


def open_source(
    names: Sequence[str],
    template: Template | None = None,
    *,
    recursive: bool = False,
    naming: Naming | None = None,
    share: tuple[int, int] | None = None,
) -> Source:
    """Opens what a run was asked to read.

    Args:
        names: `-`; manifests, as files, folders, globs or URLs; or images, as a folder, a glob or files.
        template: The prompt of sources that bring none.
        recursive: Of a folder, also the folders below it.
        naming: What columns and keys are called, where they do not have the tool's own names.
        share: Which of how many shares, counted from 0: of several files, or of the records.

    Raises:
        ManifestError: When it is not there, cannot be read, or lacks a prompt.
        UsageError: When a flag does not go with it.
        MissingPackageError: When a package that reads it is not installed.
    """
    reading = Reading(template, naming or OWN_NAMES)
    if "-" in names:
        return _standard_input(names, reading, recursive=recursive, share=share)
    found = expand(names, recursive=recursive)
    if found.files:
        return _manifests(found.files, reading, found.stem, share, is_one=found.is_one)
    if reading.naming:
        flag, _ = (reading.naming.flags() or [("--image-column", "")])[0]
        raise UsageError(f"{flag} goes with a table or lines of JSON, not with images.", hint="Leave it out.")
    if template is None:
        what = "is a folder" if Path(names[0]).is_dir() else "names images"
        raise ManifestError(
            f"{names[0]} {what}.",
            hint='Say what to ask about each image: --prompt "Describe this image."',
        )
    rows: Rows = FolderRows(found.images, template, recursive=recursive)
    stem = found.stem
    if share is not None:
        rows, stem = RowsOfShard(rows, *share), _share_stem(stem, share)
    return Source(None, rows, stem)


def _standard_input(
    names: Sequence[str], reading: Reading, *, recursive: bool, share: tuple[int, int] | None
) -> Source:
    if len(names) > 1:
        raise UsageError("- is standard input, and other inputs are named too.", hint="Name one of them.")
    if reading.template is not None:
        raise _no_prompt(reading.template, "standard input")
    if recursive or share is not None:
        flag = "--recursive" if recursive else "--shard"
        raise UsageError(f"{flag} does not go with standard input.", hint="Name files.")
    return Source(None, None, "stdin", naming=reading.naming)


def _manifests(
    files: Sequence[InputFile], reading: Reading, stem: str, share: tuple[int, int] | None, *, is_one: bool
) -> Source:
    for file in files:
        form = form_of(file) or JSONL
        if reading.template is not None and not form.takes_prompt:
            raise _no_prompt(reading.template, str(file))
    paths = tuple(path for file in files if file.path is not None for path in _files(file, file.path))
    if share is not None:
        number, of = share
        stem = _share_stem(stem, share)
        if len(files) >= of:
            files = files[number::of]
    path = files[0].path if is_one else None
    if path is not None and path.is_dir():
        path = None
    if is_one and path is not None and not path.is_file():  # a pipe: it can be read only once
        return Source(path, None, stem, naming=reading.naming, files=paths)
    rows: Rows | None
    if is_one:
        rows = _one(files[0], reading)
    else:
        rows = Shards(_called(files, stem), files, lambda file: open_file(file, reading), reading.described())
    if share is not None and len(paths or files) < share[1]:
        rows = RowsOfShard(rows or JsonlRows(files[0], reading), *share)
    return Source(path, rows, stem, naming=reading.naming, files=paths)


def _files(file: InputFile, path: Path) -> tuple[Path, ...]:
    """The files that one manifest is read from."""
    return dataset_files(path) if path.is_dir() else (path,)


def _one(file: InputFile, reading: Reading) -> Rows | None:
    """The rows of one file; None for plain JSONL, which is read as it is."""
    if (form_of(file) or JSONL) is JSONL and file.is_plain and not is_json_values(check_lines(file)):
        return None
    return open_file(file, reading)


def _called(files: Sequence[InputFile], stem: str) -> str:
    return files[0].name if len(files) == 1 else f"{stem} ({len(files)} files)"


def _no_prompt(template: Template, name: str) -> UsageError:
    return UsageError(
        f"{template.source} goes with a folder, images or a table, and {name} brings its own prompts.",
        hint="Leave it out, or name a folder.",
    )


def _share_stem(stem: str, share: tuple[int, int]) -> str:
    return f"{stem}.{share[0] + 1}-of-{share[1]}"


def read_share(text: str | None) -> tuple[int, int] | None:
    """What `--shard 3/8` says: which share, from 0, and how many there are.

    Raises:
        UsageError: When it is not of that form.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    number, of = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not 1 <= number <= of:
        raise UsageError(f"--shard {text} is not a share.", hint="Write --shard 3/8 for the third of eight.")
    return number - 1, of
