"""Reads an outputs file: its lines in order, one of them by id, and what they come to in all.

Lenient, because outputs of other versions are shown too: of the keys in `records.output_line` it reads those that
the page shows, it carries unknown ones along, and a line that cannot be read is a record that says so. Nothing but
ids and offsets is kept in memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pixano_vlm.errors import UsageError
from pixano_vlm.models.region import ImageSize, Region
from pixano_vlm.report.offsets import Offsets
from pixano_vlm.validation import first_problem

__all__ = ["OutputFile", "ShownLine", "Totals"]


class Tokens(BaseModel):
    """The counts of one line that the page shows."""

    prompt_tokens: int
    completion_tokens: int


class ShownError(BaseModel):
    """Why a record failed, as the page says it."""

    type: str
    message: str


class ShownLine(BaseModel):
    """One line of an outputs file as the page reads it. Keys beyond these are in `model_extra`."""

    model_config = ConfigDict(extra="allow", strict=True)

    id: str
    status: Literal["ok", "error"]
    generated_text: str | None = None
    usage: Tokens | None = None
    generation_config: dict[str, Any] | None = None
    finish_reason: str | None = None
    parsed: Any = None
    """The JSON value that was asked for; None for free text, and for an answer that is not JSON."""
    attempts: int = 1
    error: ShownError | None = None
    model: str | None = None
    images: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    flags: list[str] = Field(default_factory=list)
    """Quality flags of the answer: that it loops, is empty, is cut off, and the like."""
    regions: list[Region] | None = None
    """Places in the images, in pixels."""
    image_sizes: list[ImageSize] | None = None
    # Of any type: where it is not the one that is expected, the page leaves it out.
    reasoning: Any = None
    reasoning_tokens: Any = None
    confidence: Any = None
    raw_confidence: Any = None
    probabilities: Any = None
    agreement: Any = None
    samples: Any = None


@dataclass(slots=True)
class Totals:
    """What the lines of one file come to."""

    records: int = 0
    ok: int = 0
    flagged: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    models: Counter[str] = field(default_factory=Counter)

    def add(self, line: ShownLine) -> None:
        """Counts one line."""
        self.records += 1
        self.ok += line.status == "ok"
        self.flagged += bool(line.flags)
        if line.usage is not None:
            self.prompt_tokens += line.usage.prompt_tokens
            self.completion_tokens += line.usage.completion_tokens
        if line.model is not None:
            self.models[line.model] += 1


class OutputFile:
    """An outputs file, read once when it is opened and again as often as wanted.

    Args:
        path: What `generate` wrote, complete or not.

    Raises:
        UsageError: When there is none, or it is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.totals = Totals()
        self._offsets = Offsets()
        readable = 0
        for offset, line in self._read():
            self._offsets.add(line.id, offset)
            self.totals.add(line)
            readable += not _is_unreadable(line)
        if self.totals.records and not readable:
            raise UsageError(
                f"{path} is not an output of `pixano-vlm generate`: no line of it has an id and a status.",
                hint=_hint(path),
            )

    def __iter__(self) -> Iterator[tuple[int, ShownLine]]:
        """The lines in the file's order, each with how many of the same id come before it."""
        seen = Offsets()
        for offset, line in self._read():
            yield seen.add(line.id, offset), line

    def find(self, id: str, occurrence: int) -> ShownLine | None:
        """The line of a record, `None` where it has none. Arguments as of `Offsets.find`."""
        offset = self._offsets.find(id, occurrence)
        if offset is None:
            return None
        with _open(self.path) as file:
            file.seek(offset)
            return _parse(file.readline(), id)

    def _read(self) -> Iterator[tuple[int, ShownLine]]:
        offset = 0
        with _open(self.path) as file:
            for number, text in enumerate(file, 1):
                # A last line without its end is one that a run is writing, or was when it was killed.
                if text.strip() and (text.endswith(b"\n") or _is_whole(text)):
                    yield offset, _parse(text, f"line {number}")
                offset += len(text)


UNREADABLE = "UnreadableLine"


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UsageError(f"there is no output {path}.", hint="Give the file that `generate` wrote.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder.", hint=_hint(path)) from None


def _hint(path: Path) -> str:
    """Which file is wanted: beside a table, or named after a folder of images, there may be one."""
    name = path.name.removesuffix(".openai.jsonl")
    beside = (path.with_name(f"{Path(name).stem}.jsonl"), Path(f"{path.resolve().name}.outputs.jsonl"))
    there = next((str(other) for other in beside if other != path and other.is_file()), None)
    return "Give the JSONL file that `generate` wrote" + (f": {there}" if there else ".")


def _is_whole(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parse(text: bytes, name: str) -> ShownLine:
    try:
        return ShownLine.model_validate(json.loads(text))
    except ValidationError as error:
        why = first_problem(error).message().rstrip(".")
    # ValueError: not JSON, or not UTF-8. RecursionError: nested beyond what the parser takes.
    except (ValueError, RecursionError) as error:
        why = str(error)
    return ShownLine(
        id=name,
        status="error",
        error=ShownError(type=UNREADABLE, message=f"This line cannot be read: {why}."),
    )


def _is_unreadable(line: ShownLine) -> bool:
    return line.error is not None and line.error.type == UNREADABLE
