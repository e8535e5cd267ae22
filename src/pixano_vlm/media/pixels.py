"""An image's encoded bytes -> upright RGB pixels, within limits. Knows neither files nor URLs.

Transparency is laid over white; 16-bit greys are scaled to 8; an animation counts as its first frame.
"""

from __future__ import annotations

import warnings
from io import BytesIO

from PIL import Image, features

from pixano_vlm.errors import ImageError
from pixano_vlm.media.sources import shortened
from pixano_vlm.models.limits import Limits

# Decoders warn of metadata that they cannot read. The picture is what is wanted, and a run over a million
# pictures has better things to say.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", *(["AVIF"] if features.check("avif") else []))
"""Formats that are decoded. Pillow knows more, some of which run programs or read other files."""

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


def decode_image(data: bytes, limits: Limits, name: str) -> Image.Image:
    """Decodes one image: its first frame, upright, RGB. The size is checked before any pixel is decoded.

    Raises:
        ImageError: When it is damaged, of a format that is not read, or larger than `limits.max_image_pixels`.
    """
    name = shortened(name)
    try:
        image = open_image(data)
        if image is None:
            raise ImageError(f"{name} is not an image that can be read{_looks_like(data)}.", hint=_CONVERT)
        width, height = image.size
        if width * height > limits.max_image_pixels:
            raise ImageError(
                f"{name} has {width:,} x {height:,} pixels, and the limit is {limits.max_image_pixels:,}.",
                hint="Make it smaller.",
            )
        if not width or not height:
            raise ImageError(f"{name} has {width} x {height} pixels.", hint="Replace it.")
        image.load()
        return _rgb(_upright(image))
    except ImageError:
        raise
    # On damaged data, decoders raise whatever their parsing runs into.
    except Exception as error:
        raise ImageError(
            f"{name} is damaged: {_reason(error)}.", hint="Replace it with an undamaged copy."
        ) from None


_CONVERT = f"Convert it to one of {', '.join(FORMATS)}."


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return text if text and isinstance(error, (OSError, SyntaxError, ValueError)) else type(error).__name__


def open_image(data: bytes) -> Image.Image | None:
    """What an image's header says: format, mode, size. Decodes no pixel; None where the format is not read.

    Raises:
        Exception: Whatever Pillow runs into on damaged data.
    """
    # Image.open warns of or refuses large images by a limit of the whole process; ours is checked by our caller.
    Image.preinit()
    if any(name not in Image.OPEN for name in FORMATS):
        Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(data[:16]) is True:
            return factory(BytesIO(data), b"")
    return None


def turn_to_upright(image: Image.Image) -> Image.Transpose | None:
    """How an image is turned upright, by its EXIF; None where it is."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    # Damaged EXIF says nothing about the pixels: the picture is taken as it lies.
    except Exception:
        return None


def _upright(image: Image.Image) -> Image.Image:
    turn = turn_to_upright(image)
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I") or mode == "F":
        return _eight_bits(image).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        white.alpha_composite(clear)
        return white.convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 or 32 bits or floats as 8 bits: 16-bit ones by their range, others by their brightest."""
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    low, high = image.getextrema()
    assert isinstance(low, (int, float))
    assert isinstance(high, (int, float))
    full = high if image.mode == "F" or high > 0xFFFF else 0xFFFF if high > 0xFF else 0xFF
    if image.mode == "F" and low >= 0 and high <= 1:
        full = 1
    scale = 255 / full if full > 0 else 0
    return image.point(lambda value: value * scale).convert("L")


_LOOKS = (
    (b"<svg", "it looks like SVG"),
    (b"<!doctype", "it looks like HTML"),
    (b"<html", "it looks like HTML"),
    (b"<?xml", "it looks like XML"),
    (b"%pdf", "it looks like PDF"),
    (b"{", "it looks like JSON"),
    (b"\0\0\0\x0cjxl ", "it looks like JPEG XL"),
    (b"\xff\x0a", "it looks like JPEG XL"),
    (b"8bps", "it looks like Photoshop"),
    (b"pk\x03\x04", "it looks like a ZIP archive"),
    (b"\x1f\x8b", "it looks like gzip"),
    (b"version https://git-lfs", "it is a Git LFS pointer: run `git lfs pull`"),
)


def _looks_like(data: bytes) -> str:
    head = data[:64].lstrip().lower()
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return ": it looks like HEIC"
    return next((f": {words}" for magic, words in _LOOKS if head.startswith(magic)), "")
