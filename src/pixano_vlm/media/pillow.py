"""Opens bytes of a known format with Pillow, whose own limits are set aside: the caller's are checked instead."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO

from PIL import Image

from pixano_vlm.media.formats import Format

__all__ = ["no_limit_of_pillow", "open_with_pillow", "turn_to_frame"]

# Decoders warn of metadata that they cannot read. The image is what is wanted, and a run over a million images has
# better things to say.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def open_with_pillow(format: Format, data: bytes) -> Image.Image:
    """What an image's header says: mode, size, frames. Decodes no pixel.

    Raises:
        Exception: Whatever Pillow runs into on damaged data.
    """
    # Not Image.open: it tries formats that are not wanted, and warns of or refuses large images.
    factory = _opener(format)
    try:
        return factory(BytesIO(data), b"")
    except _TOO_LARGE:
        with _LIMIT:
            return factory(BytesIO(data), b"")


def turn_to_frame(image: Image.Image, frame: int) -> None:
    """Makes a frame the one that is decoded next."""
    if image.tell() == frame:
        return
    try:
        image.seek(frame)
    except _TOO_LARGE:
        with _LIMIT:
            image.seek(frame)


def _opener(format: Format) -> Callable[[BytesIO, bytes], Image.Image]:
    if format.name not in Image.OPEN:
        if format.package == "pillow_heif":
            import_module(format.package).register_heif_opener()
        elif format.package is not None:
            import_module(format.package)  # which registers itself
        else:
            Image.preinit()
            if format.name not in Image.OPEN:
                Image.init()
    factory: Callable[[BytesIO, bytes], Image.Image] = Image.OPEN[format.name][0]
    return factory


class _Limit:
    """Pillow's limit of pixels, which holds for the whole process, taken away while someone is in here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                Image.MAX_IMAGE_PIXELS = self._saved

    def admits(self, pixels: int) -> bool:
        """Whether Pillow decodes so many pixels without a word."""
        with self._lock:
            limit = self._saved if self._inside else Image.MAX_IMAGE_PIXELS
        return limit is None or pixels <= limit


_LIMIT = _Limit()


@contextmanager
def no_limit_of_pillow(size: tuple[int, int]) -> Iterator[None]:
    """Lets Pillow decode an image of this size, which its caller has checked.

    Nothing changes for an image that it would decode anyway, as nearly all are.
    """
    if _LIMIT.admits(size[0] * size[1]):
        yield
    else:
        with _LIMIT:
            yield
