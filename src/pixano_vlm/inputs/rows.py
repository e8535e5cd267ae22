"""What a manifest is when it is not a plain JSONL file: rows, each as the line that a JSONL manifest would have had.

Because a row is such a line, everything behind it (checks, ids, limits, error records, resuming) knows one form
only. Knows which kinds of source there are, and opens none of them itself.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pixano_vlm.records.request import Origin, Problem

__all__ = ["GivenRow", "Layout", "Problem", "Row", "Rows", "line_of"]


class Row(NamedTuple):
    """One record of a source."""

    number: int
    """What messages call it: the line of a CSV file, the row of a table, the place among images; from 1."""
    text: bytes
    """The line that a JSONL manifest would have, as UTF-8 JSON; of a row with a problem, what is known of it."""
    problem: Problem | None = None
    name: str | None = None
    """The id of a record that has none of its own; None: its number."""
    origin: Origin | None = None
    """Its file, where the source is several."""
    state: bytes | None = None
    """What stands for its text where that is compared: the state of its file, and how it is read."""


class GivenRow(NamedTuple):
    """A row of a table as it was given, for the table of its answers."""

    id: str
    values: Mapping[str, Any]
    """By column; those of images are left out."""
    has_own_id: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What is known of a source before its rows are read."""

    name: str
    """How messages call it."""
    folder: Path | str
    """What relative image paths start from: a folder, or a URL that ends with a slash."""


class Rows(ABC):
    """The rows of one source. Read lazily, as often as wanted, in the same order each time."""

    layout: Layout
    kinds: Mapping[str, str] = {}
    """Of a table, its columns in order: each with `string`, `int64`, `double`, `bool` or `strings`."""
    is_numbered: bool = False
    """Whether its rows are numbered from 1 to their count, which needs no reading."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """The rows from the start.

        Raises:
            OSError: When the source cannot be read.
            ManifestError: When it cannot be made sense of as a whole.
        """

    def rows_after(self, skipped: int) -> Iterator[Row]:
        """The rows behind so many; as `rows`, and quicker where those before need not be read."""
        return islice(self.rows(), skipped, None)

    def outline(self) -> Iterator[Row]:
        """As `rows`; one with a `state` may be without its text, which is then empty."""
        return self.rows()

    def passed_over(self) -> Mapping[str, int]:
        """Of a folder, how many files are not read, by suffix."""
        return {}

    def count(self) -> int | None:
        """How many rows there are; None where counting would mean reading them all from far away."""
        return None

    def given(self) -> Iterator[GivenRow]:
        """Of a table, its rows as they were given."""
        return iter(())


def line_of(values: Mapping[str, Any]) -> bytes:
    """A record's values as the line of a JSONL manifest."""
    # ASCII, so that half a surrogate pair, which names of files may hold, reaches the reader that refuses it.
    return json.dumps(values, ensure_ascii=True, default=str).encode()
