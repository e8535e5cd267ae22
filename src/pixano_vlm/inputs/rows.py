"""What a manifest is when it is no JSONL file: rows, each as the line that a JSONL manifest would have had.

Because a row is such a line, everything behind it (checks, ids, limits, error records, resuming) knows one form
only. Knows which kinds of source there are, and opens none of them itself.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pixano_vlm.records.request import Problem

__all__ = ["Problem", "Row", "Rows", "line_of"]


class Row(NamedTuple):
    """One record of a source."""

    number: int
    """What messages call it: the line of a CSV file, the row of a table, the place among pictures; from 1."""
    text: bytes
    """The line that a JSONL manifest would have, as UTF-8 JSON; of a row with a problem, what is known of it."""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """What is known of a source before its rows are read."""

    name: str
    """How messages call it."""
    folder: Path
    """What relative image paths start from."""


class Rows(ABC):
    """The rows of one source. Read lazily, as often as wanted, in the same order each time."""

    layout: Layout

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """The rows from the start.

        Raises:
            OSError: When the source cannot be read.
            ManifestError: When it cannot be made sense of as a whole.
        """

    def passed_over(self) -> Mapping[str, int]:
        """Of a folder, how many files are not read, by suffix."""
        return {}

    def count(self) -> int | None:
        """How many rows there are; None where counting would mean reading them all."""
        return None


def line_of(values: Mapping[str, Any]) -> bytes:
    """A record's values as the line of a JSONL manifest."""
    # ASCII, so that half a surrogate pair, which names of files may hold, reaches the reader that refuses it.
    return json.dumps(values, ensure_ascii=True, default=str).encode()
