"""The keys of a manifest line: which there are, what each takes, and what a misspelt one was meant to be.

Knows no file: it is given one key or one value, and says what is wrong in words that need no line number.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from typing import Any

from pixano_vlm.models.deployment import GenerationSettings
from pixano_vlm.prompts.response_format import check_response_format

SETTINGS = frozenset(GenerationSettings.model_fields)
"""Keys that set how to generate."""

FIELDS = frozenset({"prompt", "images", "id", "metadata"}) | SETTINGS
"""Every key that means something on a line."""

ALIASES = {
    "image": "images", "img": "images", "imgs": "images", "pictures": "images",
    "image_path": "images", "image_paths": "images", "image_file": "images", "image_files": "images",
    "image_url": "images", "image_urls": "images",
    "messages": "prompt",
    "max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens", "max_length": "max_new_tokens",
    "max_output_tokens": "max_new_tokens", "num_predict": "max_new_tokens", "n_predict": "max_new_tokens",
    "temp": "temperature", "topp": "top_p", "topk": "top_k", "minp": "min_p",
    "repeat_penalty": "repetition_penalty", "rep_penalty": "repetition_penalty",
    "stop_sequences": "stop", "stop_strings": "stop", "stop_words": "stop",
    "random_seed": "seed", "custom_id": "id",
    "json_schema": "response_format", "guided_json": "response_format",
}  # fmt: skip
"""Names that other tools give to these keys."""

MAX_ID = 1024
"""Longest id, in characters."""


@lru_cache(maxsize=4096)
def suggestion(key: str) -> str | None:
    """The field that an unknown key was most likely meant to be; `None`: it is the caller's own data."""
    if key in FIELDS:
        return None
    plain = key.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in FIELDS:
        return plain
    if plain in ALIASES:
        return ALIASES[plain]
    if len(plain) < 4:
        return None
    close = difflib.get_close_matches(plain, FIELDS, n=1, cutoff=0.83)
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


def _stop(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f"must be a string or a list of strings, none empty, not {_shown(value)}")
    return value


CHECKS: dict[str, Callable[[Any], Any]] = {
    "max_new_tokens": _whole(1, 2**31),
    "temperature": _number(0, 1e6),
    "top_p": _number(0, 1, open_low=True),
    "top_k": _whole(1, 2**31),
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0, 1e6, open_low=True),
    "stop": _stop,
    "seed": _whole(0, 2**63 - 1),
    "response_format": check_response_format,
}
"""Setting -> a function that returns its value, or raises `ValueError` with what is wrong."""


def check_id(value: Any) -> str:
    """A line's own id as a string.

    Raises:
        ValueError: When it is neither a string nor a whole number, is empty or too long.
    """
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
