"""An image's encoded bytes -> upright RGB pixels, within limits. Knows neither files nor URLs.

Transparency is laid over white. Samples of more than 8 bits are scaled by the range that is used; where that is a
guess, the image says so. Of a file with several pages, one is decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL import Image

from pixano_vlm.errors import ImageError
from pixano_vlm.media.formats import FORMATS, Format, looks_like, missing_package, sniff
from pixano_vlm.media.headers import icon_entries, jpeg_xl_is_animated, jpeg_xl_size, tiff_is_cut, webp_size
from pixano_vlm.media.pages import frames_of, no_such_page
from pixano_vlm.media.pillow import no_limit_of_pillow, open_with_pillow, turn_to_frame
from pixano_vlm.media.png import without_bulk
from pixano_vlm.media.rgb import as_rgb, opaque_if_clear, to_rgb, turn_to_upright, upright
from pixano_vlm.models.limits import Limits

__all__ = ["Decoded", "check_size", "decode_image", "decode_page", "open_image", "to_rgb", "turn_to_upright"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One page of a file."""

    image: Image.Image
    """Upright, RGB."""
    pages: int = 1
    """How many the file has."""
    is_guessed: bool = False
    """Whether its file leaves open what its samples mean: what is white, or which way inks run."""


def decode_image(data: bytes, limits: Limits, name: str) -> Image.Image:
    """The first page of an image, upright, RGB. As `decode_page`."""
    return decode_page(data, limits, name).image


def decode_page(data: bytes, limits: Limits, name: str, page: int = 1) -> Decoded:
    """Decodes one page of an image. The size is checked before any pixel is decoded.

    Args:
        data: The encoded bytes.
        limits: `max_image_pixels`.
        name: What messages call the image.
        page: Which page, from 1.

    Raises:
        ImageError: When it is damaged, of a format that is not read, larger than `limits.max_image_pixels`, or has
            no such page.
    """
    format = _known_format(data, name)
    try:
        return _decode(format, data, limits, name, page)
    except ImageError:
        raise
    # On damaged data, decoders raise whatever their parsing runs into.
    except Exception as error:
        if _is_truncated(error, format, data):
            if format.name == "JPEG" and (whole := _unterminated(format, data, limits, name)) is not None:
                return whole
            raise ImageError(
                f"{name} is damaged: it is truncated, and ends before its last pixel.",
                hint="Copy or download it again.",
            ) from None
        raise ImageError(
            f"{name} is damaged: {_reason(error)}.", hint="Replace it with an undamaged copy."
        ) from None


_END_OF_IMAGE = b"\xff\xd9"
_ANYTHING = b"\xa5\x5a\x3c\xc3" * 4_000
"""What no image continues with."""


def _unterminated(format: Format, data: bytes, limits: Limits, name: str) -> Decoded | None:
    """A JPEG that lacks its end mark and nothing else, which other programs show; None where pixels are missing.

    Its decoder does not say what it has made up, but it makes it up of what follows: where all pixels are there, that
    makes no difference.
    """
    data = data.rstrip(b"\xff")
    try:
        whole = _decode(format, data + _END_OF_IMAGE, limits, name, 1)
        other = _decode(format, data + _ANYTHING + _END_OF_IMAGE, limits, name, 1)
    # As in `decode_page`: whatever the parsing runs into.
    except Exception:
        return None
    return whole if whole.image.tobytes() == other.image.tobytes() else None


def _known_format(data: bytes, name: str) -> Format:
    format = sniff(data)
    if format is None:
        looks = looks_like(data)
        raise ImageError(
            f"{name} is not an image that can be read{'' if looks is None else f': {looks}'}.", hint=_CONVERT
        )
    missing = missing_package(format)
    if missing is not None:
        raise ImageError(
            f"{name} is {_words(format)}, and reading it needs the package {format.package}.",
            hint=f"Run: {missing}, or convert the image.",
        )
    return format


def _words(format: Format) -> str:
    return {"HEIF": "a HEIC image", "JXL": "a JPEG XL image", "PDF": "a PDF document"}[format.name]


