"""What a model's own processor parses out of an answer: places and labels, where it has such a parser.

The parsers are transformers' own, told apart by what they take. Knows no engine and no convention.
"""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from typing import Any

__all__ = ["Postprocessor"]

_TASK = re.compile(r"\s*(<[A-Z0-9_]+>)")


class Postprocessor:
    """One processor's parser.

    Args:
        processor: The model's processor.
    """

    def __init__(self, processor: Any) -> None:
        self._parse = getattr(processor, "post_process_generation", None)
        self._takes: frozenset[str] = frozenset()
        if self._parse is not None:
            self._takes = frozenset(inspect.signature(self._parse).parameters)

    def parsed(self, text: str, prompt: Any, size: tuple[int, int] | None) -> Any:
        """What the parser makes of an answer, as JSON values; None where there is none, or it refuses the answer.

        Args:
            text: The answer, with the special tokens that places are written with.
            prompt: What was asked; a task that it begins with, such as `<OD>`, decides how the answer is parsed.
            size: Width and height of the image, in whose pixels places are wanted.
        """
        if self._parse is None:
            return None
        with suppress(Exception):  # a model's own code over whatever a model may write
            if {"task", "image_size"} <= self._takes and size is not None:
                task = _TASK.match(prompt) if isinstance(prompt, str) else None
                return None if task is None else _plain(self._parse(text=text, task=task[1], image_size=size))
            if "cleanup_and_extract" in self._takes:
                return _plain(self._parse(text))
        return None


def _plain(value: Any) -> Any:
    """Tuples as lists, numbers of arrays as numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.tolist() if hasattr(value, "tolist") else value
