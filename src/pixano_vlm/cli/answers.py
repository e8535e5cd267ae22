"""The first answers of a run, as people read them: which image, and what was said of it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixano_vlm.records.result import Result

__all__ = ["FirstAnswers"]

SHOWN = 3
"""Answers that are shown."""
LONGEST = 300
"""Longest text of one of several answers, in characters."""


class FirstAnswers:
    """Keeps the answers of the first records, in the order of the manifest."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, str, str]] = []
        self._seen = 0

    def add(self, result: Result) -> None:
        """Looks at one result; a failed one has no answer."""
        if result.output is None:
            return
        self._seen += 1
        request = result.request
        if len(self._kept) == SHOWN and request.index > self._kept[-1][0]:
            return
        self._kept.append((request.index, _called(request.id, request.images), result.output.generated_text))
        self._kept = sorted(self._kept)[:SHOWN]

    def lines(self) -> list[str]:
        """One line an answer; a single one as it is."""
        if self._seen == 1:
            (_, name, text), *_ = self._kept
            return [f"{name}: {text.strip()}"]
        return [f"{name}: {_shortened(text)}" for _, name, text in self._kept]


def _called(id: str, images: tuple[str, ...]) -> str:
    """The name of the record's first image, and how many more there are; its id where it has none."""
    if not images:
        return id
    name = images[0] if images[0].startswith("data:") else PurePosixPath(images[0]).name or images[0]
    return f"{name} and {len(images) - 1} more" if len(images) > 1 else name


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
