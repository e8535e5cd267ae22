"""What went wrong in a model class of someone else's, in one sentence: their file and line, and what was raised.

Knows classes and tracebacks; decides nothing.
"""

from __future__ import annotations

import inspect
import os
import traceback
from pathlib import Path

from pydantic import ValidationError

from pixano_vlm.validation import first_problem

__all__ = ["place_in", "raised"]

_OWN = os.fspath(Path(__file__).parents[1]) + os.sep
"""The folder of this package: its classes are not someone else's."""


def raised(error: BaseException, owner: type) -> str:
    """`my_model.py:12: KeyError: 'path'`: where in the owner's code it was raised, and what.

    Args:
        error: With its traceback.
        owner: The class whose method was called.
    """
    if isinstance(error, ValidationError):
        what = f"{error.title}: {first_problem(error).message().rstrip('.')}"
    else:
        text = " ".join(str(error).split())
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{place_in(owner, error)}{what}"


def place_in(owner: type, error: BaseException) -> str:
    """`file:line: ` of the owner's innermost line that it came through; empty for this package's classes."""
    files = _files_of(owner)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return "".join(f"{_shown(frame.filename)}:{frame.lineno}: " for frame in frames[-1:])


def _files_of(owner: type) -> set[str]:
    """The files that hold the code of a class and of those above it, this package's aside."""
    files = set()
    for cls in owner.__mro__:
        for value in vars(cls).values():
            code = getattr(inspect.unwrap(value), "__code__", None) if callable(value) else None
            if code is not None and not code.co_filename.startswith(_OWN):
                files.add(code.co_filename)
    return files


def _shown(file: str) -> str:
    """A path as it can be opened from here."""
    path, here = Path(file), Path.cwd()
    return os.fspath(path.relative_to(here)) if path.is_relative_to(here) else file
