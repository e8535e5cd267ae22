"""An image wherever it comes from -> upright RGB pixels, within limits: the one place where images are opened.

Knows no model. Whatever is wrong with an image is an `ImageError` that names it. `reading` finds the bytes, `pixels`
decodes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from pixano_vlm.media.pixels import decode_image
from pixano_vlm.media.reading import Source, read_bytes
from pixano_vlm.media.sources import shortened
from pixano_vlm.models.limits import Limits

__all__ = ["EncodedImage", "LoadedImage", "load_image", "read_image"]


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image as it was read, not decoded yet."""

    name: str
    """How messages call it."""
    data: bytes
    """The encoded bytes."""
    digest: bytes
    """BLAKE2b-128 of them: equal for equal files, wherever they came from."""

    def decode(self, limits: Limits) -> Image.Image:
        """The image, upright and RGB.

        Raises:
            ImageError: Naming the image, what is wrong and what to do.
        """
        return decode_image(self.data, limits, self.name)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """One decoded image."""

    image: Image.Image
    """RGB, turned upright."""
    digest: bytes
    """BLAKE2b-128 of the encoded bytes: equal for equal files, wherever they came from."""
    size: tuple[int, int]
    """Width and height in pixels, upright."""


def read_image(source: Source, limits: Limits) -> EncodedImage:
    """Reads one image without decoding it. Safe to call from many threads.

    Raises:
        ImageError: When there is none, it may not be read, or it is larger than `limits.max_image_bytes`.
    """
    data, digest = read_bytes(source, limits)
    return EncodedImage("the image" if isinstance(source, bytes) else shortened(str(source)), data, digest)


def load_image(source: Source, limits: Limits | None = None) -> LoadedImage:
    """Reads and decodes one image. Safe to call from many threads.

    Args:
        source: A path, a URL, a data URL, or the encoded bytes.
        limits: What may be opened and how large it may be; None: the defaults.

    Raises:
        ImageError: Naming the image, what is wrong and what to do.
    """
    limits = limits or Limits()
    encoded = read_image(source, limits)
    image = encoded.decode(limits)
    return LoadedImage(image, encoded.digest, image.size)
