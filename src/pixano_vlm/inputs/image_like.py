"""Whether a value of somebody's own looks like an image: so that none is left out without a word."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from pixano_vlm.media.formats import extra_of, readable_suffixes

__all__ = ["image_key", "looks_like_image"]

_MOST = 4096
"""Longest text that is looked at as a path or URL."""
_MOST_VALUES, _DEEPEST = 50, 3
"""How many values of an object are looked at, and how many objects deep."""
_BASE64 = re.compile(r"(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk[01]|SUkq|TU0A)[A-Za-z0-9+/=_-]{60}")
"""How the base64 of JPEG, PNG, GIF, WebP, BMP and TIFF files begins."""
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def looks_like_image(value: Any, depth: int = 0) -> bool:
    """Whether it is the path, URL, base64 or bytes of an image, or an object or a list that holds one."""
    if isinstance(value, str):
        if _BASE64.match(value) or value[:11].lower() == "data:image/":
            return True
        if not 4 < len(value) <= _MOST or value[-1].isspace() or "\n" in value:
            return False
        if "://" in value:
            try:
                value = urlsplit(value).path
            except ValueError:
                return False
        name, suffix = os.path.splitext(value)  # noqa: PTH122 - any text, not a Path
        suffix = suffix.lower()
        return bool(name) and (suffix in readable_suffixes() or extra_of(suffix) is not None)
    if isinstance(value, bytes):
        return value.startswith(_MAGIC)
    if isinstance(value, Mapping):
        if value.keys() == {"bytes", "path"}:
            return any(held is not None for held in value.values())
        held = islice(value.values(), _MOST_VALUES)
        return depth < _DEEPEST and any(looks_like_image(inner, depth + 1) for inner in held)
    return isinstance(value, list) and bool(value) and looks_like_image(value[0], depth)


def image_key(values: Mapping[str, Any]) -> str | None:
    """The first key whose value looks like an image."""
    return next((key for key, value in values.items() if looks_like_image(value)), None)
