"""Sizes that a file's header says, for formats whose decoders look at no limit before they decode.

Reads bytes; decodes no pixel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["icon_entries", "jpeg_xl_is_animated", "jpeg_xl_size", "tiff_is_cut", "webp_size"]

_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class _Bits:
    """Bits of a JPEG XL codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("its header is truncated")
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return taken


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG XL image in pixels, not turned (ISO/IEC 18181-1, SizeHeader).

    Raises:
        ValueError: When there is no such header.
    """
    return _size(_Bits(_codestream_start(data)[2:34]))


def jpeg_xl_is_animated(data: bytes) -> bool:
    """Whether a JPEG XL image has more than one frame (ISO/IEC 18181-1, ImageMetadata).

    Raises:
        ValueError: When there is no such header.
    """
    bits = _Bits(_codestream_start(data)[2:34])
    _size(bits)
    if bits.take(1) or not bits.take(1):  # all as usual; no further fields
        return False
    bits.take(3)  # how it is turned
    if bits.take(1):  # another size to be shown in
        _size(bits)
    return bool(bits.take(1)) or bool(bits.take(1))  # a preview is another image as well


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if is_small else 1 + bits.take((9, 13, 18, 30)[bits.take(2)])

    height = side()
    ratio = bits.take(3)
    if ratio:
        wide, high = _JXL_RATIOS[ratio - 1]
        return height * wide // high, height
    return side(), height


def _codestream_start(data: bytes) -> bytes:
    if data.startswith(b"\xff\x0a"):
        return data[:34]
    for kind, body in _boxes(data):
        if kind == b"jxlc":
            return data[body : body + 34]
        if kind == b"jxlp":  # a part: its number first
            return data[body + 4 : body + 38]
    raise ValueError("it has no codestream")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = 0
    while at + 8 <= len(data):
        size, kind, body = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, body = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        yield kind, body
        if size < 8:  # 0: to the end of the file
            return
        at += size


def icon_entries(data: bytes) -> list[tuple[tuple[int, int], int, bytes]]:
    """The images of an ICO file, each with its true size, bits of a pixel, and its bytes, largest first."""
    found = []
    for number in range(int.from_bytes(data[4:6], "little")):
        entry = data[6 + 16 * number : 22 + 16 * number]
        length, start = (int.from_bytes(entry[at : at + 4], "little") for at in (8, 12))
        body = data[start : start + length]
        if body.startswith(b"\x89PNG"):
            size = (int.from_bytes(body[16:20], "big"), int.from_bytes(body[20:24], "big"))
            found.append((size, 32, body))
        elif len(body) >= 40:
            width, height = (abs(int.from_bytes(body[at : at + 4], "little", signed=True)) for at in (4, 8))
            found.append(((width, height // 2), int.from_bytes(body[14:16], "little"), body))
    return sorted(found, key=lambda image: (image[0][0] * image[0][1], image[1]), reverse=True)


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP image's canvas in pixels; None where its header is another."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
        return width, height
    return None


_TIFF_OFFSETS = {273: 279, 324: 325}
"""Tags of where strips and tiles are, and of how long they are."""
_TIFF_SIZES = {3: "H", 4: "I"}


def tiff_is_cut(data: bytes) -> bool:
    """Whether a TIFF file ends before what its first page needs; False where that cannot be told."""
    order = "<" if data.startswith(b"II") else ">"
    if data[2:4] not in (b"*\0", b"\0*"):
        return False
    at = struct.unpack_from(f"{order}I", data.ljust(8, b"\0"), 4)[0]
    if at + 2 > len(data):
        return True
    end = at + 2 + 12 * struct.unpack_from(f"{order}H", data, at)[0]
    if end > len(data):
        return True
    values: dict[int, tuple[int, ...]] = {}
    for entry in range(at + 2, end, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, entry)
        if kind not in _TIFF_SIZES:
            continue
        form = f"{order}{count}{_TIFF_SIZES[kind]}"
        size = count * struct.calcsize(_TIFF_SIZES[kind])
        place = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, entry + 8)[0]
        if place + size > len(data):
            return True
        if tag in _TIFF_OFFSETS or tag in _TIFF_OFFSETS.values():
            values[tag] = struct.unpack_from(form, data, place)
    return any(
        start + length > len(data)
        for offsets, lengths in _TIFF_OFFSETS.items()
        for start, length in zip(values.get(offsets, ()), values.get(lengths, ()), strict=False)
    )
