"""The forms of outputs: what a file's name ends with -> what writes it, and the package that it needs.

A new form is a row here and the function that it names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixano_vlm.errors import UsageError
from pixano_vlm.extras import import_extra, pyarrow_parquet
from pixano_vlm.outputs.shard_names import is_sharded, without_places

if TYPE_CHECKING:
    from pixano_vlm.outputs.table_columns import Column, Given
    from pixano_vlm.records.output_line import OutputLine

__all__ = ["FORMS", "OWN", "Answers", "Lines", "OutputForm", "check_ending", "endings", "form_of", "place"]


class Lines:
    """The lines of a finished output, read as often as they are iterated.

    Args:
        path: The output.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def count(self) -> int:
        """How many there are."""
        with self.path.open("rb") as file:
            return sum(1 for _ in file)

    def __iter__(self) -> Iterator[OutputLine]:
        from pixano_vlm.records.output_line import read_line

        with self.path.open("rb") as file:
            yield from map(read_line, file)


class Answers:
    """What a form is made of: the lines of a finished output, and what goes beside the answers in a table.

    Args:
        lines: The lines, which are iterated twice where `columns` is asked for.
        given: The columns of the input, where it has any.
        keys: The keys that every answer in JSON was to have, in their order.
        output: The finished output that they come from.
        shard_size: How many records a shard has.
    """

    def __init__(
        self, lines: Iterable[OutputLine], given: Given | None = None, keys: Sequence[str] = (),
        output: Path | None = None, shard_size: int | None = None,
    ) -> None:  # fmt: skip
        self._lines, self._given, self._keys, self.output = lines, given, tuple(keys), output
        self.shard_size = shard_size or SHARD_SIZE

    @cached_property
    def columns(self) -> Mapping[str, Column]:
        """The columns of a table of them, found in one pass over the lines."""
        from pixano_vlm.outputs.table_columns import columns_of

        return columns_of(self._lines, self._given, self._keys)

    def rows(self) -> Iterator[tuple[OutputLine, Mapping[str, Any]]]:
        """Each line, and what its record gave, in the manifest's order."""
        from pixano_vlm.outputs.table_columns import rows_of

        return rows_of(self._lines, self._given)

    def count(self) -> int:
        """How many there are."""
        return self._lines.count() if isinstance(self._lines, Lines) else sum(1 for _ in self._lines)

    def parts(self) -> Iterator[Answers]:
        """They, `shard_size` at a time; each part is read before the next is taken. All have the same columns."""
        rows = self.rows()
        first = next(rows, None)
        if first is None:
            yield _Part(self, iter(()))
        while first is not None:
            yield _Part(self, chain([first], islice(rows, self.shard_size - 1)))
            first = next(rows, None)

    @property
    def created(self) -> int:
        """When the answers were made, in seconds since 1970."""
        return 0 if self.output is None else int(self.output.stat().st_mtime)


class _Part(Answers):
    """Some of the answers, read once."""

    def __init__(self, whole: Answers, rows: Iterator[tuple[OutputLine, Mapping[str, Any]]]) -> None:
        super().__init__((), output=whole.output)
        self._whole, self._rows = whole, rows

    @property
    def columns(self) -> Mapping[str, Column]:  # those of the whole, found once
        return self._whole.columns

    def rows(self) -> Iterator[tuple[OutputLine, Mapping[str, Any]]]:
        return self._rows


def place(path: Path, write: Callable[[Path], None]) -> None:
    """Writes a file beside its place, then puts it there in one step; where that fails, nothing is left.

    Args:
        path: Its place.
        write: Writes it where it is told to.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class OutputForm:
    """One form of output that is made of a finished one."""

    suffixes: tuple[str, ...]
    writer: str
    """The function that writes it, `module:function` of this folder; imported when it is used."""
    reader: str
    """The function that reads it back, likewise: each record's id, and what is written of it as text."""
    check: Callable[[], object] = field(default=lambda: None)
    """Raises `MissingPackageError` when what writes it is not installed."""
    files: str = ""
    """The function that lists the files of one that is a folder; what writes it puts each of them in its place."""
    has_shards: bool = False
    """Whether that folder holds shards."""
    needs_prompt: bool = False
    """Whether it says what was asked, so that the lines have to."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of files."""
        return bool(self.files)

    def files_in(self, path: Path) -> list[Path]:
        """The files that are there of a folder of this form."""
        found: list[Path] = _named(self.files)(path)
        return found

    def put(self, answers: Answers, path: Path) -> None:
        """Writes the answers in this form, in one step."""
        if self.is_folder:
            self.write(answers, path)
        else:
            place(path, lambda temporary: self.write(answers, temporary))

    def write(self, answers: Answers, path: Path) -> None:
        """Writes the answers in this form."""
        _named(self.writer)(answers, path)

    def read(self, path: Path) -> Iterator[tuple[str, str]]:
        """Each record's id, and what is written of it, as text that is the same as long as that is.

        Raises:
            OSError: When it cannot be read.
            ValueError: When it is not of this form.
        """
        rows: Iterator[tuple[str, str]] = _named(self.reader)(path)
        return rows


