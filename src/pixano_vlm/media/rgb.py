"""A decoded image of any mode -> upright RGB pixels as its file means them. Knows no file and no limit."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from PIL import Image, ImageCms

from pixano_vlm.media.depth import greys_of, stretched
from pixano_vlm.media.png import bit_depth

__all__ = ["as_rgb", "opaque_if_clear", "to_rgb", "turn_to_upright", "upright"]

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE, _COLOUR_MAP = 258, 281, 320
_PGM_HEADER = re.compile(rb"P[25](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)\s")


def turn_to_upright(image: Image.Image) -> Image.Transpose | None:
    """How an image is turned upright, by its EXIF; None where it is."""
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return None  # its own header has turned it already, and what its EXIF says does not count
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    # Damaged EXIF says nothing about the pixels: the image is taken as it lies.
    except Exception:
        return None


def upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """The pixels of an image, turned as its EXIF says."""
    turn = turn_to_upright(image)
    return pixels if turn is None else pixels.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image that is in memory, upright and RGB."""
    return upright(as_rgb(image, b"")[0], image)


def as_rgb(image: Image.Image, data: bytes) -> tuple[Image.Image, bool]:
    """The pixels of a decoded image as RGB, not turned.

    Args:
        image: Of any mode.
        data: The file that it comes from, whose header says what Pillow does not; empty where there is none.

    Returns:
        The pixels; and whether the file leaves open what they mean, so that it was guessed.

    Raises:
        ValueError: When the image has no usable value.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        greys, guessed = greys_of(image, _known_bits(image, data))
        return _on_white(greys.convert("RGB"), _mask_of_grey(image)), guessed
    guessed = False
    if image.format == "TIFF" and image.mode == "P":
        _mend_palette(image)
    if _has_sixteen_bits(image, data):
        image, guessed = stretched(image)
    # Adobe's programs write inks upside down and leave their mark. Every decoder takes a file without it for one of
    # theirs that has lost it, which is a guess.
    guessed |= image.format in ("JPEG", "MPO") and image.mode == "CMYK" and "adobe" not in image.info
    if image.format == "TGA":
        image = opaque_if_clear(image)
    return _eight_bit_rgb(image), guessed


def _eight_bit_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode == "LAB":
        return ImageCms.applyTransform(image, _from_lab()) or image
    if mode == "La":
        image = image.convert("LA")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return _on_white(clear.convert("RGB"), clear.getchannel("A"))
    return image.convert("RGB")


@lru_cache(maxsize=1)
def _from_lab() -> Any:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")


def _on_white(pixels: Image.Image, alpha: Image.Image | None) -> Image.Image:
    if alpha is None or alpha.getextrema() == (255, 255):
        return pixels
    return Image.composite(pixels, Image.new("RGB", pixels.size, (255, 255, 255)), alpha)


def opaque_if_clear(image: Image.Image) -> Image.Image:
    """The image without its transparency where that would leave nothing of it: programs that have none write 0."""
    if image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (0, 0):
        return image.convert(image.mode[:-1])
    return image


def _mask_of_grey(image: Image.Image) -> Image.Image | None:
    """Where an image of 16-bit greys is opaque, by the one grey that its file calls transparent."""
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return None
    import numpy as np

    return Image.fromarray(np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8))


def _mend_palette(image: Any) -> None:
    """A TIFF's colours have 16 bits, of which Pillow takes the upper 8; some programs write 8 bits only."""
    colours = image.tag_v2.get(_COLOUR_MAP, ())
    count = len(colours) // 3
    if count and max(colours) <= 0xFF:
        image.putpalette([colours[band * count + index] for index in range(count) for band in range(3)])


def _known_bits(image: Image.Image, data: bytes) -> int | None:
    """How many bits a grey sample has, where the file says so."""
    if image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]  # a TIFF's
        bits = tags.get(_BITS_PER_SAMPLE)
        if bits in ((10,), (12,), (14,)):
            return int(bits[0])
        most = tags.get(_MAX_SAMPLE_VALUE)
        most = most[0] if isinstance(most, tuple) and most else most
        return next((bits for bits in (10, 12, 14) if most == 2**bits - 1), None)
    if image.format == "PPM":  # Pillow has scaled its values to 16 bits
        header = _PGM_HEADER.match(data[:1024])
        return 16 if header and int(header[1]) != 0xFFFF else None
    return None


def _has_sixteen_bits(image: Image.Image, data: bytes) -> bool:
    """Whether an image of several bands has samples of 16 bits in its file."""
    if image.format == "PNG":
        return bit_depth(data) == 16
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE)  # type: ignore[attr-defined]  # a TIFF's
        return isinstance(bits, tuple) and set(bits) == {16}
    return False
