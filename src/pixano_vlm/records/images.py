"""A path, a URL, a data URL or bytes -> an upright RGB image, within limits.

Knows no model. Whatever is wrong with an image is an `ImageError` that names it. Transparency is laid over
white; 16-bit greys are scaled to 8; an animation counts as its first frame.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from PIL import Image, features

from pixano_vlm.errors import ImageError
from pixano_vlm.models.limits import Limits
from pixano_vlm.records.request import FileStamp

__all__ = [
    "FORMATS",
    "LoadedImage",
    "confine",
    "decode_image",
    "file_digest",
    "image_digest",
    "is_url",
    "load_image",
    "local_path",
    "read_image_bytes",
    "shortened",
    "stamp",
]

# Decoders warn of metadata that they cannot read. The picture is what is wanted, and a run over a million
# pictures has better things to say.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", *(["AVIF"] if features.check("avif") else []))
"""Formats that are decoded. Pillow knows more, some of which run programs or read other files."""

_SCHEME = re.compile(r"(?i)(?:data:|[a-z][a-z0-9+.\-]+://)")
_SHOWN = 40
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


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """One decoded image."""

    image: Image.Image
    """RGB, turned upright."""
    digest: bytes
    """BLAKE2b-128 of the encoded bytes: equal for equal files, wherever they came from."""
    size: tuple[int, int]
    """Width and height in pixels, upright."""


def load_image(source: str | Path | bytes, limits: Limits) -> LoadedImage:
    """Reads and decodes one image. Safe to call from many threads.

    Raises:
        ImageError: Naming the image, what is wrong and what to do.
    """
    data = read_image_bytes(source, limits)
    image = decode_image(data, limits, "the image" if isinstance(source, bytes) else shortened(str(source)))
    return LoadedImage(image, image_digest(data), image.size)


def image_digest(data: bytes) -> bytes:
    """BLAKE2b-128 of an image's encoded bytes."""
    return blake2b(data, digest_size=16).digest()


# --- what a source is ---


def is_url(source: str) -> bool:
    """Whether `source` is a URL of any kind but `file:`, which is a path."""
    return ":" in source and _SCHEME.match(source) is not None and source[:7].lower() != "file://"


def local_path(source: str) -> str:
    """The path that `source` names: itself, or that of a `file:` URL.

    Raises:
        ValueError: When a `file:` URL names another host.
    """
    if source[:7].lower() != "file://":
        return source
    parts = urlsplit(source)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"a file: URL on the host {parts.netloc!r}")
    path = unquote(parts.path)
    if "\0" in path:
        raise ValueError("a path with a NUL character")
    return path


def shortened(source: str) -> str:
    """`source` for people and for the output: a data URL is cut to its first 40 characters."""
    if len(source) > _SHOWN and source[:5].lower() == "data:":
        return f"{source[:_SHOWN]}... ({len(source):,} characters)"
    return source


def confine(path: str, root: str) -> str:
    """The real path of `path`, which must lie inside `root` (a real path) with symbolic links resolved.

    Raises:
        ImageError: When it does not.
    """
    real = os.path.realpath(path)
    if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
        raise ImageError(
            f"{path} lies outside the image root {root}"
            + (f": it leads to {real}." if real != os.path.normpath(path) else "."),
            hint="Move the image into the root, or name another --image-root.",
        )
    return real


# --- bytes ---


def read_image_bytes(source: str | Path | bytes, limits: Limits) -> bytes:
    """The encoded bytes of one image: read, fetched or decoded from a data URL.

    Raises:
        ImageError: When there is none, it may not be read, or it is larger than `limits.max_image_bytes`.
    """
    if isinstance(source, bytes):
        return _checked_size(source, "the image", limits)
    if isinstance(source, str) and is_url(source):
        if source[:5].lower() == "data:":
            return _read_data_url(source, limits)
        return _fetch(source, limits)
    try:
        path = local_path(source) if isinstance(source, str) else str(source)
    except ValueError as error:
        raise ImageError(f"{source}: {error}.", hint="Give a path.") from None
    return _read_file(path, limits)


def _fetch(url: str, limits: Limits) -> bytes:
    if not limits.allow_urls:
        raise ImageError(f"{url} is a URL, and URLs are not allowed in this run.")
    from pixano_vlm.records.fetch import fetch

    return _checked_size(fetch(url, limits), url, limits)


def _checked_size(data: bytes, name: str, limits: Limits) -> bytes:
    if not data:
        raise ImageError(f"{name} is empty: 0 bytes.", hint="Replace it.")
    if len(data) > limits.max_image_bytes:
        raise _too_large(name, f"{len(data):,}", limits)
    return data


def _too_large(name: str, size: str, limits: Limits) -> ImageError:
    return ImageError(
        f"{name} holds {size} bytes, and the limit is {limits.max_image_bytes:,}.", hint="Make it smaller."
    )


