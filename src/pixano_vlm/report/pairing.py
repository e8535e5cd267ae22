"""Brings the lines of one or two outputs together: one record, its answer in each.

Knows no prompt and no image. What counts as the same answer is decided here and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pixano_vlm.report.answers import OutputFile, ShownLine

__all__ = ["Pair", "Verdict", "pairs", "verdicts"]

Verdict = Literal["same", "different", "only first", "only second"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One record and its lines, one for each output; `None` where an output has none."""

    id: str
    occurrence: int
    """How many records of the same id come before it."""
    lines: tuple[ShownLine | None, ...]

    @property
    def first(self) -> ShownLine:
        """The line of the first output that has one."""
        return next(line for line in self.lines if line is not None)

    @property
    def verdict(self) -> Verdict | None:
        """How the two answers compare; `None` when only one output is shown."""
        if len(self.lines) < 2:
            return None
        one, other = self.lines
        if one is None or other is None:
            return "only second" if one is None else "only first"
        # Two failures are the same when they are of the same type: messages name files and places.
        same = (
            one.generated_text == other.generated_text
            if one.status == other.status == "ok"
            else one.status == other.status and _type(one) == _type(other)
        )
        return "same" if same else "different"


def _type(line: ShownLine) -> str | None:
    return line.error.type if line.error is not None else None


def pairs(files: Sequence[OutputFile]) -> Iterator[Pair]:
    """Every record of the outputs: the first one's in its order, then what only the second has."""
    first, *others = files
    for occurrence, line in first:
        yield Pair(line.id, occurrence, (line, *(file.find(line.id, occurrence) for file in others)))
    for other in others:
        for occurrence, line in other:
            if first.find(line.id, occurrence) is None:
                yield Pair(line.id, occurrence, (None, line))


def verdicts(files: Sequence[OutputFile]) -> Counter[Verdict]:
    """How many records compare how, over whole outputs."""
    return Counter(pair.verdict for pair in pairs(files) if pair.verdict is not None)