_CONVERT = f"Convert it to one of {', '.join(format.name for format in FORMATS if format.extra is None)}."


def _decode(format: Format, data: bytes, limits: Limits, name: str, page: int) -> Decoded:
    if format.name == "PDF":
        from pixano_vlm.media.pdf import render_page

        return Decoded(*render_page(data, limits, name, page))
    if format.name == "ICO":
        return _decode_icon(data, limits, name, page)
    if format.name == "PNG":
        data = without_bulk(data)
    # Decoders that decode, or take the memory for it, as soon as they open.
    elif format.name == "JXL":
        check_size(jpeg_xl_size(data), limits, name)
    elif format.name == "WEBP" and (size := webp_size(data)) is not None:
        check_size(size, limits, name)
    image = open_with_pillow(format, data)
    with no_limit_of_pillow(image.size):
        frames = frames_of(image)
    pages = 2 if format.name == "JXL" and jpeg_xl_is_animated(data) else len(frames)
    if not 1 <= page <= len(frames):
        raise no_such_page(name, page, pages)
    turn_to_frame(image, frames[page - 1])
    check_size(image.size, limits, name)
    with no_limit_of_pillow(image.size):
        image.load()
        shown, guessed = as_rgb(image, data)
    return Decoded(upright(shown, image), pages, guessed)


def check_size(size: tuple[int, int], limits: Limits, name: str) -> None:
    """Checks an image's width and height in pixels.

    Raises:
        ImageError: When it is larger than `limits.max_image_pixels`, or has no pixel.
    """
    width, height = size
    if width * height > limits.max_image_pixels:
        raise ImageError(
            f"{name} has {width:,} x {height:,} pixels, and the limit is {limits.max_image_pixels:,}.",
            hint="Make it smaller, or raise --max-image-pixels.",
        )
    if width <= 0 or height <= 0:
        raise ImageError(f"{name} has {width} x {height} pixels.", hint="Replace it.")


def _decode_icon(data: bytes, limits: Limits, name: str, page: int) -> Decoded:
    entries = icon_entries(data)
    if page != 1:  # its images are one, in several sizes
        raise no_such_page(name, page, 1)
    if not entries:
        raise ValueError("it holds no image")
    size, _, body = entries[0]
    check_size(size, limits, name)
    if body.startswith(b"\x89PNG"):
        return _decode(next(format for format in FORMATS if format.name == "PNG"), body, limits, name, 1)
    # The one that Pillow would choose goes by what the file's table says, which may be wrong.
    table = data[:4] + b"\1\0" + bytes([size[0] & 0xFF, size[1] & 0xFF, 0, 0, 1, 0])
    table += body[14:16] + struct.pack("<II", len(body), 22)
    image = open_with_pillow(_ICON, table + body)
    image.load()
    return Decoded(to_rgb(opaque_if_clear(image)))


_ICON = next(format for format in FORMATS if format.name == "ICO")

_CUT_WORDS = (
    "truncated",
    "unexpected end",
    "premature",
    "not enough",
    "not enough image data",
    "unrecognized data",
)


def _is_truncated(error: Exception, format: Format, data: bytes) -> bool:
    text = str(error).lower()
    if isinstance(error, (EOFError, struct.error)) or any(words in text for words in _CUT_WORDS):
        return True
    if format.name == "TIFF":
        return tiff_is_cut(data)
    if format.name == "PNG":
        return b"IEND" not in data[-16:]
    if format.name == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if format.name == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if format.name == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    return False


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return text if text and isinstance(error, (OSError, SyntaxError, ValueError)) else type(error).__name__


def open_image(data: bytes) -> Image.Image | None:
    """What an image's header says: format, mode, size. Decodes no pixel; None where the format is not read.

    Raises:
        Exception: Whatever Pillow runs into on damaged data.
    """
    format = sniff(data)
    if format is None or format.name == "PDF" or not format.is_readable:
        return None
    return open_with_pillow(format, without_bulk(data) if format.name == "PNG" else data)
