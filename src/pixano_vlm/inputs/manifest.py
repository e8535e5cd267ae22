"""Reads a manifest, lazily: one line, one `Request`. A line that is wrong is a request with an error.

A manifest is a JSONL file, or rows of something else that come as the lines such a file would have.

Knows no model and opens no image; it resolves and confines their paths. Nothing here grows with the manifest:
the ids seen so far go into a `HashTable`, which leaves memory past a few megabytes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO

from pixano_vlm.errors import ManifestError, VLMError
from pixano_vlm.inputs.decode import DECODER
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.jsonl_rows import known_of_long_line, too_long
from pixano_vlm.inputs.line_parser import LineParser
from pixano_vlm.inputs.naming import Naming
from pixano_vlm.inputs.pages import Pages
from pixano_vlm.inputs.rows import Row, Rows
from pixano_vlm.inputs.rules import MAX_LINE_BYTES, Rules
from pixano_vlm.media.stamps import FileStamp
from pixano_vlm.models.generation import GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.records.request import Line, Request, hash_id

__all__ = ["Manifest", "line_of_row", "parse_line"]

_PIECE = 1 << 20
_BOM = b"\xef\xbb\xbf"


class Manifest:
    """A manifest and how to read it. Iterating yields its requests, again from the start each time.

    Args:
        source: A JSONL file; None or `-` for standard input, which can be iterated once.
        rows: Read instead of a JSONL file.
        stream: Read instead of standard input.
        name: How messages call it; None: as the file or the rows are called.
        settings: Flags over the model's config over defaults; a line's own values win over these.
        limits: What a record may name and ask for.
        run_seed: Seeds of sampled records that give none are derived from it and their id.
        base_dir: What relative image paths start from; None: the manifest's folder, or the current one.
        max_line_bytes: A longer line is an error record and never held in memory.
        pages: What is read of an image with several pages; `each` is for rows, which `PageRows` makes.
        naming: What keys are called, where they do not have the tool's own names.
        system: A system turn for every record that has none of its own.
        with_prompt: Whether a request keeps what was asked for the output.

    Raises:
        ManifestError: When the file is missing or is not a file that can be read.
    """

    def __init__(
        self,
        source: Path | None,
        *,
        rows: Rows | None = None,
        stream: IO[bytes] | None = None,
        name: str | None = None,
        settings: GenerationSettings | None = None,
        limits: Limits | None = None,
        run_seed: int | None = None,
        base_dir: Path | None = None,
        max_line_bytes: int = MAX_LINE_BYTES,
        pages: Pages = "first",
        naming: Naming | None = None,
        system: str | None = None,
        with_prompt: bool = False,
    ) -> None:
        self.source = None if source is None or str(source) == "-" else source
        self.rows = rows
        self._stream = stream
        called = "standard input" if self.source is None else self.source.name
        folder: Path | str = Path() if self.source is None else self.source.parent
        if rows is not None:
            called, folder = rows.layout.name, rows.layout.folder
        self.rules = Rules(
            name or called,
            base_dir or folder,
            settings or GenerationSettings(),
            limits or Limits(),
            run_seed or 0,
            max_line_bytes,
            run_seed is not None,
            pages,
            naming or Naming(),
            system,
            with_prompt,
        )
        self.ids = HashTable()
        self._expected_ids = 0
        self._last_taken = -1
        self._reading: tuple[int, Iterator[Line]] | None = None
        """Where `whole` is: the next record, and the lines from there."""
        self._spool: IO[bytes] | None = None
        if self.source is not None and rows is None:
            _check_source(self.source)

    @property
    def seekable(self) -> bool:
        """Whether it can be read more than once."""
        if self.rows is not None:
            return True
        return self._spool is not None or (self.source is not None and self.source.is_file())

    def __iter__(self) -> Iterator[Request]:
        self.ids.close()
        self.ids, self._last_taken = HashTable(expected=self._expected_ids), -1
        return map(self.parse, self.lines())

    def lines(self, after: Line | None = None) -> Iterator[Line]:
        """The records as bytes: blank lines skipped, too long ones without their text.

        Args:
            after: Start behind this line of an earlier reading.

        Raises:
            ManifestError: When reading fails.
        """
        with ExitStack() as stack:
            if self._spool is not None:
                self._spool.seek(0)
            try:
                if self.rows is not None:
                    yield from self._rows(self.rows, after)
                else:
                    yield from self._lines(self._spool or self._open(stack), after)
            except OSError as error:
                raise ManifestError(
                    f"{self.source or self.rules.name} cannot be read: {error.strerror}."
                ) from error

    def _open(self, stack: ExitStack) -> IO[bytes]:
        if self.source is None:
            return self._stream or sys.stdin.buffer
        return stack.enter_context(self.source.open("rb", buffering=_PIECE))

    def _rows(self, rows: Rows, after: Line | None) -> Iterator[Line]:
        first = 0 if after is None else after.record + 1
        return map(line_of_row, enumerate(rows.rows_after(first) if first else rows.rows(), first))

    def outline(self) -> Iterator[Line]:
        """As `lines`; of files that are as they were, those that say so themselves, the text may be empty.

        Raises:
            ManifestError: When reading fails.
        """
        return self.lines() if self.rows is None else map(line_of_row, enumerate(self.rows.outline()))

    def whole(self, line: Line) -> Line:
        """A line of `outline` with its text; cheapest in the manifest's order."""
        if line.text or self.rows is None:
            return line
        record, rest = self._reading or (line.record + 1, iter(()))
        if record > line.record:
            record, rest = line.record, self.lines(line._replace(record=line.record - 1))
        found = next(islice(rest, line.record - record, None), line)
        self._reading = (line.record + 1, rest)
        return found

    def _lines(self, file: IO[bytes], after: Line | None) -> Iterator[Line]:
        index, number, offset = 0, 0, 0
        if after is not None:
            file.seek(after.offset)
            index, number, offset = after.record, after.number - 1, after.offset
        limit = self.rules.max_line_bytes
        readline, new = file.readline, tuple.__new__
        while piece := readline(limit + 1):
            start, number = offset, number + 1
            offset += len(piece)
            if len(piece) > limit and not piece.endswith(b"\n"):
                digest, known = blake2b(piece, digest_size=16), known_of_long_line(piece)
                del piece
                while rest := readline(_PIECE):
                    offset += len(rest)
                    digest.update(rest)
                    if rest.endswith(b"\n"):
                        break
                # What is known of it, its id, is said with its error.
                line = Line(index, number, known, digest.digest(), start, too_long(limit))
            else:
                text = piece.strip()
                if not index and self._stream is None and text.startswith(b"[") and text[1:2] != b'"':
                    raise ManifestError(
                        f"{self.rules.name} is a JSON list, not one object per line.",
                        hint="Put it through: jq -c '.[]'",
                    )
                if number == 1 and text.startswith(_BOM):
                    text = text[3:].strip()
                if not text:
                    continue
                line = new(
                    Line,
                    (index, number, text, blake2b(text, digest_size=16).digest(), start, None, None, None),
                )
            if after is None or number > after.number:
                yield line
            index += 1

    def parse(self, line: Line, *, register: bool = True) -> Request:
        """One line as a request; never raises for what the line holds.

        Args:
            line: In order, each once, so that the second of two equal ids is the wrong one.
            register: False to look at a line ahead of its turn: its id is neither kept nor compared.
        """
        request = parse_line(self.rules, line, self.takes_id if register else None)
        if register and request.error is not None:
            self.takes_id(line, request.id_hash or hash_id(request.id))  # it is in the output, too
        return request

    def parse_refused(self, line: Line) -> Request:
        """The request with the error that it has where an earlier line has its id."""
        return parse_line(self.rules, line, lambda line, id_hash: False)

    def takes_id(self, line: Line, id_hash: int) -> bool:
        """Whether the id is the line's: no earlier one has it. Asking twice for one line in a row is the same."""
        if self._last_taken == line.record:
            return True
        if not self.ids.add(id_hash):
            return False
        self._last_taken = line.record
        return True

    def expect_ids(self, count: int) -> None:
        """Says before the first line is parsed how many ids there may be, which saves the table its growing."""
        self._expected_ids = count
        self.ids.close()
        self.ids = HashTable(expected=count)

    def close(self) -> None:
        """Frees the temporary files, where there are some."""
        self.ids.close()
        if self._spool is not None:
            self._spool.close()

    def spool(self) -> None:
        """Copies standard input to a temporary file, to its end, so that it can be read more than once."""
        if not self.seekable:
            self._spool = tempfile.TemporaryFile(prefix="pixano-vlm-")  # noqa: SIM115 - lives as long as this
            with ExitStack() as stack:
                shutil.copyfileobj(self._open(stack), self._spool, _PIECE)

    def stamps(self, line: Line) -> tuple[FileStamp, ...]:
        """The local image files of a line that was parsed without error before, as they are now."""
        parser = LineParser(self.rules, line)
        parser.read_sources(DECODER.decode((line.text or b"").decode()))
        return tuple(parser.files)


