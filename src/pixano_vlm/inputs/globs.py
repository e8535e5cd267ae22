"""Patterns of names, such as `photos/*.jpg`."""

from __future__ import annotations

import os
import re

from pixano_vlm.media.stores import is_store_url

__all__ = ["MAGIC", "glob_folder", "is_glob"]

MAGIC = re.compile(r"[*?\[]")


def is_glob(source: str) -> bool:
    """Whether it is a pattern, rather than the name of something that is there."""
    return bool(MAGIC.search(source)) and (is_store_url(source) or not os.path.lexists(source))


def glob_folder(pattern: str) -> str:
    """The part of a pattern before its first magic character: the folder that its matches lie in."""
    head = pattern[: MAGIC.search(pattern).start()]  # type: ignore[union-attr]  # a glob has one
    return os.path.dirname(head) or "."  # noqa: PTH120 - a piece of a pattern is not a path
