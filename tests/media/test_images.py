"""An image is read as a person would see it: upright, in RGB, whatever its file holds."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from PIL import Image

from pixano_vlm.errors import ImageError
from pixano_vlm.media import reading, stamps
from pixano_vlm.media.formats import FORMATS
from pixano_vlm.media.images import load_image
from pixano_vlm.media.pixels import decode_image
from pixano_vlm.media.reading import file_digest
from pixano_vlm.media.stamps import image_digest, stamp
from pixano_vlm.models import Limits

RED, GREEN = (255, 0, 0), (0, 128, 0)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def two_by_one() -> Image.Image:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), GREEN)
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(two_by_one(), exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    loaded = load_image(data, Limits())
    assert loaded.size == expected.size == loaded.image.size
    assert loaded.image.tobytes() == expected.tobytes()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # the module ignores it; pytest takes that back
def test_damaged_exif_leaves_the_image_as_it_lies() -> None:
    data = encoded(two_by_one(), "JPEG", exif=b"Exif\0\0MM\0*" + b"\xff" * 40)
    assert load_image(data, Limits()).size == (2, 1)


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (65535, 255), (32896, 128), (257, 1)])
def test_sixteen_bit_greys_are_scaled(value: int, grey: int) -> None:
    image = Image.new("I;16", (3, 3), value)
    assert decode_image(encoded(image), Limits(), "x").getpixel((1, 1)) == (grey, grey, grey)


@pytest.mark.parametrize(("value", "grey"), [(0.0, 0), (1.0, 255), (0.5, 127)])
def test_floats_from_0_to_1_are_scaled(value: float, grey: int) -> None:
    image = Image.new("F", (3, 3), value)
    assert decode_image(encoded(image, "TIFF"), Limits(), "x").getpixel((1, 1)) == (grey, grey, grey)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((0, 0), (255, 0, 0, 255))
    image = clear.quantize(4) if mode == "P" else clear.convert(mode)
    assert decode_image(encoded(image), Limits(), "x").getpixel((3, 3)) == (255, 255, 255)


def test_a_transparent_colour_of_an_rgb_image_is_laid_over_white() -> None:
    image = Image.new("RGB", (2, 2), (1, 2, 3))
    assert decode_image(encoded(image, transparency=(1, 2, 3)), Limits(), "x").getpixel((0, 0)) == (
        255,
        255,
        255,
    )


def test_cmyk_becomes_rgb() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")
    assert decode_image(data, Limits(), "x").getpixel((1, 1)) == RED


def test_an_animation_counts_as_its_first_frame() -> None:
    data = encoded(Image.new("P", (4, 4), 0), "GIF", save_all=True, append_images=[Image.new("P", (4, 4), 9)])
    first = Image.open(io.BytesIO(data)).convert("RGB")
    assert decode_image(data, Limits(), "x").tobytes() == first.tobytes()


@pytest.mark.parametrize("format", [format.name for format in FORMATS if format.extra is None])
def test_every_listed_format_is_read(format: str) -> None:
    assert decode_image(encoded(Image.new("RGB", (16, 16), RED), format), Limits(), "x").mode == "RGB"


def test_the_limit_holds_without_touching_the_limit_of_the_process() -> None:
    before = Image.MAX_IMAGE_PIXELS
    data = encoded(Image.new("1", (20_000, 10_000)))
    with pytest.raises(ImageError, match="20,000 x 10,000"):
        decode_image(data, Limits(), "x")
    assert decode_image(data, Limits(max_image_pixels=200_000_000), "x").size == (20_000, 10_000)
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_digest_is_that_of_the_encoded_bytes(tmp_path: Path) -> None:
    data = encoded(two_by_one())
    (tmp_path / "a.png").write_bytes(data)
    assert (
        load_image(tmp_path / "a.png", Limits()).digest
        == load_image(data, Limits()).digest
        == image_digest(data)
    )


def test_a_file_read_once_is_not_read_again_for_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(two_by_one()))
    before = stamp(str(path))
    loaded = load_image(path, Limits())
    path.unlink()
    assert file_digest(before, Limits()) == loaded.digest


def test_a_files_bytes_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def count(data: bytes) -> bytes:
        hashed.append(len(data))
        return image_digest(data)

    monkeypatch.setattr(stamps, "image_digest", count)
    monkeypatch.setattr(reading, "image_digest", count)
    path = tmp_path / "a.png"
    path.write_bytes(encoded(two_by_one()))
    loaded = load_image(path, Limits())
    assert file_digest(stamp(str(path)), Limits()) == load_image(path, Limits()).digest == loaded.digest
    assert len(hashed) == 1


def test_a_file_that_has_changed_since_has_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(two_by_one()))
    before = stamp(str(path))
    path.write_bytes(encoded(two_by_one().resize((9, 9))))
    assert file_digest(before, Limits()) is None


def test_many_threads_may_load(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(two_by_one()))
    sizes: list[tuple[int, int]] = []
    threads = [
        threading.Thread(target=lambda: sizes.append(load_image(path, Limits()).size)) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [(2, 1)] * 16


def test_the_former_import_of_load_image_still_works_and_says_where_it_is_now() -> None:
    with pytest.warns(DeprecationWarning, match="from pixano_vlm import load_image"):
        from pixano_vlm.records.images import load_image as former
    assert former is load_image
