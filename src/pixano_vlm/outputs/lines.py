"""The tool's own form once more: the lines of an output in a file of their own, as its shards have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixano_vlm.outputs.forms import Answers
from pixano_vlm.records.output_line import as_line, read_line

__all__ = ["line_rows", "lines_of"]


def lines_of(answers: Answers, path: Path) -> None:
    """The lines of a finished output."""
    with path.open("wb") as file:
        for line, _ in answers.rows():
            file.write(as_line(line))


def line_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Each line's id, and the line.

    Raises:
        ValueError: When it is not one.
    """
    with path.open("rb") as file:
        for text in file:
            yield read_line(text).id, text.decode("utf-8", "surrogateescape")