def _read_data_url(url: str, limits: Limits) -> bytes:
    name = shortened(url)
    head, comma, body = url.partition(",")
    if not comma:
        raise ImageError(f"{name} is not a data URL: it has no comma.")
    kind, *options = head[5:].split(";")
    kind = kind.strip().lower()
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise ImageError(f"{name} holds {kind}, not an image.", hint="Give a data URL of an image/ type.")
    if len(body) > 2 * limits.max_image_bytes:
        raise _too_large(name, f"about {len(body) * 3 // 4:,}", limits)
    if not any(option.strip().lower() == "base64" for option in options):
        return _checked_size(unquote_to_bytes(body), name, limits)
    try:
        plain = re.sub(rb"\s+", b"", unquote_to_bytes(body)).translate(bytes.maketrans(b"-_", b"+/"))
        plain = plain.rstrip(b"=")
        data = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"{name} is not valid base64: {error}.", hint="Encode the image again.") from None
    return _checked_size(data, name, limits)


_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
    (stat.S_ISSOCK, "is a socket"),
)


def _check_regular(path: str, status: os.stat_result, limits: Limits) -> None:
    for is_kind, words in _KINDS:
        if is_kind(status.st_mode):
            raise ImageError(f"{path} {words}, not an image file.", hint="Name a regular file.")
    if status.st_size > limits.max_image_bytes:
        raise _too_large(path, f"{status.st_size:,}", limits)


def _read_file(path: str, limits: Limits) -> bytes:
    if limits.image_root is not None:
        real = confine(path, os.path.realpath(limits.image_root))
        no_follow = os.O_NOFOLLOW  # every link is resolved: one that is there now was put there since
    else:
        real, no_follow = path, 0
    try:
        # Looked at before it is opened, for opening a device can do things, and again after, for it may have
        # been replaced; not blocking, for a pipe would wait for a writer.
        _check_regular(path, os.stat(real), limits)  # noqa: PTH116 - a bytes-exact path, not a Path
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | no_follow)
        with os.fdopen(fd, "rb", buffering=0) as file:
            status = os.fstat(fd)
            _check_regular(path, status, limits)
            data = _read_all(file.read, status.st_size, limits.max_image_bytes)
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        raise ImageError(
            f"{path} cannot be read: {cause}.",
            hint="Paths are relative to the manifest's folder." if missing else "Check the file.",
        ) from None
    data = _checked_size(data, path, limits)
    _DIGESTS.put(_stamp_of(path, status), data)
    return data


def _read_all(read: Callable[[int], bytes | None], size: int, limit: int) -> bytes:
    pieces: list[bytes] = []
    total = 0
    while total <= limit and (piece := read(min(max(size - total, 1) + 1, limit + 1 - total))):
        pieces.append(piece)
        total += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


# --- states of files ---


def stamp(path: str) -> FileStamp:
    """The file's state now; all zero when there is none. Costs one call of the operating system."""
    try:
        return _stamp_of(path, os.stat(path))  # noqa: PTH116 - a hot path
    except (OSError, ValueError):
        return FileStamp(path, 0, 0, 0, 0)


def _stamp_of(path: str, status: os.stat_result) -> FileStamp:
    return FileStamp(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class _Digests:
    """Digests of the files read lately, by stamp, so that a file is hashed where it is read and only there."""

    SIZE = 16_384

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[FileStamp, bytes] = OrderedDict()

    def get(self, key: FileStamp) -> bytes | None:
        with self._lock:
            return self._entries.get(key)

    def put(self, key: FileStamp, data: bytes) -> None:
        if self.get(key) is None:
            digest = image_digest(data)
            with self._lock:
                self._entries[key] = digest
                if len(self._entries) > self.SIZE:
                    self._entries.popitem(last=False)


_DIGESTS = _Digests()


def file_digest(state: FileStamp, limits: Limits) -> bytes | None:
    """BLAKE2b-128 of the file in the given state; None when it is in another now, or cannot be read."""
    digest = _DIGESTS.get(state)
    if digest is None:
        try:
            _read_file(state.path, limits)
        except ImageError:
            return None
        digest = _DIGESTS.get(state)
    return digest


# --- pixels ---


def decode_image(data: bytes, limits: Limits, name: str) -> Image.Image:
    """Decodes one image: its first frame, upright, RGB. The size is checked before any pixel is decoded.

    Raises:
        ImageError: When it is damaged, of a format that is not read, or larger than `limits.max_image_pixels`.
    """
    name = shortened(name)
    try:
        image = _open(data)
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


def _open(data: bytes) -> Image.Image | None:
    # Image.open warns of or refuses large images by a limit of the whole process; ours is checked by our caller.
    Image.preinit()
    if any(name not in Image.OPEN for name in FORMATS):
        Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(data[:16]) is True:
            return factory(BytesIO(data), b"")
    return None


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    # Damaged EXIF says nothing about the pixels: the picture is taken as it lies.
    except Exception:
        turn = None
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
