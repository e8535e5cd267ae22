"""What a PNG file holds beside its pixels, by its chunks. Decodes nothing."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

__all__ = ["bit_depth", "without_bulk"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BULK = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_TURNING = (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1")
"""Keywords of texts that may say how an image is turned upright."""
_MOST_TEXT = 1 << 20
"""Longest such text that is kept, in bytes, unpacked."""


def bit_depth(data: bytes) -> int:
    """Bits of one sample, which Pillow reduces to 8 in images of several bands."""
    return data[24] if data.startswith(SIGNATURE) and len(data) > 24 else 0


def without_bulk(data: bytes) -> bytes:
    """The file without its texts and its colour profile, which nothing here reads, and whose size says nothing about
    the image: Pillow refuses an image for them. Texts that say how it is turned are kept.
    """
    kept: list[bytes | memoryview] = [SIGNATURE]
    view, start, dropped = memoryview(data), len(SIGNATURE), False
    for at, kind, end in _chunks(data):
        if kind in _BULK and not _turns(kind, data[at + 8 : end - 4]):
            kept.append(view[start:at])
            start, dropped = end, True
    if not dropped:
        return data
    kept.append(view[start:])
    return b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Each chunk: where it begins, its kind, where it ends."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield at, kind, end
        if kind == b"IEND":
            return
        at = end


def _turns(kind: bytes, body: bytes) -> bool:
    keyword, _, rest = body.partition(b"\0")
    if kind == b"iCCP" or keyword not in _TURNING or len(body) > _MOST_TEXT:
        return False
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return True
    # An iTXt has, after two flags, a language and a translated keyword before the text.
    rest = rest[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else rest[1:]
    unpack = zlib.decompressobj()
    try:
        unpack.decompress(rest, _MOST_TEXT)
    except zlib.error:
        return False
    return not unpack.unconsumed_tail
