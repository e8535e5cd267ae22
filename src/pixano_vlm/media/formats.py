"""Which formats of images there are: how bytes and names show them, and which package reads them.

Opens nothing and imports no decoder, so that folders can be looked through without one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

__all__ = [
    "FORMATS",
    "Format",
    "extra_of",
    "is_companion",
    "is_image_name",
    "looks_like",
    "missing_package",
    "passed_over",
    "readable_suffixes",
    "sniff",
]


@dataclass(frozen=True, slots=True)
class Format:
    """One format of images."""

    name: str
    """Pillow's name for it; PDF, which Pillow does not read, has its own."""
    suffixes: tuple[str, ...]
    is_in: Callable[[bytes], bool]
    """Whether a file of it begins with these bytes, of which there are at least 32 where the file is so long."""
    extra: str | None = None
    """The extra that installs the package which reads it; None: Pillow does."""
    package: str | None = None
    """That package's module."""
    holds_pages: bool = False
    """Whether a file may hold more than one image."""

    @property
    def is_readable(self) -> bool:
        """Whether the package that reads it is installed."""
        return self.package is None or _is_installed(self.package)


def _starts(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magics)


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    """Files in boxes, as MP4 is: the first box says what is in them, a kind first and those that it is also."""

    def check(head: bytes) -> bool:
        if head[4:8] != b"ftyp":
            return False
        return head[8:12] in brands or (
            head[8:12] in (b"mif1", b"msf1") and any(head[at : at + 4] in brands for at in range(16, 64, 4))
        )

    return check


def _is_jpeg_xl(head: bytes) -> bool:
    return head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"))


def _is_netpbm(head: bytes) -> bool:
    return head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3] in b" \t\r\n" and len(head) > 2


_TGA_DEPTHS = {1: (8, 16), 9: (8, 16), 2: (16, 24, 32), 10: (16, 24, 32), 3: (8, 16), 11: (8, 16)}


def _is_targa(head: bytes) -> bool:
    """Targa has no mark of its own: its header's fields must all make sense."""
    if len(head) < 18:
        return False
    kind, depth = head[2], head[16]
    sized = head[12:14] != b"\0\0" and head[14:16] != b"\0\0"
    mapped = head[1] == (kind in (1, 9)) and (head[1] == 1 or head[3:8] == bytes(5))
    return sized and mapped and depth in _TGA_DEPTHS.get(kind, ()) and not head[17] & 0xC0


_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")

FORMATS = (
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), _starts(b"\xff\xd8\xff"), holds_pages=True),
    Format("PNG", (".png", ".apng"), _starts(b"\x89PNG\r\n\x1a\n"), holds_pages=True),
    Format("WEBP", (".webp",), lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", holds_pages=True),
    Format("GIF", (".gif",), _starts(b"GIF87a", b"GIF89a"), holds_pages=True),
    Format("BMP", (".bmp", ".dib"), _starts(b"BM")),
    Format(
        "TIFF", (".tif", ".tiff"), _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0"),
        holds_pages=True,
    ),
    Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), _is_netpbm),
    Format("AVIF", (".avif",), _brand(*_AVIF), holds_pages=True),
    Format(
        "JPEG2000", (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
        _starts(b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x0cjP\x1a\x1a\r\n\x87\n"),
    ),
    Format("ICO", (".ico",), _starts(b"\0\0\1\0")),
    Format(
        "HEIF", (".heic", ".heif", ".hif"), lambda head: _brand(*_HEIC)(head) or head[4:12] == b"ftypmif1",
        "heic", "pillow_heif", holds_pages=True,
    ),
    Format("JXL", (".jxl",), _is_jpeg_xl, "jxl", "pillow_jxl"),
    Format("PDF", (".pdf",), _starts(b"%PDF-"), "pdf", "pypdfium2", holds_pages=True),
    Format("TGA", (".tga", ".icb", ".vda", ".vst"), _is_targa),
)  # fmt: skip
"""Formats that are decoded, the ones that bytes show clearly first. Pillow knows more, some of which run programs or
read other files."""

_BY_SUFFIX = {suffix: format for format in FORMATS for suffix in format.suffixes}


@lru_cache(maxsize=8)
def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


def sniff(data: bytes) -> Format | None:
    """The format that encoded bytes are in; None where it is not one that is decoded."""
    head = bytes(data[:64])
    found = next((format for format in FORMATS if format.is_in(head)), None)
    # Readers of PDF pass over a little of something else before the mark.
    return _BY_SUFFIX[".pdf"] if found is None and b"%PDF-" in data[:1024] else found


def missing_package(format: Format) -> str | None:
    """What to run so that a format can be read; None where it can be."""
    return None if format.is_readable else f"pip install 'pixano-vlm[{format.extra}]'"


@lru_cache(maxsize=1)
def readable_suffixes() -> frozenset[str]:
    """What the name of an image ends with, in lower case, of the formats that can be read as things are installed."""
    return frozenset(suffix for suffix, format in _BY_SUFFIX.items() if format.is_readable)


def extra_of(suffix: str) -> str | None:
    """The extra that has to be installed to read files of a suffix; None where none is missing or none would help."""
    format = _BY_SUFFIX.get(suffix.lower())
    return None if format is None or format.is_readable else format.extra


def is_image_name(name: str) -> bool:
    """Whether a file's name is that of an image that can be read. Hidden files are none: many tools leave some."""
    return os.path.splitext(name)[1].lower() in readable_suffixes() and not name.startswith(".")  # noqa: PTH122 - hot


def is_companion(name: str, stems: Collection[str]) -> bool:
    """Whether a file that is not read as an image belongs to one beside it: its caption, its mask, its description.

    Args:
        name: The file's name.
        stems: The names of the images in its folder, without their suffixes.
    """
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a hot path
    return suffix.lower() not in _BY_SUFFIX and (stem in stems or os.path.splitext(stem)[0] in stems)  # noqa: PTH122


def passed_over(counts: Mapping[str, int]) -> str | None:
    """One line about the files of a folder that are not read as images; None where there are none.

    Args:
        counts: Suffix in lower case, empty for names without one -> how many files.
    """
    if not counts:
        return None
    ordered = sorted(counts.items(), key=lambda item: (extra_of(item[0]) is None, -item[1], item[0]))
    shown = [f"{count:,} {_described(suffix)}" for suffix, count in ordered[:_SHOWN]]
    if (rest := sum(count for _, count in ordered[_SHOWN:])) > 0:
        shown.append(f"{rest:,} others")
    total = sum(counts.values())
    return f"{total:,} file{'s' * (total != 1)} passed over: {', '.join(shown)}"


_SHOWN = 8
"""Suffixes that are named in a line."""


def _described(suffix: str) -> str:
    extra = extra_of(suffix)
    named = suffix or "without a suffix"
    return named if extra is None else f"{named} (pip install 'pixano-vlm[{extra}]')"


_LOOKS = (
    (b"<svg", "SVG"),
    (b"<!doctype", "HTML"),
    (b"<html", "HTML"),
    (b"<?xml", "XML"),
    (b"{", "JSON"),
    (b"8bps", "Photoshop"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"qoif", "QOI"),
    (b"dds ", "DDS"),
    (b"\x00\x00\x02\x00", "a cursor"),
)


def looks_like(data: bytes) -> str | None:
    """What bytes that are not a known format of images seem to be, in a few words; None where that is not clear."""
    head = data[:64].lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run `git lfs pull`"
    if data[4:8] == b"ftyp":
        return "it looks like a video"
    found = next((name for magic, name in _LOOKS if head.startswith(magic)), None)
    return None if found is None else f"it looks like {found}"
