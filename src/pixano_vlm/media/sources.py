"""What an image source is: a path, a `file:` URL, another URL, a data URL, or base64 alone; each with `#page=N`, too.

Opens none of them.
"""

from __future__ import annotations

import base64
import os
import re
from urllib.parse import unquote, urlsplit

from pixano_vlm.errors import ImageError
from pixano_vlm.media.formats import sniff

_SCHEME = re.compile(r"(?i)(?:data:|[a-z][a-z0-9+.\-]+://)")
_SHOWN_DATA = 40
_SHOWN = 1_000
"""Longest path or URL that is shown whole, in characters."""
_SHOWN_OF_LONG = 200

_SHORTEST_BASE64 = 44
"""Characters of base64 that the smallest images take."""
_LEAD = re.compile(r"(?i)\s*(?:b?(?P<quote>['\"]))?(?:[a-z]+/[a-z0-9.+\-]+;)?(?:base64[,:])?\s*")
_PAGE = re.compile(r"#page=([0-9]{1,9})\Z")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/\-_=\s]")
_HEAD = 128
MAX_PATH, MAX_NAME = 4096, 255
"""Longest path of common file systems, and longest part of one, in bytes."""


def is_url(source: str) -> bool:
    """Whether `source` is a URL of any kind but `file:`, which is a path."""
    return ":" in source and _SCHEME.match(source) is not None and source[:7].lower() != "file://"


def is_data_url(source: str) -> bool:
    """Whether `source` holds the bytes themselves."""
    return source[:5].lower() == "data:"


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
    path = unquote(parts.path) + (f"#{parts.fragment}" if parts.fragment else "")
    if "\0" in path:
        raise ValueError("a path with a NUL character")
    return path


def from_base64(source: str) -> str:
    """`source`, or, of an image that is written as base64 alone, its data URL.

    Base64 may be URL-safe, in lines as in a mail, and in what is left of a data URL or of Python's print of bytes.
    Only what begins as an image does, or is marked as base64, is taken for one, so that no path is.
    """
    if len(source) < _SHORTEST_BASE64 or is_url(source):
        return source
    if (
        "." in source[:_HEAD] and "base64" not in source[:_HEAD].lower()
    ):  # quick, for nearly every path has a dot
        return source
    lead = _LEAD.match(source)
    assert lead is not None, "it matches nothing as well"
    start, end = lead.end(), len(source)
    if lead["quote"]:
        end = source.rfind(lead["quote"])
    head = "".join(source[start : start + 2 * _HEAD].split())[:_HEAD]
    is_known = "base64" in lead[0].lower() or _begins_an_image(head)
    if not is_known or _NOT_BASE64.search(source, start, end):
        return source
    return f"data:;base64,{source[start:end]}"


def _begins_an_image(head: str) -> bool:
    if _NOT_BASE64.search(head):
        return False
    plain = head.rstrip("=").translate(str.maketrans("-_", "+/"))
    plain = plain[: len(plain) // 4 * 4]
    try:
        data = base64.b64decode(plain, validate=True)
    except ValueError:
        return False
    format = sniff(data)
    return (format is not None and format.name != "TGA") or data[4:8] == b"ftyp"


def split_page(source: str) -> tuple[str, int | None]:
    """A source without the page that it names, `scan.tif#page=2`, and that page, from 1; None where it names none."""
    found = _PAGE.search(source) if "#page=" in source[-16:] else None
    return (source, None) if found is None else (source[: found.start()], int(found[1]))


def file_and_page(path: str) -> tuple[str, int | None]:
    """As `split_page`, of a path: a file that has such a name is itself."""
    without, page = split_page(path)
    return (path, None) if page is None or os.path.lexists(path) else (without, page)


def with_page(source: str, page: int) -> str:
    """The source that names one page of another."""
    return f"{source}#page={page}"


def check_is_path(path: str) -> None:
    """Refuses what is too long for a path, and so is something else.

    Raises:
        ImageError: When it is.
    """
    if len(path) > MAX_PATH or (len(path) > MAX_NAME and max(map(len, path.split("/"))) > MAX_NAME):
        raise not_a_source(path)


def not_a_source(source: str) -> ImageError:
    """The error for a string that names no image."""
    return ImageError(
        f"{shortened(source)} is not a path, a URL or the base64 of an image.",
        hint="Give a path, a URL, or the bytes of an image as base64.",
    )


def shortened(source: str) -> str:
    """`source` for people and for the output: data is cut to its first 40 characters, the rest where it is long."""
    if len(source) <= _SHOWN_DATA:
        return source
    if not is_data_url(source):
        source = from_base64(source)
    if is_data_url(source):
        shown = _SHOWN_DATA
    elif len(source) <= _SHOWN:
        return source
    else:
        shown = _SHOWN_OF_LONG if is_url(source) or "/" in source[:_SHOWN_OF_LONG] else _SHOWN_DATA
    return f"{source[:shown]}... ({len(source):,} characters)"


def confine(path: str, root: str) -> str:
    """The real path of `path`, which must lie inside `root` (a real path) with symbolic links resolved.

    Raises:
        ImageError: When it does not.
    """
    real = os.path.realpath(path)
    if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
        raise ImageError(
            f"{shortened(path)} lies outside the image root {root}"
            + (f": it leads to {shortened(real)}." if real != os.path.normpath(path) else "."),
            hint="Move the image into the root, or name another --image-root.",
        )
    return real
