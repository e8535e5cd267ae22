"""Lines of an output, made for tests, and a count of how many of them are held."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from pixano_vlm.records.output_line import LineError, LineUsage, OutputLine


def line(number: int, text: str = "a cat", metadata: dict[str, Any] | None = None) -> OutputLine:
    return OutputLine(
        id=f"r{number}", status="ok", generated_text=text, finish_reason="stop",
        usage=LineUsage(prompt_tokens=9, completion_tokens=3, total_tokens=12), generation_config={"top_k": 5},
        parsed={"kind": "cat", "n": number}, error=None, flags=["cut_off"], attempts=2, model="m",
        images=["a.jpg", "b.jpg"], metadata=metadata or {},
    )  # fmt: skip


def failed(number: int) -> OutputLine:
    return OutputLine(
        id=f"r{number}", status="error", generated_text=None, finish_reason=None, usage=None,
        generation_config=None, parsed=None, error=LineError(type="ImageError", message="gone."), flags=[],
        attempts=1, model="m", images=[], metadata={},
    )  # fmt: skip


class Counted:
    """So many lines, and how many of them were alive at a time."""

    def __init__(self, count: int, text: str = "a cat", metadata: dict[str, Any] | None = None) -> None:
        self.count, self.text, self.metadata = count, text, metadata
        self.alive = self.most = 0

    def __iter__(self) -> Iterator[OutputLine]:
        for number in range(self.count):
            made = line(number, self.text, self.metadata)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(made, self._gone)
            yield made

    def _gone(self) -> None:
        self.alive -= 1
