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
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from pixano_vlm.errors import ManifestError, VLMError
from pixano_vlm.inputs.decode import DECODER
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.line_parser import Draft
from pixano_vlm.inputs.openai_batch import from_batch_request, is_batch_request
from pixano_vlm.inputs.rows import Rows
from pixano_vlm.models.generation import DEFAULT_GENERATION, GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.prompts.messages import map_images
from pixano_vlm.records.content_key import settings_text
from pixano_vlm.records.request import FileStamp, Line, Request, place

__all__ = ["MAX_LINE_BYTES", "Line", "Manifest", "Request", "read_manifest"]

MAX_LINE_BYTES = 32 * 2**20
"""Longest line read, in bytes: room for a picture of 24 MB written out as a data URL."""

_PIECE = 1 << 20
_BOM = b"\xef\xbb\xbf"


class Manifest:
    """A manifest and how to read it. Iterating yields its requests, again from the start each time.

    Args:
        source: A JSONL file; None or `-` for standard input, which can be iterated once.
        rows: Read in place of a JSONL file.
        stream: Read in place of standard input.
        settings: Flags over the model's config over defaults; a line's own values win over these.
        limits: What a record may name and ask for.
        run_seed: Seeds of sampled records that give none are derived from it and their id.
        base_dir: What relative image paths start from; None: the manifest's folder, or the current one.
        max_line_bytes: A longer line is an error record and never held in memory.

    Raises:
        ManifestError: When the file is missing or is not a file that can be read.
    """

    def __init__(
        self,
        source: Path | None,
        *,
        rows: Rows | None = None,
        stream: IO[bytes] | None = None,
        settings: GenerationSettings | None = None,
        limits: Limits | None = None,
        run_seed: int | None = None,
        base_dir: Path | None = None,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.source = None if source is None or str(source) == "-" else source
        self.rows = rows
        self._stream = stream
        self.settings = (settings or GenerationSettings()).over(DEFAULT_GENERATION)
        self.limits = limits or Limits()
        self.run_seed = run_seed or 0
        self.max_line_bytes = max_line_bytes
        self.name = "standard input" if self.source is None else self.source.name
        folder = base_dir or (Path() if self.source is None else self.source.parent)
        if rows is not None:
            self.name, folder = rows.layout.name, base_dir or rows.layout.folder
        self.base_dir = os.path.realpath(folder)
        self.root = None if self.limits.image_root is None else os.path.realpath(self.limits.image_root)
        self.defaults = self.settings.model_dump(exclude_none=True)
        self.ids = HashTable()
        self._last_taken = -1
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
        self.ids, self._last_taken = HashTable(), -1
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
                    f"{self.source or self.name} cannot be read: {error.strerror}."
                ) from error

    def _open(self, stack: ExitStack) -> IO[bytes]:
        if self.source is None:
            return self._stream or sys.stdin.buffer
        return stack.enter_context(self.source.open("rb", buffering=_PIECE))

    def _rows(self, rows: Rows, after: Line | None) -> Iterator[Line]:
        limit, first = self.max_line_bytes, 0 if after is None else after.record + 1
        for index, (number, text, problem) in enumerate(rows.rows()):
            if index >= first:
                raw = blake2b(
                    text if problem is None else text + repr(problem).encode(), digest_size=16
                ).digest()
                yield Line(index, number, text if len(text) <= limit else None, raw, index, problem)

    def _lines(self, file: IO[bytes], after: Line | None) -> Iterator[Line]:
        index, number, offset = 0, 0, 0
        if after is not None:
            file.seek(after.offset)
            index, number, offset = after.record, after.number - 1, after.offset
        limit = self.max_line_bytes
        readline, new = file.readline, tuple.__new__
        while piece := readline(limit + 1):
            start, number = offset, number + 1
            offset += len(piece)
            if len(piece) > limit and not piece.endswith(b"\n"):
                digest = blake2b(piece, digest_size=16)
                del piece
                while rest := readline(_PIECE):
                    offset += len(rest)
                    digest.update(rest)
                    if rest.endswith(b"\n"):
                        break
                line = Line(index, number, None, digest.digest(), start)
            else:
                text = piece.strip()
                if number == 1 and text.startswith(_BOM):
                    text = text[3:].strip()
                if not text:
                    continue
                line = new(Line, (index, number, text, blake2b(text, digest_size=16).digest(), start, None))
            if after is None or number > after.number:
                yield line
            index += 1

    def parse(self, line: Line, *, register: bool = True) -> Request:
        """One line as a request; never raises for what the line holds.

        Args:
            line: In order, each once, so that the second of two equal ids is the wrong one.
            register: False to look at a line ahead of its turn: its id is neither kept nor compared.
        """
        draft = Draft(self, line, register)
        try:
            return draft.read()
        except VLMError as error:
            where = place(self.name, line.number, draft.id if draft.id_hash else None)
            return draft.request(error=type(error)(f"{where}: {error.message}", hint=error.hint))

    def context(self) -> dict[str, Any]:
        """Everything beside a line itself that goes into its request, as JSON values."""
        return {
            "settings": settings_text(self.settings),
            "run_seed": self.run_seed,
            "limits": repr(self.limits),
            "base_dir": self.base_dir,
        }

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
        values = DECODER.decode((line.text or b"").decode())
        if is_batch_request(values):
            values = from_batch_request(values)
        draft = Draft(self, line, False)
        draft.read_images(values.get("images"))
        if isinstance(values["prompt"], list):
            map_images(values["prompt"], draft.resolve)
        return tuple(draft.files)

    def derived_seed(self, id: str) -> int:
        """The seed of a sampled record that gives none: always the same for a run's seed and an id."""
        digest = blake2b(f"{self.run_seed}\0{id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1


def read_manifest(
    source: Path | None,
    *,
    stream: IO[bytes] | None = None,
    settings: GenerationSettings | None = None,
    limits: Limits | None = None,
    run_seed: int | None = None,
    base_dir: Path | None = None,
) -> Iterator[Request]:
    """The requests of a manifest, lazily. Arguments as of `Manifest`."""
    return iter(
        Manifest(
            source, stream=stream, settings=settings, limits=limits, run_seed=run_seed, base_dir=base_dir
        )
    )


def _check_source(source: Path) -> None:
    if not source.exists():
        raise ManifestError(
            f"there is no manifest {source}.", hint="Give a JSONL file, or - for standard input."
        )
    if source.is_dir():
        raise ManifestError(f"{source} is a folder.", hint="Give a JSONL file, one record a line.")
    if not os.access(source, os.R_OK):
        raise ManifestError(f"{source} may not be read.", hint="Check its permissions.")
