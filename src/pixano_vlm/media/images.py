"""An image wherever it comes from -> upright RGB pixels, within limits: the one place where images are opened.

Knows no model. Whatever is wrong with an image is an `ImageError` that names it. `reading` finds the bytes, `pixels`
decodes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pixano_vlm.media.pixels import check_size, decode_image, to_rgb
from pixano_vlm.media.reading import read_bytes
from pixano_vlm.media.sources import shortened
from pixano_vlm.media.stamps import image_digest
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.limits import Limits

__all__ = ["LoadedImage", "UndecodedImage", "load_image", "read_image"]


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """One decoded image."""

    image: Image.Image
    """RGB, turned upright."""
    digest: bytes
    """BLAKE2b-128 of the encoded bytes: equal for equal files, wherever they came from. Of an image that was in
    memory, of its pixels."""
    size: tuple[int, int]
    """Width and height in pixels, upright."""


@dataclass(frozen=True, slots=True)
class UndecodedImage:
    """One image as it was read, not decoded yet."""

    name: str
    """How messages call it."""
    data: bytes | None
    """The encoded bytes; None of an image that was in memory."""
    digest: bytes
    """As `LoadedImage` has it."""
    pixels: Image.Image | None = None
    """Those of an image that was in memory."""

    def decode(self, limits: Limits) -> Image.Image:
        """The image, upright and RGB.

        Raises:
            ImageError: Naming the image, what is wrong and what to do.
        """
        if self.data is None:
            assert self.pixels is not None
            return self.pixels
        return decode_image(self.data, limits, self.name)


def read_image(source: ImageSource, limits: Limits) -> UndecodedImage:
    """Reads one image without decoding it. Safe to call from many threads.

    Raises:
        ImageError: When there is none, it may not be read, or it is larger than the limits.
    """
    if isinstance(source, Image.Image):
        return _from_memory(source, limits)
    data, digest = read_bytes(source, limits)
    return UndecodedImage(source_name(source), data, digest)


def source_name(source: ImageSource) -> str:
    """How messages call an image: its path or URL, shortened where it is long."""
    return shortened(str(source)) if isinstance(source, (str, Path)) else "the image"


def _from_memory(image: Image.Image, limits: Limits) -> UndecodedImage:
    check_size(image.size, limits, "the image")
    # A copy: what is made of it (EXIF taken off, turned upright) must not show in the caller's own.
    pixels = to_rgb(image)
    pixels = pixels.copy() if pixels is image else pixels
    digest = image_digest(repr(pixels.size).encode() + pixels.tobytes())
    return UndecodedImage("the image", None, digest, pixels)


def load_image(source: ImageSource, limits: Limits | None = None) -> LoadedImage:
    """Reads and decodes one image. Safe to call from many threads.

    Args:
        source: A path, a URL, a data URL, the encoded bytes, or a Pillow image.
        limits: What may be opened and how large it may be; None: the defaults.

    Raises:
        ImageError: Naming the image, what is wrong and what to do.
    """
    limits = limits or Limits()
    read = read_image(source, limits)
    image = read.decode(limits)
    return LoadedImage(image, read.digest, image.size)
