"""The records of several files, any of them by its place: for a process that reads some files of a manifest.

The records of one file are cheapest in their order; a place further back opens the file again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pixano_vlm.inputs.manifest import line_of_row, parse_line
from pixano_vlm.inputs.rows import Row
from pixano_vlm.inputs.rules import Rules
from pixano_vlm.inputs.shards import Shards
from pixano_vlm.records.request import Request

__all__ = ["ShardReader"]

_OPEN = 2
"""Files that are kept open: one's last records and the next one's first are read side by side."""


class ShardReader:
    """Reads single records.

    Args:
        shards: The files.
        rules: How their records are read.
    """

    def __init__(self, shards: Shards, rules: Rules) -> None:
        self._shards, self._rules = shards.with_whole_paths(), rules
        self._open: dict[int, tuple[int, Iterator[Row]]] = {}
        """File -> the number of its next row, and the rows from there."""

    def request(self, part: int, number: int, record: int) -> Request:
        """The request of a row; its id is compared with no other's.

        Args:
            part: Which file, from 0.
            number: Which of its rows, from 0.
            record: Its place among the records of all files.

        Raises:
            ManifestError: When the file cannot be read.
        """
        following, rows = self._open.pop(part, (0, iter(())))
        if not 0 < following <= number:
            following, rows = number, self._shards.rows_of(part, number)
        row = next(islice(rows, number - following, None), None)
        if row is None:
            raise self._shards.is_shorter(part, number)
        self._open[part] = number + 1, rows
        while len(self._open) > _OPEN:
            del self._open[next(iter(self._open))]
        return parse_line(self._rules, line_of_row((record, row)))
