"""The pages of a file that holds more than one image.

A page is what a person would call one: a frame of an animation, a page of a TIFF file, an image of a HEIC file. The
smaller copies that files carry of an image, and what cameras put behind it, are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from PIL import Image

from pixano_vlm.errors import ImageError

__all__ = ["MOST_PAGES", "frames_of", "no_such_page"]

MOST_PAGES = 10_000
"""Pages of one file that are counted."""

_UNREADABLE = (OSError, SyntaxError, ValueError, KeyError, TypeError)
_SUBFILE, _OLD_SUBFILE = 254, 255
_SMALLER_OR_MASK = 0b101
_OLD_SMALLER = 2
_MP_ENTRIES = 0xB002
_MULTI_FRAME = "Multi-Frame"


def no_such_page(name: str, page: int, pages: int) -> ImageError:
    """The error for a page that a file does not have."""
    has = f"{pages:,} pages" if pages != 1 else "one page"
    return ImageError(f"{name} has {has}, and page {page:,} was asked for.", hint="Pages count from 1.")


def frames_of(image: Image.Image) -> Sequence[int]:
    """For each page of an opened file, the frame that Pillow has it in. Decodes none."""
    if image.format == "TIFF":
        return _tiff_frames(image)
    if image.format == "MPO":
        return _camera_frames(image)
    frames = min(int(getattr(image, "n_frames", 1)), MOST_PAGES)
    first = image.tell()
    return range(frames) if first == 0 else [first, *(at for at in range(frames) if at != first)]


def _tiff_frames(image: Any) -> Sequence[int]:
    first = image.tell()
    pages: list[int] = []
    for frame in range(MOST_PAGES):
        try:
            image.seek(frame)
        except EOFError:
            break
        # A page that Pillow cannot make sense of is a page, which says so when its turn comes.
        except _UNREADABLE:
            if image.tell() != frame:
                pages.append(frame)
                break
        if not _is_smaller_copy(image.tag_v2):
            pages.append(frame)
    with suppress(EOFError, *_UNREADABLE):
        image.seek(first)
    return pages or [0]


def _is_smaller_copy(tags: Any) -> bool:
    """Whether a TIFF's image is a smaller copy of another one, or a mask."""
    kind = tags.get(_SUBFILE)
    if isinstance(kind, int):
        return bool(kind & _SMALLER_OR_MASK)
    return bool(tags.get(_OLD_SUBFILE) == _OLD_SMALLER)


def _camera_frames(image: Any) -> Sequence[int]:
    """Of a camera's file: views of one scene are pages; previews and maps of brightness are not."""
    entries = (image.mpinfo or {}).get(_MP_ENTRIES) or []
    pages = [0]
    for frame, entry in enumerate(entries):
        kind = str(entry.get("Attribute", {}).get("MPType", ""))
        if frame and kind.startswith(_MULTI_FRAME):
            pages.append(frame)
    return pages[:MOST_PAGES]
