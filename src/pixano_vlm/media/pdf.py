"""Pages of a PDF document -> images, by pypdfium2 (extra `pdf`). Knows no page but the one that is asked for."""

from __future__ import annotations

import math
import threading
from importlib import import_module
from typing import Any

from PIL import Image

from pixano_vlm.errors import ImageError
from pixano_vlm.media.pages import no_such_page
from pixano_vlm.models.limits import Limits

__all__ = ["RESOLUTION", "count_pdf_pages", "render_page"]

RESOLUTION = 150
"""Dots per inch that a page is drawn with; fewer where the limit of pixels asks for it."""
_POINTS_PER_INCH = 72
_PDFIUM = threading.Lock()
"""PDFium may be used by one thread at a time."""


def count_pdf_pages(data: bytes, name: str) -> int:
    """How many pages a document has.

    Raises:
        ImageError: When it cannot be opened.
    """
    with _PDFIUM, _open(data, name) as document:
        return len(document)


def render_page(data: bytes, limits: Limits, name: str, page: int) -> tuple[Image.Image, int]:
    """Draws one page on white.

    Args:
        data: The document.
        limits: `max_image_pixels`: a larger page is drawn with fewer dots per inch.
        name: What messages call it.
        page: Which, from 1.

    Returns:
        The page as an RGB image, and how many pages there are.

    Raises:
        ImageError: When it cannot be opened or drawn, or has no such page.
    """
    with _PDFIUM, _open(data, name) as document:
        pages = len(document)
        if not 1 <= page <= pages:
            raise no_such_page(name, page, pages)
        opened = document[page - 1]
        try:
            width, height = opened.get_size()
            if not (width > 0 and height > 0 and math.isfinite(width * height)):
                raise ImageError(f"{name} is damaged: page {page:,} has no size.", hint="Replace it.")
            scale = min(
                RESOLUTION / _POINTS_PER_INCH, math.sqrt(0.99 * limits.max_image_pixels / (width * height))
            )
            image: Image.Image = opened.render(scale=scale, fill_color=(255, 255, 255, 255)).to_pil()
        finally:
            opened.close()
    return image.convert("RGB"), pages


def _open(data: bytes, name: str) -> Any:
    pdfium = import_module("pypdfium2")
    try:
        return pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise ImageError(f"{name} is locked with a password.", hint="Unlock the document.") from None
        raise ImageError(f"{name} is damaged: {error}.", hint="Replace it.") from None
