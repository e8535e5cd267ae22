"""Image files as people have them, each with the pixels that it shows, or how it is flagged or refused."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageCms
from tests.media.files import Array, chunk, page, png, targa, tiff, without_adobe_mark

WIDTH, HEIGHT = 24, 16
_X, _Y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
RGB: Array = np.stack([_X * 11, _Y * 17, 255 - (_X + _Y) * 6], axis=-1).astype(np.uint8)
"""No two corners alike, and no step larger than 17, so that a lossy file stays near it."""
GREY: Array = (_X * 7 + _Y * 6).astype(np.uint8)
ALPHA: Array = np.clip(_X * 12, 0, 255).astype(np.uint8)
FLAT_LOSS, JPEG_LOSS = 2, 12


@dataclass(frozen=True)
class Case:
    """One file. `pixels` None: it is refused, with `told` in the message."""

    name: str
    data: bytes
    pixels: Array | None
    loss: int = 0
    """Most difference of a sample that the format brings with it, where it loses something."""
    pages: int = 1
    guessed: bool = False
    told: str = ""
    needs: str | None = None
    """The package that reads it."""
    magick: bool = True
    """Whether the other decoder (ImageMagick 6; djxl, heif-convert) shows it as its file means it."""


def grey(values: Array) -> Array:
    return np.repeat(np.asarray(values, dtype=np.uint8)[..., None], 3, axis=-1)


def on_white(rgb: Array, alpha: Array) -> Array:
    share = alpha[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


def scaled(values: Array, full: float) -> Array:
    return np.rint(np.clip(values / full, 0, 1) * 255).astype(np.uint8)


def saved(image: Array | Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made.save(buffer, format, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Array:
    """What a file of RGB with an EXIF orientation shows."""
    turns: dict[int, Callable[[Array], Array]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a[::-1].transpose(1, 0, 2),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a[:, ::-1].transpose(1, 0, 2),
    }
    return turns[orientation](RGB)


def exif(orientation: int, more: int = 0) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    if more:
        tags[0x010E] = "x" * more
    return tags.tobytes()


def cases() -> list[Case]:
    """Every file of the table."""
    makers = (
        png_depths, png_clear, png_chunks, png_scans, jpegs, gifs, webps, bitmaps, tiff_depths, tiff_colours,
        tiff_pages, portable, others, with_extras, refused,
    )  # fmt: skip
    return [case for maker in makers for case in maker()]


def png_depths() -> Iterator[Case]:
    for depth in (1, 2, 4, 8):
        values = GREY.astype(int) >> (8 - depth)
        yield Case(f"grey{depth}.png", png(values[..., None], depth, 0), grey(scaled(values, 2**depth - 1)))
        index = values if depth < 8 else GREY.astype(int)
        colours = np.stack(
            [np.arange(2**depth) * 5 % 256, 255 - np.arange(2**depth) * 3 % 256, np.arange(2**depth)]
        )
        palette = chunk(b"PLTE", colours.T.astype(np.uint8).tobytes())
        shown = colours.T.astype(np.uint8)[index]
        yield Case(f"palette{depth}.png", png(index[..., None], depth, 3, before=palette), shown)
    wide = GREY.astype(int) * 257
    yield Case("grey16.png", png(wide[..., None], 16, 0), grey(GREY))
    yield Case("rgb8.png", png(RGB, 8, 2), RGB)
    yield Case("rgb16.png", png(RGB.astype(int) * 257, 16, 2), RGB)
    yield Case("rgb8-interlaced.png", png(RGB, 8, 2, interlaced=True), RGB)
    yield Case("grey16-interlaced.png", png(wide[..., None], 16, 0, interlaced=True), grey(GREY))
    yield Case("one-pixel.png", png(RGB[:1, 1:2], 8, 2), RGB[:1, 1:2])
    long = np.tile(RGB[:1], (1, 400, 1))
    yield Case("long.png", png(long, 8, 2), long)
    yield Case("black16.png", png(np.zeros((4, 4, 1), int), 16, 0), np.zeros((4, 4, 3), np.uint8))
    yield Case("flat16.png", png(np.full((4, 4, 1), 771), 16, 0), np.full((4, 4, 3), 3, np.uint8))


def png_clear() -> Iterator[Case]:
    both = np.dstack([RGB, ALPHA])
    yield Case("rgba8.png", png(both, 8, 6), on_white(RGB, ALPHA))
    yield Case("rgba16.png", png(both.astype(int) * 257, 16, 6), on_white(RGB, ALPHA))
    pair = np.dstack([GREY, ALPHA])
    yield Case("grey-alpha8.png", png(pair, 8, 4), on_white(grey(GREY), ALPHA))
    yield Case("grey-alpha16.png", png(pair.astype(int) * 257, 16, 4), on_white(grey(GREY), ALPHA))
    clear = chunk(b"tRNS", int(GREY[3, 3]).to_bytes(2, "big"))
    mask = np.where(GREY[3, 3] == GREY, 0, 255)
    yield Case("grey-clear8.png", png(GREY[..., None], 8, 0, before=clear), on_white(grey(GREY), mask))
    wide = GREY.astype(int) * 257
    clear = chunk(b"tRNS", int(wide[3, 3]).to_bytes(2, "big"))
    yield Case("grey-clear16.png", png(wide[..., None], 16, 0, before=clear), on_white(grey(GREY), mask))
    clear = chunk(b"tRNS", b"".join(int(value).to_bytes(2, "big") for value in RGB[3, 3]))
    mask = np.where((RGB[3, 3] == RGB).all(axis=-1), 0, 255)
    yield Case("rgb-clear.png", png(RGB, 8, 2, before=clear), on_white(RGB, mask))
    palette = chunk(b"PLTE", bytes([9, 9, 9, 200, 10, 20, 10, 200, 20])) + chunk(b"tRNS", bytes([0, 128]))
    index = (_X // 8) % 3
    colours = np.array([[9, 9, 9], [200, 10, 20], [10, 200, 20]], np.uint8)[index]
    shown = on_white(colours, np.array([0, 128, 255])[index])
    yield Case("palette-clear.png", png(index[..., None], 8, 3, before=palette), shown)
    nothing = np.dstack([RGB, np.zeros_like(ALPHA)])
    yield Case("all-clear.png", png(nothing, 8, 6), np.full_like(RGB, 255))


def png_chunks() -> Iterator[Case]:
    def text(size: int) -> bytes:
        return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"word " * (size // 5)))

    wide = png(RGB, 8, 2, before=text(2 << 20))
    yield Case("text-2MB.png", wide, RGB)
    yield Case("text-at-the-end.png", png(RGB, 8, 2, after=text(4 << 20)), RGB)
    yield Case("texts-100MB.png", png(RGB, 8, 2, before=text(1_000_000) * 100), RGB)
    many = b"".join(chunk(b"tEXt", b"k%d\0v" % number) for number in range(5_000))
    yield Case("chunks-5000.png", png(RGB, 8, 2, before=many), RGB)
    unicode = chunk(b"iTXt", b"parameters\0\1\0en\0\0" + zlib.compress("word ä ".encode() * 500_000))
    yield Case("itxt-4MB.png", png(RGB, 8, 2, before=unicode), RGB)
    profile = chunk(b"iCCP", b"ICC\0\0" + zlib.compress(bytes(3 << 20)))
    yield Case("profile-3MB.png", png(RGB, 8, 2, before=profile), RGB)
    broken = chunk(b"tEXt", b"Comment\0hello")[:-4] + b"\0\0\0\0"
    yield Case("text-with-a-wrong-sum.png", png(RGB, 8, 2, before=broken), RGB)
    packed = chunk(b"zTXt", b"Comment\0\0" + b"not packed at all")
    yield Case("text-not-packed.png", png(RGB, 8, 2, before=packed), RGB)
    yield Case("exif.png", png(RGB, 8, 2, before=chunk(b"eXIf", exif(6)[6:])), turned(6), magick=False)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    xmp_chunk = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    yield Case("xmp-turned.png", png(RGB, 8, 2, before=xmp_chunk + text(2 << 20)), turned(6), magick=False)
    yield Case("bytes-behind.png", png(RGB, 8, 2) + b"\0" * 1000, RGB)
    frames = saved(RGB, "PNG", save_all=True, append_images=[Image.fromarray(RGB[::-1])])
    yield Case("animated.png", frames, RGB, pages=2)


def png_scans() -> Iterator[Case]:
    """Fewer bits than the file has room for: ImageMagick goes by the file, and shows black."""
    for bits in (10, 12, 14):
        values = np.linspace(0, 2**bits - 1, GREY.size).astype(int).reshape(GREY.shape)
        shown = grey(scaled(values, 2**bits - 1))
        yield Case(f"scan{bits}.png", png(values[..., None], 16, 0), shown, guessed=True, magick=False)
    bits8 = png(GREY.astype(int)[..., None], 16, 0)
    yield Case("scan8.png", bits8, grey(scaled(GREY, 255)), guessed=True, magick=False)
    wide = RGB.astype(int) * 16
    yield Case("scan12-rgb.png", png(wide, 16, 2), RGB, 16, guessed=True, magick=False)
    pair = np.dstack([GREY.astype(int) * 16, np.full(GREY.shape, 65535)])
    yield Case("scan12-grey-alpha.png", png(pair, 16, 4), grey(GREY), 16, guessed=True, magick=False)
    dark = png(RGB.astype(int), 16, 2)
    yield Case("scan8-rgb.png", dark, np.zeros_like(RGB), guessed=True)


def jpegs() -> Iterator[Case]:
    best: dict[str, Any] = {"quality": 98, "subsampling": 0}
    yield Case("plain.jpg", saved(RGB, "JPEG", **best), RGB, JPEG_LOSS)
    yield Case("progressive.jpg", saved(RGB, "JPEG", progressive=True, **best), RGB, JPEG_LOSS)
    yield Case("grey.jpg", saved(GREY, "JPEG", quality=98), grey(GREY), JPEG_LOSS)
    for orientation in range(1, 9):
        data = saved(RGB, "JPEG", exif=exif(orientation), **best)
        yield Case(
            f"turned{orientation}.jpg", data, turned(orientation), JPEG_LOSS, magick=orientation not in (5, 7)
        )
    yield Case("turned9.jpg", saved(RGB, "JPEG", exif=exif(9), **best), RGB, JPEG_LOSS)
    yield Case("exif-60KB.jpg", saved(RGB, "JPEG", exif=exif(3, 60_000), **best), turned(3), JPEG_LOSS)
    yield Case("profile-1MB.jpg", saved(RGB, "JPEG", icc_profile=b"x" * 1_000_000, **best), RGB, JPEG_LOSS)
    yield Case("comment.jpg", saved(RGB, "JPEG", comment=b"c" * 60_000, **best), RGB, JPEG_LOSS)
    for progressive in (False, True):
        cut = saved(np.tile(RGB, (8, 8, 1)), "JPEG", progressive=progressive, **best)
        kind = "progressive-" if progressive else ""
        yield Case(f"{kind}without-end.jpg", cut[:-2], np.tile(RGB, (8, 8, 1)), JPEG_LOSS)
        yield Case(f"{kind}half-an-end.jpg", cut[:-1], np.tile(RGB, (8, 8, 1)), JPEG_LOSS)
    yield Case("bytes-behind.jpg", saved(RGB, "JPEG", **best) + b"\0" * 5000, RGB, JPEG_LOSS)
    inks = np.dstack([255 - RGB, np.zeros_like(GREY)])
    with_mark = saved(Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes()), "JPEG", quality=98)
    yield Case("cmyk-adobe.jpg", with_mark, RGB, JPEG_LOSS)
    yield Case("cmyk-without-mark.jpg", without_adobe_mark(with_mark), RGB, JPEG_LOSS, guessed=True)
    second = Image.fromarray(RGB[::-1])
    stereo = saved(RGB, "MPO", save_all=True, append_images=[second], **best)
    yield Case("views.mpo", _typed(stereo, 0x020002), RGB, JPEG_LOSS, pages=2)
    yield Case("preview.mpo", _typed(stereo, 0x010001), RGB, JPEG_LOSS)
    yield Case("brightness-map.jpg", _typed(stereo, 0), RGB, JPEG_LOSS)


def _typed(mpo: bytes, kind: int) -> bytes:
    """A camera's file whose second image is of a kind: 0x020002 another view, 0x010001 a preview, 0 unknown."""
    head = mpo.index(b"MPF\0") + 4
    table = head + mpo[head:].index(b"\x02\xb0") + 8
    at = head + int.from_bytes(mpo[table : table + 4], "little") + 16
    return mpo[:at] + kind.to_bytes(4, "little") + mpo[at + 4 :]


