"""Writes image files byte by byte, so that what they hold does not depend on an encoder."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column, first row, step of columns, step of rows."""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    samples: Array,
    depth: int,
    colour: int,
    *,
    before: bytes = b"",
    after: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """A PNG of samples `[height, width, bands]`, each as its file has it. `before` and `after` are whole chunks."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in _PASSES] if interlaced else [samples]
    rows = b"".join(_rows(part, depth) for part in parts if part.size)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(rows))
        + after
        + chunk(b"IEND", b"")
    )


def _rows(samples: Array, depth: int) -> bytes:
    flat = samples.reshape(samples.shape[0], -1)
    if depth == 16:
        packed = flat.astype(">u2").view(np.uint8).reshape(flat.shape[0], -1)
    elif depth == 8:
        packed = flat.astype(np.uint8)
    else:
        packed = pack_bits(flat, depth)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def pack_bits(flat: Array, depth: int) -> Array:
    """Rows of small numbers -> rows of bytes, the first number in the highest bits."""
    bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(flat.shape[0], -1).astype(np.uint8), axis=1)


SHORT, LONG = 3, 4
_KINDS = {SHORT: "H", LONG: "I"}


def tiff(*pages: tuple[dict[int, Any], bytes], order: str = "<", big: bool = False) -> bytes:
    """A TIFF of pages, each its tags (beside the places of its one strip) and the strip's bytes."""
    offset, count = ("Q", "Q") if big else ("I", "H")
    head = b"II" if order == "<" else b"MM"
    out = bytearray(head + struct.pack(f"{order}H", 43 if big else 42))
    if big:
        out += struct.pack(f"{order}HH", 8, 0)
    link = len(out)
    out += struct.pack(f"{order}{offset}", 0)
    for tags, strip in pages:
        start = len(out)
        out += strip + b"\0" * (len(strip) % 2)
        entries = {**tags, 273: start, 278: tags[257], 279: len(strip)}
        extra = bytearray()
        here = len(out)
        size = 8 if big else 4
        table = struct.calcsize(f"{order}{count}") + len(entries) * (12 + 2 * size - 4 if big else 12) + size
        body = struct.pack(f"{order}{count}", len(entries))
        for tag, value in sorted(entries.items()):
            values = value if isinstance(value, tuple) else (value,)
            kind = LONG if tag in (273, 279, 256, 257, 278) or max(values) > 0xFFFF else SHORT
            packed = struct.pack(f"{order}{len(values)}{_KINDS[kind]}", *values)
            if len(packed) > size:
                place = here + table + len(extra)
                extra += packed + b"\0" * (len(packed) % 2)
                packed = struct.pack(f"{order}{offset}", place)
            body += struct.pack(f"{order}HH{offset}", tag, kind, len(values)) + packed.ljust(size, b"\0")
        struct.pack_into(f"{order}{offset}", out, link, here)
        link = len(out) + len(body)
        out += body + struct.pack(f"{order}{offset}", 0) + extra
    return bytes(out)


def page(
    samples: Array, bits: int, photometric: int, *, order: str = "<", **more: Any
) -> tuple[dict[int, Any], bytes]:
    """One uncompressed page of samples `[height, width, bands]`; further tags as `t274=6`."""
    height, width, bands = samples.shape
    kinds = {8: "u1", 16: "u2", 32: "u4"}
    if samples.dtype.kind == "f":
        data = samples.astype(f"{order}f4").tobytes()
    elif samples.dtype.kind == "i" and samples.min() < 0:
        data = samples.astype(f"{order}i{bits // 8}").tobytes()
    elif bits in kinds:
        data = samples.astype(f"{order}{kinds[bits]}").tobytes()
    else:
        data = pack_bits(samples.reshape(height, -1).astype(np.int64), bits).tobytes()
    tags: dict[int, Any] = {
        256: width,
        257: height,
        258: (bits,) * bands,
        259: 1,
        262: photometric,
        277: bands,
    }
    return tags | {int(name[1:]): value for name, value in more.items()}, data


def targa(samples: Array, *, alpha_bits: int = 0, top_first: bool = True) -> bytes:
    """An uncompressed Targa of RGB or RGBA samples."""
    height, width, bands = samples.shape
    flags = alpha_bits | (0x20 if top_first else 0)
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, width, height, 8 * bands, flags)
    order = [2, 1, 0, 3][:bands]
    rows = samples if top_first else samples[::-1]
    return head + rows[..., order].astype(np.uint8).tobytes()


def without_adobe_mark(jpeg: bytes) -> bytes:
    """A JPEG without its APP14 segment."""
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0] :]
