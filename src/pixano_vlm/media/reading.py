"""A source (path, URL, data URL, or the bytes themselves) -> encoded bytes and their digest, within limits.

Knows what may be read and how large it may be; does not know what the bytes mean.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Literal
from urllib.parse import unquote_to_bytes

from pixano_vlm.errors import ImageError
from pixano_vlm.media.sources import (
    check_is_path,
    confine,
    from_base64,
    is_data_url,
    is_url,
    local_path,
    not_a_source,
    shortened,
)
from pixano_vlm.media.stamps import DIGESTS, FileStamp, image_digest, stamp_of
from pixano_vlm.media.stores import is_store_url, read_object
from pixano_vlm.models.limits import Limits

__all__ = ["Source", "file_digest", "read_bytes", "read_head"]

Source = str | Path | bytes
"""Where encoded bytes are, or the bytes themselves."""


def read_bytes(
    source: Source, limits: Limits, *, kind: Literal["image", "video"] = "image"
) -> tuple[bytes, bytes]:
    """The encoded bytes of one image or video: read, fetched or decoded from a data URL.

    Args:
        source: Where it is, or the bytes themselves.
        limits: Bounds on what is read.
        kind: What it is to be; a data URL that names another type is refused. A GIF is an image and a video.

    Returns:
        The bytes, and their BLAKE2b-128: equal for equal bytes, wherever they came from.

    Raises:
        ImageError: When there is none, it may not be read, or it is larger than `limits.max_image_bytes`.
    """
    if isinstance(source, bytes):
        return _hashed(_checked_size(source, f"the {kind}", limits))
    if isinstance(source, str):
        source = from_base64(source)
    if isinstance(source, str) and is_url(source):
        is_data = is_data_url(source)
        return _hashed(_read_data_url(source, limits, kind) if is_data else _fetch(source, limits))
    try:
        path = local_path(source) if isinstance(source, str) else str(source)
    except ValueError as error:
        raise ImageError(f"{shortened(str(source))}: {error}.", hint="Give a path.") from None
    check_is_path(path)
    return _read_file(path, limits)


def _hashed(data: bytes) -> tuple[bytes, bytes]:
    return data, image_digest(data)


def _fetch(url: str, limits: Limits) -> bytes:
    if not limits.allow_urls:
        raise ImageError(f"{shortened(url)} is a URL, and URLs are not allowed in this run.")
    if is_store_url(url):
        if limits.image_root is not None:
            # A store is read with the user's own rights, as files are: a root for these is none for that.
            raise ImageError(
                f"{shortened(url)} lies outside the image root {limits.image_root}.", hint="Use a local copy."
            )
        return _checked_size(read_object(url, limits), shortened(url), limits)
    from pixano_vlm.media.http import fetch

    return _checked_size(fetch(url, limits), shortened(url), limits)


def _checked_size(data: bytes, name: str, limits: Limits) -> bytes:
    if not data:
        raise ImageError(f"{name} is empty: 0 bytes.", hint="Replace it.")
    if len(data) > limits.max_image_bytes:
        raise _too_large(name, f"{len(data):,}", limits)
    return data


def _too_large(name: str, size: str, limits: Limits) -> ImageError:
    return ImageError(
        f"{name} holds {size} bytes, and the limit is {limits.max_image_bytes:,}.",
        hint="Make it smaller, or raise --max-image-bytes.",
    )


def _read_data_url(url: str, limits: Limits, wanted: Literal["image", "video"]) -> bytes:
    name = shortened(url)
    head, comma, body = url.partition(",")
    if not comma:
        raise ImageError(f"{name} is not a data URL: it has no comma.")
    kind, *options = head[5:].split(";")
    kind = kind.strip().lower()
    if kind not in ("", "application/octet-stream", "image/gif") and not kind.startswith(f"{wanted}/"):
        a_type = "an image" if wanted == "image" else "a video"
        raise ImageError(f"{name} holds {kind}, not {a_type}.", hint=f"Give a data URL of {a_type}/ type.")
    if len(body) > 2 * limits.max_image_bytes:
        raise _too_large(name, f"about {len(body) * 3 // 4:,}", limits)
    if not any(option.strip().lower() == "base64" for option in options):
        return _checked_size(unquote_to_bytes(body), name, limits)
    try:
        plain = re.sub(rb"\s+", b"", unquote_to_bytes(body)).translate(bytes.maketrans(b"-_", b"+/"))
        plain = plain.rstrip(b"=")
        data = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(
            f"{name} is not valid base64: {error}.", hint=f"Encode the {wanted} again."
        ) from None
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
            raise ImageError(f"{shortened(path)} {words}, not an image file.", hint="Name a regular file.")
    if status.st_size > limits.max_image_bytes:
        raise _too_large(shortened(path), f"{status.st_size:,}", limits)


def _read_file(path: str, limits: Limits) -> tuple[bytes, bytes]:
    with _opened(path, limits) as (file, status):
        data = _read_all(file.read, status.st_size, limits.max_image_bytes)
    data = _checked_size(data, shortened(path), limits)
    return data, DIGESTS.of(stamp_of(path, status), data)


def read_head(path: str, limits: Limits, size: int) -> bytes:
    """The first bytes of a file, at most `size`.

    Raises:
        ImageError: When it may not be read, cannot be, or is larger than `limits.max_image_bytes`.
    """
    with _opened(path, limits) as (file, _):
        return _read_all(file.read, size - 1, size - 1)[:size]


@contextmanager
def _opened(path: str, limits: Limits) -> Iterator[tuple[RawIOBase, os.stat_result]]:
    """A file to be read, and its state."""
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
            yield file, status
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise not_a_source(path) from None
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        raise ImageError(
            f"{shortened(path)} cannot be read: {cause}.",
            hint="Paths are relative to the manifest's folder." if missing else "Check the file.",
        ) from None


def _read_all(read: Callable[[int], bytes | None], size: int, limit: int) -> bytes:
    pieces: list[bytes] = []
    total = 0
    while total <= limit and (piece := read(min(max(size - total, 1) + 1, limit + 1 - total))):
        pieces.append(piece)
        total += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def file_digest(state: FileStamp, limits: Limits) -> bytes | None:
    """BLAKE2b-128 of the file in the given state; None when it is in another now, or cannot be read."""
    digest = DIGESTS.get(state)
    if digest is None:
        try:
            _read_file(state.path, limits)
        except ImageError:
            return None
        digest = DIGESTS.get(state)
    return digest
