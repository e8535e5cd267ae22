"""What a history knows of its records: their contents, which were asked, and which answers may never be lost.

What a record asks is its content: its prompt, the bytes of its image and its limit of tokens. The prompts of one
manifest all differ, so a prompt leads to the content wherever a request is seen.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import NamedTuple

from tests.simulate.world import Violation, VirtualClock

from pixano_vlm.outputs import jsonl

__all__ = ["Content", "Ledger"]

SLACK = 0.1
"""Seconds that a sync may be late."""


class Content(NamedTuple):
    """What a record asks."""

    prompt: str
    image: int | None
    """Which bytes its image has; None where it has none."""
    max_new_tokens: int

    @property
    def text(self) -> str:
        """The answer to it, by whatever engine."""
        return blake2b(repr(tuple(self)).encode(), digest_size=6).hexdigest()


class Ledger:
    """What happened so far in one history."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.contents: dict[str, Content] = {}
        """By prompt, of the manifest as it is now."""
        self.safe: set[Content] = set()
        """Answered for good: neither a kill nor a power cut may lose these."""
        self.written: dict[Content, float] = {}
        """Answered, and when that was written: no kill may lose these."""
        self.asked: set[Content] = set()
        """In this run."""
        self.violations: list[str] = []
        """Noted as well as raised, since an engine may take what is raised for a failure of its own."""

    def begin(self, contents: dict[str, Content]) -> None:
        """A run begins over these records; answers of others may go."""
        self.contents, self.asked = contents, set()
        there = set(contents.values())
        self.safe &= there
        self.written = {content: when for content, when in self.written.items() if content in there}

    def violate(self, what: str) -> None:
        """Something that must never happen has happened."""
        self.violations.append(what)
        raise Violation(what)

    def ask(self, prompt: str, *, again: bool = False) -> Content:
        """A model is asked.

        Args:
            prompt: What the record asks.
            again: Whether the run may have asked already, without an answer.
        """
        content = self.contents[prompt]
        if content in self.safe or content in self.written:
            self.violate(f"{content} was asked again, although its answer was written")
        if content in self.asked and not again:
            self.violate(f"{content} was asked twice in one run")
        self.asked.add(content)
        return content

    def answered(self, prompt: str) -> None:
        """An answer was written, and handed out."""
        self.written[self.contents[prompt]] = self.clock.now()

    def opened(self) -> None:
        """Resuming has synced what is there."""
        self.safe |= self.written.keys()

    def forget(self) -> None:
        """The run is to replace everything."""
        self.safe.clear()
        self.written.clear()

    def ended(self, failed_at: float | None) -> None:
        """The process is gone without having synced at its end: what it wrote in its last second is not safe yet.

        Args:
            failed_at: When the disk first failed, where it did: nothing was synced after that.
        """
        last = self.clock.now() if failed_at is None else failed_at
        until = last - jsonl.SYNC_SECONDS - SLACK
        self.safe |= {content for content, when in self.written.items() if when <= until}
        self.written = dict.fromkeys(self.written, math.inf)

    def lose_power(self) -> None:
        """What is not safe may be lost."""
        self.written.clear()
