"""The forms of outputs: what a file's name ends with -> what writes it, and the package that it needs.

A new form is a row here and the function that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixano_vlm.errors import UsageError
from pixano_vlm.extras import pyarrow_parquet

if TYPE_CHECKING:
    from pixano_vlm.outputs.table_columns import Given
    from pixano_vlm.records.output_line import OutputLine

__all__ = ["FORMS", "OWN", "Answers", "Form", "check_ending", "endings", "form_of"]


class Answers:
    """A finished output and what goes beside its answers in a table. Iterated as often as wanted.

    Args:
        path: The output.
        given: The columns of the input, where it has any.
        keys: The keys that every answer in JSON was to have, in their order.
    """

    def __init__(self, path: Path, given: Given | None = None, keys: Sequence[str] = ()) -> None:
        self.path, self.given, self.keys = path, given, tuple(keys)

    def __iter__(self) -> Iterator[OutputLine]:
        from pixano_vlm.records.output_line import OutputLine

        with self.path.open("rb") as file:
            for line in file:
                yield OutputLine.model_validate_json(line)


@dataclass(frozen=True, slots=True)
class Form:
    """One form of output that is made of a finished one."""

    suffixes: tuple[str, ...]
    writer: str
    """The function that writes it, `module:function` of this folder; imported when it is used."""
    reader: str
    """The function that reads it back, likewise: each record's id, and what is written of it as text."""
    check: Callable[[], object] = field(default=lambda: None)
    """Raises `MissingPackageError` when what writes it is not installed."""

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
    Form((".csv",), "tables:csv_of", "tables:csv_rows"),
    Form((".parquet", ".pq"), "tables:parquet_of", "tables:parquet_rows", pyarrow_parquet),
    Form((".openai.jsonl",), "openai_batch:batch_of", "openai_batch:batch_rows"),
)
OWN = (".jsonl", ".ndjson")
"""The endings of the tool's own form, which a run is resumed from; a name without any is one, too."""
_MEANT: Mapping[str, str] = {
    ".json": ".jsonl", ".jsonlines": ".jsonl", ".xlsx": ".csv", ".xls": ".csv", ".ods": ".csv", ".tsv": ".csv",
    ".txt": ".jsonl", ".arrow": ".parquet", ".feather": ".parquet", ".pqt": ".parquet",
}  # fmt: skip
"""What somebody who wants another form may be served with."""


def form_of(path: Path) -> Form | None:
    """The form that a name asks for; None for the tool's own."""
    name = path.name.lower()
    return next((form for form in FORMS if name.endswith(form.suffixes)), None)


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
    return path.name[: -len(end)]