def parse_line(rules: Rules, line: Line, takes_id: Callable[[Line, int], bool] | None = None) -> Request:
    """One line as a request; never raises for what the line holds.

    Args:
        rules: Those of the manifest.
        line: The line, with its text.
        takes_id: Whether the line may have an id, given the 64 bits of it; None: any.
    """
    parser = LineParser(rules, line, takes_id)
    try:
        return parser.read()
    except VLMError as error:
        where = parser.request().where
        return parser.request(error=type(error)(f"{where}: {error.message}", hint=error.hint))


def line_of_row(numbered: tuple[int, Row]) -> Line:
    """A row of a source as a record, given its place among the records."""
    index, (number, text, problem, name, origin, state) = numbered
    # An id that is not in the text is hashed with it: a row that moves has another one.
    hashed = (text if problem is None else text + repr(problem).encode()) if state is None else state
    hashed = hashed if name is None else hashed + name.encode("utf-8", "surrogatepass")
    raw = blake2b(hashed, digest_size=16).digest()
    return Line(index, number, text, raw, index, problem, name, origin)


def _check_source(source: Path) -> None:
    if not source.exists():
        raise ManifestError(
            f"there is no manifest {source}.", hint="Give a JSONL file, or - for standard input."
        )
    if source.is_dir():
        raise ManifestError(f"{source} is a folder.", hint="Give a JSONL file, one record per line.")
    if not os.access(source, os.R_OK):
        raise ManifestError(f"{source} may not be read.", hint="Check its permissions.")
