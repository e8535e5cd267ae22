"""More than a hundred image files: each shows the pixels that it means, or is flagged, or refused in plain words."""

from __future__ import annotations

import contextlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.media.files import page, tiff
from tests.media.gallery import CASES, GREY, RGB, Case, grey, saved

from pixano_vlm.errors import ImageError
from pixano_vlm.media import formats
from pixano_vlm.media.formats import FORMATS, Format
from pixano_vlm.media.pixels import decode_page
from pixano_vlm.models.limits import Limits

GOOD = [case for case in CASES if case.pixels is not None]
BAD = [case for case in CASES if case.pixels is None]


def test_there_are_enough() -> None:
    assert len(GOOD) >= 80
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # Pillow's, of metadata: the module ignores it, pytest takes it back
@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_a_file_shows_the_pixels_that_it_means(case: Case) -> None:
    decoded = decode_page(case.data, Limits(), case.name)
    shown = np.asarray(decoded.image).astype(int)
    assert case.pixels is not None
    assert shown.shape == case.pixels.shape
    assert np.abs(shown - case.pixels).max() <= max(case.loss, 1)
    assert (decoded.pages, decoded.is_guessed) == (case.pages, case.guessed)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_a_file_that_cannot_be_read_is_refused_in_plain_words(case: Case) -> None:
    with pytest.raises(ImageError, match=case.told) as caught:
        decode_page(case.data, Limits(), case.name)
    assert str(caught.value).startswith(case.name)
    assert caught.value.hint


@pytest.mark.parametrize(
    "format", [format for format in FORMATS if format.extra], ids=lambda format: format.name
)
def test_a_format_whose_package_is_missing_says_what_to_install(
    format: Format, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    starts = {"HEIF": b"\0\0\0\x18ftypheic" + bytes(40), "JXL": b"\xff\x0a" + bytes(40), "PDF": b"%PDF-1.7\n"}
    monkeypatch.setattr(formats, "_is_installed", lambda package: False)
    with pytest.raises(ImageError, match=f"needs the package {format.package}") as caught:
        decode_page(starts[format.name], Limits(), "a.bin")
    assert f"Run: pip install 'pixano-vlm[{format.extra}]'" in str(caught.value)
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\n{format.extra} = [" in project, "the extra is there"


@pytest.fixture
def pillows_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Pillow's limit, which is one of the process, as low as if all images here were past it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    return 100


@pytest.mark.parametrize("case", [case for case in GOOD if not case.needs], ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_limit_of_pillow_refuses_what_the_limits_allow(case: Case, pillows_limit: int) -> None:
    for page_number in range(1, case.pages + 1):
        assert decode_page(case.data, Limits(), case.name, page_number).pages == case.pages
    assert pillows_limit == Image.MAX_IMAGE_PIXELS


def test_our_own_limit_names_its_flag() -> None:
    with pytest.raises(ImageError, match="24 x 16 pixels, and the limit is 100") as caught:
        decode_page(saved(RGB, "TIFF"), Limits(max_image_pixels=100), "x")
    assert "--max-image-pixels" in str(caught.value)


def test_large_images_at_once_do_not_disturb_each_other(pillows_limit: int) -> None:
    data = saved(np.zeros((600, 600, 3), np.uint8), "TIFF", compression="tiff_lzw")
    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(lambda _: decode_page(data, Limits(), "x").image.size, range(40)))
    assert sizes == [(600, 600)] * 40
    assert pillows_limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("format", ["WEBP", "JXL", "ICO"])
def test_what_a_decoder_would_decode_at_once_is_measured_before(format: str) -> None:
    """These decode, or take the memory, as soon as they are opened: the header is read here first."""
    if format == "JXL":
        pytest.importorskip("pillow_jxl")
    data = saved(np.zeros((64, 64, 3), np.uint8), format)
    with pytest.raises(ImageError, match="64 x 64 pixels, and the limit is 1,000"):
        decode_page(data, Limits(max_image_pixels=1_000), "x")


def test_pages_are_named_from_1_and_told_where_there_is_no_such_page() -> None:
    (case,) = (case for case in CASES if case.name == "three-pages.tif")
    assert decode_page(case.data, Limits(), "a.tif", 2).image.tobytes() == RGB[::-1].tobytes()
    assert decode_page(case.data, Limits(), "a.tif", 3).image.tobytes() == grey(GREY).tobytes()
    for number in (0, 4):
        with pytest.raises(ImageError, match=f"a.tif has 3 pages, and page {number} was asked for"):
            decode_page(case.data, Limits(), "a.tif", number)


@pytest.mark.parametrize("name", [case.name for case in CASES if case.pages == 2])
def test_the_second_page_of_every_format_is_another_image(name: str) -> None:
    (case,) = (case for case in CASES if case.name == name)
    second = np.asarray(decode_page(case.data, Limits(), name, 2).image).astype(int)
    assert case.pixels is not None
    wanted = case.pixels if name.endswith(".pdf") else case.pixels[::-1]
    assert np.abs(second - wanted).max() <= max(case.loss, 1)


def test_pages_that_are_not_decoded_count_against_no_limit() -> None:
    small, large = page(RGB, 8, 2), page(np.zeros((200, 200, 3), int), 8, 2)
    decoded = decode_page(tiff(small, large), Limits(max_image_pixels=1_000), "x")
    assert decoded.pages == 2
    with pytest.raises(ImageError, match="200 x 200 pixels"):
        decode_page(tiff(small, large), Limits(max_image_pixels=1_000), "x", 2)


def test_an_endless_chain_of_pages_ends() -> None:
    data = bytearray(tiff(page(RGB, 8, 2), page(RGB, 8, 2)))
    first = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[first : first + 2], "little")
    second_link = first + 2 + 12 * entries
    second = int.from_bytes(data[second_link : second_link + 4], "little")
    data[second + 2 + 12 * entries : second + 6 + 12 * entries] = first.to_bytes(4, "little")
    assert decode_page(bytes(data), Limits(), "x").image.size == (24, 16)


@given(st.sampled_from([case for case in GOOD if len(case.data) < 20_000]), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_damage_is_an_error_of_ours_or_an_image(case: Case, data: st.DataObject) -> None:
    """Whatever byte is wrong and wherever a file ends, the outcome is pixels or an `ImageError`."""
    changed = bytearray(case.data)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(1, len(changed)))
    with warnings.catch_warnings(), contextlib.suppress(ImageError):
        warnings.simplefilter("ignore")
        image = decode_page(bytes(changed[:end]), Limits(max_image_pixels=1_000_000), "x").image
        assert image.mode == "RGB"
