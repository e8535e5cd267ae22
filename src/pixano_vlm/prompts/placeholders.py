"""Where in a text the images belong: `<image>`, as files for LLaVA, ShareGPT and ms-swift have it, or a model's own.

Knows no chat template and no tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["IMAGE", "count_images", "split_at_images"]

IMAGE = "<image>"
"""The placeholder that every model's records may use."""


def split_at_images(text: str, placeholders: Sequence[str] = (IMAGE,)) -> Iterator[str | None]:
    """The pieces of a text, in order: strings that are not empty, and None for each place of an image.

    Args:
        text: A user's text.
        placeholders: What is the place of an image; where one is part of another, the longer one counts.
    """
    end = 0
    for match in _pattern(placeholders).finditer(text):
        if match.start() > end:
            yield text[end : match.start()]
        yield None
        end = match.end()
    if end < len(text) or not text:
        yield text[end:]


def count_images(text: str, placeholders: Sequence[str] = (IMAGE,)) -> int:
    """How many places for an image a text has."""
    return len(_pattern(placeholders).findall(text))


def _pattern(placeholders: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(filter(None, placeholders), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
