"""The keys of a manifest line: which there are, what each takes, and what a misspelt one was meant to be.

Knows no file: it is given one key or one value, and says what is wrong in words that need no line number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from typing import Any, get_args, get_origin

from pixano_vlm.models.generation import SETTINGS, GenerationFields
from pixano_vlm.nearest import CERTAIN, nearest
from pixano_vlm.prompts.choices import check_choices
from pixano_vlm.prompts.response_format import check_response_format

FIELDS = frozenset({"prompt", "images", "id", "metadata", *SETTINGS})
"""Every key that means something on a line."""

ALIASES = {
    "image": "images", "img": "images", "imgs": "images", "pictures": "images",
    "image_path": "images", "image_paths": "images", "image_file": "images", "image_files": "images",
    "image_url": "images", "image_urls": "images",
    "messages": "prompt", "custom_id": "id",
} | {alias: name for name, setting in SETTINGS.items() for alias in setting.aliases}  # fmt: skip
"""Names that other tools give to these keys."""

MAX_ID = 1024
"""Longest id, in characters."""
MAX_EXACT = 2**53
"""Up to here, two whole numbers are never one and the same float."""


@lru_cache(maxsize=4096)
def suggestion(key: str) -> str | None:
    """The field that an unknown key was most likely meant to be; `None`: it is the caller's own data."""
    if key in FIELDS:
        return None
    plain = key.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in FIELDS:
        return plain if len(plain) > 1 else None  # `N` is somebody's own
    if plain in ALIASES:
        return ALIASES[plain]
    if len(plain) < 4:
        return None
    close = nearest(plain, FIELDS, 1, likeness=CERTAIN)
    return close[0] if close else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _whole(low: int, high: int) -> Callable[[Any], Any]:
    def check(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise ValueError(f"must be a whole number, not {_shown(value)}")
        if value < low:
            raise ValueError(f"must be {low} or more, not {_shown(value)}")
        if value > high:
            raise ValueError(f"must be at most {high:,}, not {_shown(value)}")
        return value

    return check


def _number(low: float, high: float, *, open_low: bool = False) -> Callable[[Any], Any]:
    def check(value: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise ValueError(f"must be a number, not {_shown(value)}")
        try:
            number = float(value)
        except OverflowError:
            raise ValueError(f"is too large: {_shown(value)}") from None
        if not isfinite(number):
            raise ValueError(f"must be a finite number, not {number}")
        if number < low or (open_low and number == low):
            raise ValueError(f"must be {'above' if open_low else 'at least'} {low:g}, not {number:g}")
        if number > high:
            raise ValueError(f"must be at most {high:g}, not {number:g}")
        return number

    return check


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f"must be a string or a list of strings, none empty, not {_shown(value)}")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_shown(value)}")  # noqa: TRY004 - bad data
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {_shown(value)}")  # noqa: TRY004 - bad data
    return value


def _check_of(name: str) -> Callable[[Any], Any]:
    """The check of one setting, by its type and bounds."""
    if name == "response_format":
        return check_response_format
    if name == "choices":
        return check_choices
    field = GenerationFields.model_fields[name]
    kind = next(kind for kind in get_args(field.annotation) if kind is not type(None))
    bounds: dict[str, float] = {}
    for item in field.metadata:
        bounds |= {at: getattr(item, at) for at in ("ge", "gt", "le", "lt") if hasattr(item, at)}
    low = bounds.get("ge", bounds.get("gt", 0))
    if kind is bool:
        return _truth
    if kind is int:
        return _whole(int(low), int(bounds["lt"]) - 1 if "lt" in bounds else int(bounds.get("le", 2**31)))
    if kind is float:
        return _number(low, bounds.get("le", 1e6), open_low="gt" in bounds)
    if get_origin(kind) is list:
        return _strings
    if get_origin(kind) is dict:
        return _object
    raise AssertionError(f"no check for the setting {name} of type {kind}")


CHECKS: dict[str, Callable[[Any], Any]] = {name: _check_of(name) for name in SETTINGS}
"""Setting -> a function that returns its value, or raises `ValueError` with what is wrong."""


def check_id(value: Any) -> str:
    """A line's own id as a string.

    Raises:
        ValueError: When it is neither a string nor a whole number, is empty or too long.
    """
    if type(value) is float and value.is_integer() and abs(value) <= MAX_EXACT:
        value = int(value)  # as pandas writes a column of numbers with gaps
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"must be a string or a whole number, not {_shown(value)}")  # noqa: TRY004 - bad data
    if not value:
        raise ValueError("must not be empty")
    if len(value) > MAX_ID:
        raise ValueError(f"must be at most {MAX_ID:,} characters long, not {len(value):,}")
    return value


def check_images(value: Any) -> list[str]:
    """A line's images as a list.

    Raises:
        ValueError: When it is neither a string nor a list of strings, or one is empty.
    """
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise ValueError(f"must be a path or URL, or a list of them, not {_shown(value)}")  # noqa: TRY004 - bad data
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"must hold paths or URLs, not {_shown(item)}")  # noqa: TRY004 - bad data
        if not item.strip():
            raise ValueError("must not hold an empty string")
        if "\0" in item:
            raise ValueError(f"must not hold a path with a NUL character: {_shown(item)}")
    return value
