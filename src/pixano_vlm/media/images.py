"""An image wherever it comes from -> upright RGB pixels, within limits: the one place where images are opened.

Knows no model. Whatever is wrong with an image is an `ImageError` that names it. `reading` finds the bytes, `pixels`
decodes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from pixano_vlm.media.notes import NOTES, Note
from pixano_vlm.media.pixels import Decoded, check_size, decode_page, to_rgb
from pixano_vlm.media.reading import read_bytes
from pixano_vlm.media.sources import file_and_page, is_url, shortened, split_page, with_page
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
    """BLAKE2b-128 of the encoded bytes and the page: equal for equal files, wherever they came from. Of an image that
    was in memory, of its pixels."""
    size: tuple[int, int]
    """Width and height in pixels, upright."""
    pages: int = 1
    """How many its file has."""


@dataclass(frozen=True, slots=True)
class UndecodedImage:
    """One image as it was read, not decoded yet."""

    source: ImageSource
    name: str
    """How messages call it."""
    data: bytes | None
    """The encoded bytes; None of an image that was in memory."""
    digest: bytes
    """As `LoadedImage` has it."""
    page: int | None = None
    """The page that is asked for, from 1; None: the first one, because nobody said."""
    pixels: Image.Image | None = None
    """Those of an image that was in memory."""

    def decode(self, limits: Limits) -> Decoded:
        """The image, upright and RGB. What is out of the ordinary about it is noted.

        Raises:
            ImageError: Naming the image, what is wrong and what to do.
        """
        if self.data is None:
            assert self.pixels is not None
            return Decoded(self.pixels)
        decoded = decode_page(self.data, limits, self.name, self.page or 1)
        not_read = decoded.pages - 1 if self.page is None else 0
        NOTES.put(self.source, Note(not_read, decoded.is_guessed))
        return decoded


def read_image(source: ImageSource, limits: Limits) -> UndecodedImage:
    """Reads one image without decoding it. Safe to call from many threads.

    Args:
        source: As of `load_image`.
        limits: What may be opened and how large it may be.

    Raises:
        ImageError: When there is none, it may not be read, or it is larger than the limits.
    """
    if isinstance(source, Image.Image):
        return _from_memory(source, limits)
    if isinstance(source, bytes):
        data, digest = read_bytes(source, limits)
        return UndecodedImage(source, "the image", data, digest)
    where = str(source)
    where, page = split_page(where) if is_url(where) else file_and_page(where)
    data, digest = read_bytes(where, limits)
    name = shortened(where)
    if page is not None:
        name = with_page(name, page)
        digest = image_digest(digest + page.to_bytes(4, "little")) if page != 1 else digest
    return UndecodedImage(source, name, data, digest, page)


def _from_memory(image: Image.Image, limits: Limits) -> UndecodedImage:
    check_size(image.size, limits, "the image")
    pixels = to_rgb(image)
    if pixels is image:  # what is made of it must not show in the caller's own
        pixels = image.copy()
    digest = image_digest(repr(pixels.size).encode() + pixels.tobytes())
    return UndecodedImage(image, "the image", None, digest, pixels=pixels)


def load_image(source: ImageSource, limits: Limits | None = None) -> LoadedImage:
    """Reads and decodes one image. Safe to call from many threads.

    Args:
        source: A path, a URL, a data URL, base64, the encoded bytes, or a Pillow image. Of a file with several pages
            it is the first, unless the source names another: `scan.tif#page=2`.
        limits: What may be opened and how large it may be; None: the defaults.

    Raises:
        ImageError: Naming the image, what is wrong and what to do.
    """
    limits = limits or Limits()
    read = read_image(source, limits)
    decoded = read.decode(limits)
    return LoadedImage(decoded.image, read.digest, decoded.image.size, decoded.pages)
