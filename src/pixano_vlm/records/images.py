"""The former place of `load_image`, for plugin files that were written for it."""

from __future__ import annotations

import warnings
from typing import Any

_MOVED = ("LoadedImage", "load_image")


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"pixano_vlm.records.images.{name} has moved: use `from pixano_vlm import load_image`.",
        DeprecationWarning,
        stacklevel=2,
    )
    from pixano_vlm.media import images

    return getattr(images, name)
