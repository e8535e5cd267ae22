"""An image's encoded bytes -> the bytes that a server is sent, and their media type.

JPEG and PNG are all that every server reads (llama.cpp and what is built on it know no WebP), so a plain file of
these is sent as it is and everything else is converted. What was compressed with loss stays so, at a quality by
which it does not grow; what was not stays exact. Knows no request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image, ImageChops, JpegImagePlugin

from pixano_vlm.media.images import UndecodedImage
from pixano_vlm.media.pixels import open_image, turn_to_upright
from pixano_vlm.media.png import bit_depth
from pixano_vlm.models.limits import Limits

__all__ = ["SentImage", "image_as_sent"]

JPEG = "image/jpeg"
PNG = "image/png"

_PLAIN_MODES = {"JPEG": ("L", "RGB"), "PNG": ("1", "L", "P", "RGB")}
"""Formats that are sent as they are, in the modes that any server sees as this project does."""
_BITS = 8
_LOSSY = frozenset({"JPEG", "MPO", "AVIF", "HEIF", "JXL", "JPEG2000"})
_GREYS = frozenset({"1", "L", "LA", "La", "I", "F"})

_QUALITIES = (95, 90, 85, 80)
"""Tried in turn for an image of another lossy format: a worse one would show, whatever it saves."""
_COARSER = (1.0, 1.1, 1.25, 1.5, 2.0)
"""How much coarser than a JPEG's own its quantization tables become, until it is not larger than it was."""
_COARSEST = 255
_SIDE = 8
"""Rows and columns of a quantization table."""
_ON_SIDE = frozenset({
    Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class SentImage:
    """One image as a server is sent it."""

    data: bytes
    media_type: str


def image_as_sent(image: UndecodedImage, limits: Limits, max_side: int | None = None) -> SentImage:
    """What a server is sent of an image.

    Args:
        image: As it was read.
        limits: Bounds on its size.
        max_side: Longest side in pixels; a larger image is made smaller. None: as it is.

    Raises:
        ImageError: When it is damaged or too large: found here, although the server would decode it again, so that
            it is this record's error before it is sent.
    """
    pixels = image.decode(limits)
    decoded = pixels.image
    # Where pixels had to be guessed, or are another page's, the file means something else to a server.
    is_as_seen = image.data is not None and not pixels.is_guessed and (image.page or 1) == 1
    source = open_image(image.data) if image.data is not None and is_as_seen else None
    is_larger = max_side is not None and max(decoded.size) > max_side
    if not is_larger and source is not None and image.data is not None and _is_plain(source, image.data):
        return SentImage(image.data, JPEG if source.format == "JPEG" else PNG)
    if is_larger:
        assert max_side is not None
        decoded = decoded.copy()
        decoded.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    decoded.info = {}  # it is upright: no EXIF goes along by which a server would turn it again
    if source is None or image.data is None:  # it was in memory, or is a page of a document
        return SentImage(_as_png(decoded), PNG)
    if source.mode in _GREYS or source.mode.startswith("I;16"):
        decoded = decoded.convert("L")
    if _is_lossy(source, image.data):
        return SentImage(_as_jpeg(decoded, source, len(image.data)), JPEG)
    return SentImage(_as_png(decoded if is_larger else _exact(decoded, source)), PNG)


def _is_plain(image: Image.Image, data: bytes) -> bool:
    """Whether any server sees the file as this project does: upright, opaque, 8 bits at most, one frame."""
    return (
        image.mode in _PLAIN_MODES.get(image.format or "", ())
        and "transparency" not in image.info
        and bit_depth(data) <= _BITS
        and turn_to_upright(image) is None
        and getattr(image, "n_frames", 1) == 1
    )


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    if image.format == "WEBP":
        return b"VP8 " in data[:64] or (b"VP8X" in data[:16] and b"VP8L" not in data)
    if image.format == "TIFF":
        return image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    return image.format in _LOSSY


# --- without loss ---


def _exact(decoded: Image.Image, source: Image.Image) -> Image.Image:
    """The same pixels in the mode that takes the least room: a scan in black and white has one bit for each."""
    if source.mode == "1":
        return decoded.convert("1", dither=Image.Dither.NONE)
    if source.mode == "P" and "transparency" not in source.info:
        turn = turn_to_upright(source)
        paletted = source.copy() if turn is None else source.transpose(turn)
        paletted.info = {}
        if ImageChops.difference(paletted.convert("RGB"), decoded).getbbox() is None:
            return paletted
    return decoded


def _as_png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# --- with loss ---


def _as_jpeg(image: Image.Image, source: Image.Image, size: int) -> bytes:
    """The image as a JPEG of at most `size` bytes, or as near as that comes without spoiling it."""
    smallest: bytes | None = None
    for options in _jpeg_options(image, source):
        buffer = BytesIO()
        image.save(buffer, "JPEG", optimize=True, progressive=bool(source.info.get("progressive")), **options)
        data = buffer.getvalue()
        if smallest is None or len(data) < len(smallest):
            smallest = data
        if len(data) <= size:
            break
    assert smallest is not None
    return smallest


def _jpeg_options(image: Image.Image, source: Image.Image) -> Iterator[dict[str, Any]]:
    """How to compress it, best first: by the tables it was compressed with, which then cost next to nothing more."""
    tables: dict[int, list[int]] = getattr(source, "quantization", {})
    if source.format not in ("JPEG", "MPO") or source.mode not in ("L", "RGB") or not 1 <= len(tables) <= 2:
        yield from ({"quality": quality, "subsampling": "4:4:4" if quality >= 90 else "4:2:0"} for quality in _QUALITIES)  # noqa: E501  # fmt: skip
        return
    if turn_to_upright(source) in _ON_SIDE:
        tables = {number: _on_side(table) for number, table in tables.items()}
    sampling = JpegImagePlugin.get_sampling(source) if image.mode == "RGB" else 0
    for factor in _COARSER:
        qtables = [[_coarser(entry, factor) for entry in tables[number]] for number in sorted(tables)]
        yield {"qtables": qtables, "subsampling": max(sampling, 0)}


def _on_side(table: list[int]) -> list[int]:
    """A quantization table for an image that is turned by 90 degrees: its rows become its columns."""
    return [table[column * _SIDE + row] for row in range(_SIDE) for column in range(_SIDE)]


def _coarser(entry: int, factor: float) -> int:
    return max(entry, min(_COARSEST, round(entry * factor)))