def gifs() -> Iterator[Case]:
    index = (_X // 6 + _Y // 4).astype(np.uint8)
    image = Image.fromarray(index)
    image = image.convert("P")
    image.putpalette(
        [value for number in range(256) for value in (number * 20 % 256, 255 - number * 9 % 256, number)]
    )
    shown = np.asarray(image.convert("RGB"))
    yield Case("still.gif", saved(image, "GIF"), shown)
    yield Case("interlaced.gif", saved(image, "GIF", interlace=1), shown)
    clear = shown.copy()
    clear[index == 2] = 255
    yield Case("clear.gif", saved(image, "GIF", transparency=2), clear)
    other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    data = saved(image, "GIF", save_all=True, append_images=[other, image])
    yield Case("animated.gif", data, shown, pages=3)


def webps() -> Iterator[Case]:
    yield Case("lossless.webp", saved(RGB, "WEBP", lossless=True), RGB)
    yield Case("lossy.webp", saved(np.full_like(RGB, 90), "WEBP", quality=95), np.full_like(RGB, 90), 4)
    both = np.dstack([RGB, ALPHA])
    yield Case("clear.webp", saved(both, "WEBP", lossless=True, exact=True), on_white(RGB, ALPHA))
    yield Case("turned.webp", saved(RGB, "WEBP", lossless=True, exif=exif(6)), turned(6), magick=False)
    data = saved(RGB, "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(RGB[::-1])])
    yield Case("animated.webp", data, RGB, pages=2)


def bitmaps() -> Iterator[Case]:
    yield Case("rgb24.bmp", saved(RGB, "BMP"), RGB)
    yield Case("grey8.bmp", saved(GREY, "BMP"), grey(GREY))
    yield Case("bits1.bmp", saved(Image.fromarray(GREY > 99), "BMP"), grey(np.where(GREY > 99, 255, 0)))
    clear = np.dstack([RGB, ALPHA])
    yield Case("rgba32.bmp", saved(clear, "BMP"), RGB, magick=False)


def tiff_depths() -> Iterator[Case]:
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield Case(f"rgb-{compression}.tif", saved(RGB, "TIFF", compression=compression), RGB)
    yield Case("rgb-big-endian.tif", tiff(page(RGB, 8, 2, order=">"), order=">"), RGB)
    yield Case("rgb-bigtiff.tif", tiff(page(RGB, 8, 2), big=True), RGB)
    bits = GREY > 99
    shown = grey(np.where(bits, 255, 0))
    yield Case("bits-white-is-0.tif", tiff(page((~bits).astype(int)[..., None], 1, 0)), shown)
    yield Case("fax.tif", saved(Image.fromarray(bits), "TIFF", compression="group4"), shown)
    for depth in (2, 4):
        values = GREY.astype(int) >> (8 - depth)
        yield Case(
            f"grey{depth}.tif", tiff(page(values[..., None], depth, 1)), grey(scaled(values, 2**depth - 1))
        )
    for order in ("<", ">"):
        wide = tiff(page(GREY.astype(int)[..., None] * 257, 16, 1, order=order), order=order)
        yield Case(f"grey16{'le' if order == '<' else 'be'}.tif", wide, grey(GREY))
    twelve = GREY.astype(int) * 16
    yield Case("scan12-in-16.tif", tiff(page(twelve[..., None], 16, 1)), grey(scaled(twelve, 4095)),
               guessed=True, magick=False)  # fmt: skip
    told = tiff(page(twelve[..., None] // 4, 16, 1, t281=4095))
    yield Case("scan12-that-says-so.tif", told, grey(scaled(twelve // 4, 4095)), magick=False)
    yield Case("rgb16.tif", tiff(page(RGB.astype(int) * 257, 16, 2)), RGB)
    yield Case(
        "scan12-rgb16.tif", tiff(page(RGB.astype(int) * 16, 16, 2)), RGB, 16, guessed=True, magick=False
    )
    units = GREY.astype(int) * 10 - 1000
    shown = grey(scaled(units + 1000, units.max() + 1000))
    yield Case(
        "hounsfield.tif", tiff(page(units[..., None], 16, 1, t339=2)), shown, 1, guessed=True, magick=False
    )
    yield from tiff_floats()


def tiff_floats() -> Iterator[Case]:
    unit = (GREY / 255).astype(np.float32)
    yield Case("float.tif", tiff(page(unit[..., None], 32, 1, t339=3)), grey(GREY))
    gaps = unit.copy()
    gaps[2, 3] = np.nan
    shown = GREY.copy()
    shown[2, 3] = 0
    yield Case("float-nan.tif", tiff(page(gaps[..., None], 32, 1, t339=3)), grey(shown), guessed=True)
    bright = unit * 1000
    bright[2, 3] = np.inf
    shown = scaled(unit * 1000, (unit * 1000).max())
    shown[2, 3] = 255
    yield Case("float-inf.tif", tiff(page(bright[..., None], 32, 1, t339=3)), grey(shown), 1, guessed=True,
               magick=False)  # fmt: skip
    depths = GREY.astype(np.float32) * 3 - 50
    shown = grey(scaled(depths - depths.min(), depths.max() - depths.min()))
    yield Case("float-below-0.tif", tiff(page(depths[..., None], 32, 1, t339=3)), shown, 1, guessed=True,
               magick=False)  # fmt: skip
    nothing = np.full((4, 4, 1), np.nan, np.float32)
    yield Case(
        "float-all-nan.tif", tiff(page(nothing, 32, 1, t339=3)), None, told="none of its values is a finite"
    )


def tiff_colours() -> Iterator[Case]:
    inks = np.dstack([255 - RGB, np.zeros_like(GREY)])
    yield Case("cmyk.tif", tiff(page(inks, 8, 5, t332=1)), RGB)
    both = np.dstack([RGB, ALPHA])
    yield Case("rgba.tif", tiff(page(both, 8, 2, t338=2)), on_white(RGB, ALPHA))
    mixed = np.dstack([np.rint(RGB * (ALPHA[..., None] / 255)), ALPHA]).astype(np.uint8)
    yield Case("premultiplied.tif", tiff(page(mixed, 8, 2, t338=1)), on_white(RGB, ALPHA), 2)
    yield Case("fourth-band.tif", tiff(page(both, 8, 2, t338=0)), RGB, magick=False)
    palette = (np.arange(256) * 3 % 256, 255 - np.arange(256), np.arange(256) // 2)
    colours = tuple(int(value) * 257 for band in palette for value in band)
    shown = np.stack(palette, axis=-1).astype(np.uint8)[GREY]
    yield Case("palette.tif", tiff(page(GREY[..., None], 8, 3, t320=colours)), shown)
    short = tuple(int(value) for band in palette for value in band)
    yield Case("palette8.tif", tiff(page(GREY[..., None], 8, 3, t320=short)), shown)
    ycc = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    if int(PIL.__version__.partition(".")[0]) >= 13:  # earlier ones take raw YCbCr for a file that is cut off
        yield Case("ycbcr.tif", tiff(page(ycc, 8, 6, t530=(1, 1))), RGB, 3)
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    soft = Image.fromarray((RGB // 2 + 60).astype(np.uint8))
    lab = ImageCms.applyTransform(soft, to_lab)
    assert lab is not None
    yield Case("lab.tif", saved(lab, "TIFF"), np.asarray(soft), 12, magick=False)
    for orientation in (3, 6, 8):
        data = tiff(page(RGB, 8, 2, t274=orientation))
        yield Case(f"turned{orientation}.tif", data, turned(orientation))


def tiff_pages() -> Iterator[Case]:
    three = [page(RGB, 8, 2), page(RGB[::-1], 8, 2), page(GREY[..., None], 8, 1)]
    yield Case("three-pages.tif", tiff(*three), RGB, pages=3)
    small = page(RGB[::2, ::2], 8, 2, t254=1)
    yield Case("smaller-copies.tif", tiff(page(RGB, 8, 2), small, small), RGB)
    yield Case("small-copy-first.tif", tiff(small, page(RGB, 8, 2)), RGB, magick=False)
    mask = page(np.ones((HEIGHT, WIDTH, 1), int), 1, 4, t254=4)
    yield Case("mask.tif", tiff(page(RGB, 8, 2), mask), RGB)


def portable() -> Iterator[Case]:
    size = b"%d %d\n" % (WIDTH, HEIGHT)
    yield Case(
        "plain.pgm",
        b"P2\n# a comment\n" + size + b"255\n" + b" ".join(b"%d" % v for v in GREY.flat) + b"\n",
        grey(GREY),
    )
    yield Case("plain.ppm", b"P3\n" + size + b"255\n" + b" ".join(b"%d" % v for v in RGB.flat) + b"\n", RGB)
    yield Case("binary.ppm", b"P6\n" + size + b"255\n" + RGB.tobytes(), RGB)
    yield Case("binary.pbm", saved(Image.fromarray(GREY > 99), "PPM"), grey(np.where(GREY > 99, 255, 0)))
    twelve = (GREY.astype(int) * 16).astype(">u2")
    yield Case(
        "twelve.pgm", b"P5\n" + size + b"4095\n" + twelve.tobytes(), grey(scaled(GREY.astype(int) * 16, 4095))
    )
    wide = (GREY.astype(int) * 257).astype(">u2")
    yield Case("sixteen.pgm", b"P5\n" + size + b"65535\n" + wide.tobytes(), grey(GREY))
    unit = (GREY[::-1] / 255).astype("<f4")
    yield Case("float.pfm", b"Pf\n" + size + b"-1.0\n" + unit.tobytes(), grey(GREY))


def others() -> Iterator[Case]:
    yield Case("rgb.tga", targa(RGB), RGB)
    yield Case("bottom-first.tga", targa(RGB, top_first=False), RGB)
    yield Case("alpha.tga", targa(np.dstack([RGB, ALPHA]), alpha_bits=8), on_white(RGB, ALPHA))
    clear = targa(np.dstack([RGB, np.zeros_like(ALPHA)]))
    yield Case("alpha-of-nothing.tga", clear, RGB, magick=False)
    yield Case("packed.tga", saved(RGB, "TGA", compression="tga_rle"), RGB)
    yield Case("lossless.jp2", saved(RGB, "JPEG2000"), RGB)
    yield Case("codestream.j2k", saved(RGB, "JPEG2000", no_jp2=True), RGB)
    wide = Image.fromarray(GREY.astype(np.uint16) * 257)
    yield Case("grey16.jp2", saved(wide, "JPEG2000"), grey(GREY))
    square = np.ascontiguousarray(np.tile(RGB, (2, 2, 1))[:32, :32])
    sizes = saved(square, "ICO", sizes=[(32, 32), (16, 16)])
    yield Case("png-inside.ico", sizes, square, magick=False)
    yield Case("bitmap-inside.ico", saved(square, "ICO", sizes=[(32, 32)], bitmap_format="bmp"), square)
    yield Case("lossy.avif", saved(np.full_like(RGB, 120), "AVIF", quality=100), np.full_like(RGB, 120), 3)
    two = saved(
        RGB,
        "AVIF",
        quality=100,
        subsampling="4:4:4",
        save_all=True,
        append_images=[Image.fromarray(RGB[::-1])],
    )
    yield Case("animated.avif", two, RGB, 20, pages=2, magick=False)


def with_extras() -> Iterator[Case]:
    yield from _of("pillow_heif", heics)
    yield from _of("pillow_jxl", jpeg_xls)
    yield from _of("pypdfium2", pdfs)


def _of(package: str, maker: Callable[[], Iterator[Case]]) -> Iterator[Case]:
    try:
        import_module(package)
    except ImportError:
        return
    yield from maker()


def heics() -> Iterator[Case]:
    import_module("pillow_heif").register_heif_opener()
    near: dict[str, Any] = {"quality": 100, "chroma": 444}
    yield Case("photo.heic", saved(RGB, "HEIF", **near), RGB, 10, needs="pillow_heif")
    yield Case(
        "turned.heic",
        saved(RGB, "HEIF", exif=exif(6), **near),
        turned(6),
        10,
        needs="pillow_heif",
    )
    clear = saved(np.dstack([RGB, ALPHA]), "HEIF", **near)
    yield Case("clear.heic", clear, on_white(RGB, ALPHA), 12, needs="pillow_heif")
    two = saved(RGB, "HEIF", save_all=True, append_images=[Image.fromarray(RGB[::-1])], **near)
    yield Case("two.heic", two, RGB, 10, pages=2, needs="pillow_heif")


def jpeg_xls() -> Iterator[Case]:
    yield Case("lossless.jxl", saved(RGB, "JXL", lossless=True), RGB, needs="pillow_jxl")
    boxed = saved(RGB, "JXL", lossless=True, use_container=True)
    yield Case("boxed.jxl", boxed, RGB, needs="pillow_jxl")
    clear = saved(np.dstack([RGB, ALPHA]), "JXL", lossless=True)
    yield Case("clear.jxl", clear, on_white(RGB, ALPHA), needs="pillow_jxl")
    wide = Image.fromarray(GREY.astype(np.uint16) * 257)
    yield Case("grey16.jxl", saved(wide, "JXL", lossless=True), grey(GREY), needs="pillow_jxl")


def pdfs() -> Iterator[Case]:
    flat = Image.new("RGB", (150, 300), (200, 30, 90))
    two = saved(flat, "PDF", save_all=True, append_images=[flat], resolution=150, quality=100)
    yield Case("two-pages.pdf", two, np.asarray(flat), 3, pages=2, needs="pypdfium2", magick=False)


def refused() -> Iterator[Case]:
    whole = png(np.random.default_rng(0).integers(0, 255, (64, 64, 3)), 8, 2)
    for name, data in (
        ("cut.png", whole[: len(whole) // 2]),
        ("cut.jpg", saved(np.tile(RGB, (8, 8, 1)), "JPEG", quality=95)[:2000]),
        ("cut-progressive.jpg", saved(np.tile(RGB, (8, 8, 1)), "JPEG", quality=95, progressive=True)[:1500]),
        ("cut.webp", saved(np.tile(RGB, (8, 8, 1)), "WEBP", lossless=True)[:100]),
        ("cut.tif", tiff(page(RGB, 8, 2))[:-20]),
        ("cut.gif", saved(GREY, "GIF")[:400]),
        ("cut.bmp", saved(RGB, "BMP")[:300]),
        ("cut.ppm", b"P6\n24 16\n255\n" + RGB.tobytes()[:100]),
    ):
        yield Case(name, data, None, told="truncated")
    yield Case("page.html.png", b"<!DOCTYPE html><html></html>", None, told="looks like HTML")
    yield Case("drawing.svg.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', None, told="looks like SVG")
    yield Case("pointer.jpg", b"version https://git-lfs.github.com/spec/v1\n", None, told="git lfs pull")
    yield Case("movie.jpg", b"\0\0\0\x20ftypisom" + bytes(40), None, told="looks like a video")
    yield Case("wrong-sum.png", whole[:-30] + b"\0\0\0\0" + whole[-26:], None, told="damaged")


CASES = cases()
CASES_BY_NAME = {case.name: case for case in CASES}
