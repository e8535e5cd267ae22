"""What a misspelt name was most likely meant to be: names of any kind, and files and folders."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

__all__ = ["CERTAIN", "did_you_mean", "nearest", "nearest_path"]

ALIKE = 0.5
"""How alike two names are, from 0 to 1, for one to be suggested instead of the other."""
CERTAIN = 0.83
"""... for a name to be refused as a misspelt one, where any other name is allowed."""

MOST_FILES = 10_000
"""Most files of a folder among which a misspelt one is looked for."""


def nearest(name: str, known: Iterable[str], count: int = 3, *, likeness: float = ALIKE) -> list[str]:
    """The known names that look most like `name`, best first, letter case ignored.

    Args:
        name: What was written.
        known: What there is.
        count: Most names to return.
        likeness: How alike they are at least.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=likeness)
    return [by_lower[match] for match in matches]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """`Did you mean 'x'?` for the nearest known name; None where none is near."""
    close = nearest(name, known, 1)
    return f"Did you mean {close[0]!r}?" if close else None


def nearest_path(path: str | os.PathLike[str]) -> str | None:
    """`Did you mean photos/a.jpg?` for a path that does not exist; None where nothing near is beside it.

    The first folder of the path that does not exist is taken as the misspelt one. What lies behind it is kept where
    that exists, too.
    """
    head, missing, rest = _split_at_missing(os.fspath(path))
    close = nearest(missing, _names_in(head), likeness=0.6) if missing else []
    for name in close:
        found = os.path.join(head, name)  # noqa: PTH118 - the path is shown as it was written
        whole = os.path.join(found, rest) if rest else found  # noqa: PTH118
        if os.path.exists(whole):  # noqa: PTH110
            return f"Did you mean {whole}?"
    return None


def _split_at_missing(path: str) -> tuple[str, str, str]:
    """The part that exists, the first name that does not, and the rest."""
    head, rest = path.rstrip(os.sep), ""
    while head:
        above, name = os.path.split(head)
        if not name:
            break
        if os.path.isdir(above or "."):  # noqa: PTH112
            return above, name, rest
        head, rest = above, os.path.join(name, rest) if rest else name  # noqa: PTH118
    return "", "", ""


def _names_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder or ".") as found:
            return [entry.name for entry, _ in zip(found, range(MOST_FILES), strict=False)]
    except OSError:
        return []
