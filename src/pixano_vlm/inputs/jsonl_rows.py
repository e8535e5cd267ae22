"""A JSONL file that is one of several, compressed, or in a store -> rows, one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pixano_vlm.errors import ManifestError
from pixano_vlm.inputs.columns import Reading
from pixano_vlm.inputs.file import BROKEN, InputFile
from pixano_vlm.inputs.preflight import check_manifest_keys
from pixano_vlm.inputs.rows import Layout, Problem, Row, Rows
from pixano_vlm.inputs.rules import MAX_LINE_BYTES

__all__ = ["JsonlRows", "known_of_long_line", "too_long"]

_PIECE = 1 << 20
_BOM = b"\xef\xbb\xbf"
_FIRST_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*("(?:[^"\\]|\\.){0,1024}"|\d{1,15})\s*,')


class JsonlRows(Rows):
    """A JSONL file. Its rows are called by their line, from 1; blank lines are not rows.

    Args:
        file: The file.
        reading: How it is to be read.
    """

    def __init__(self, file: InputFile, reading: Reading | None = None) -> None:
        self.file, self._naming = file, (reading or Reading()).naming
        self.layout = Layout(file.name, file.folder)
        file.head(16)
        self._count: int | None = None

    def rows(self) -> Iterator[Row]:
        """The lines."""
        number = 0
        with self.file.open() as file:
            readline = file.readline
            try:
                while piece := readline(MAX_LINE_BYTES + 1):
                    number += 1
                    if len(piece) > MAX_LINE_BYTES and not piece.endswith(b"\n"):
                        known = known_of_long_line(piece)
                        del piece
                        while (rest := readline(_PIECE)) and not rest.endswith(b"\n"):
                            pass
                        yield Row(number, known, too_long(MAX_LINE_BYTES))
                        continue
                    text = piece.strip()
                    if number == 1 and text.startswith(_BOM):
                        text = text[3:].strip()
                    if text:
                        yield Row(number, text)
            except BROKEN as error:
                raise ManifestError(f"{self.file} cannot be read behind line {number}: {error}.") from error

    def count(self) -> int | None:
        """How many lines there are, keys checked on the way; None where that would mean reading from far away."""
        if self._count is None and self.file.path is not None:
            if self.file.compression is None:
                self._count = check_manifest_keys(self.file.path, self._naming)
            else:
                self._count = sum(1 for _ in self.rows())
        return self._count


def known_of_long_line(piece: bytes) -> bytes:
    """What the beginning of a line that is too long says of its record: its id, where that comes first."""
    match = _FIRST_ID.match(piece[:2048])
    return b"{}" if match is None else b'{"id": ' + match.group(1) + b"}"


def too_long(limit: int) -> Problem:
    """What is wrong with such a line."""
    return Problem(
        f"the line is longer than {limit:,} bytes.", "Name images by path or URL instead of writing them out."
    )
