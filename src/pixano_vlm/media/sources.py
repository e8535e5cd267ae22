"""What an image source is: a path, a `file:` URL, another URL, a data URL. Opens none of them."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from pixano_vlm.errors import ImageError

_SCHEME = re.compile(r"(?i)(?:data:|[a-z][a-z0-9+.\-]+://)")
_SHOWN = 40


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