def _named(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"pixano_vlm.outputs.{module}"), name)
    return found


FORMS = (
    OutputForm((".csv",), "tables:csv_of", "tables:csv_rows"),
    OutputForm((".parquet", ".pq"), "tables:parquet_of", "tables:parquet_rows", pyarrow_parquet),
    OutputForm(
        (".arrow", ".feather"),
        "tables:arrow_of",
        "tables:arrow_rows",
        lambda: import_extra("pyarrow", extra="parquet", purpose="an Arrow file"),
    ),
    OutputForm((".openai.jsonl",), "openai_batch:batch_of", "openai_batch:batch_rows"),
    OutputForm(
        (".hf",),
        "dataset_folder:dataset_of",
        "dataset_folder:dataset_rows",
        pyarrow_parquet,
        files="dataset_folder:dataset_files",
        has_shards=True,
    ),
    OutputForm((".coco.json",), "coco:coco_of", "coco:coco_rows"),
    OutputForm(
        (".pixano",),
        "pixano_dataset:pixano_of",
        "pixano_dataset:pixano_rows",
        files="pixano_dataset:pixano_files",
        needs_prompt=True,
    ),
)
OWN = (".jsonl", ".ndjson")
"""The endings of the tool's own form, which a run is resumed from; a name without any is one, too."""
_MEANT: Mapping[str, str] = {
    ".json": ".jsonl", ".jsonlines": ".jsonl", ".xlsx": ".csv", ".xls": ".csv", ".ods": ".csv", ".tsv": ".csv",
    ".txt": ".jsonl", ".pqt": ".parquet", ".ipc": ".arrow", ".ftr": ".feather",
}  # fmt: skip
"""What somebody who wants another form may be served with."""


_LINES = OutputForm(OWN, "lines:lines_of", "lines:line_rows")
"""The tool's own form, as its shards have it."""
SHARD_SIZE = 100_000
"""How many records a shard has where nobody says."""


def form_of(path: Path) -> OutputForm | None:
    """The form that a name asks for; None for the tool's own, where it is not to be in shards."""
    name = path.name.lower()
    found = next((form for form in FORMS if name.endswith(form.suffixes)), None)
    return _LINES if found is None and is_sharded(path) and name.endswith(OWN) else found


def endings() -> str:
    """The endings of the other forms, in a list."""
    names = [form.suffixes[0] for form in FORMS]
    return ", ".join(names[:-1]) + " or " + names[-1]


def check_ending(path: Path) -> None:
    """Refuses a name that ends like a form that there is not.

    Raises:
        UsageError: With the endings that there are.
    """
    suffix = path.suffix.lower()
    is_stream = path.exists() and not path.is_file()
    is_output = path.with_name(path.name + ".journal").exists()
    if form_of(path) is not None or suffix in ("", *OWN) or is_stream or is_output:
        return
    meant = _MEANT.get(suffix)
    raise UsageError(
        f"{path}: there is no form of output that ends with {suffix}.",
        hint=f"Did you mean {path.stem}{meant}? There are .jsonl, {endings()}."
        if meant
        else f"There are .jsonl, {endings()}.",
    )


def without_ending(path: Path) -> str:
    """A name of another form without what it ends with."""
    form: Any = form_of(path)
    end = next(suffix for suffix in form.suffixes if path.name.lower().endswith(suffix))
    name = path.name[: -len(end)]
    return without_places(name) if is_sharded(path) else name
