"""What a request for vLLM is made of, as far as vLLM is not needed for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from pixano_vlm.engines.vllm import request as vllm_request
from pixano_vlm.engines.vllm.logprobs import told
from pixano_vlm.engines.vllm.request import _Pictures
from pixano_vlm.errors import ImageError
from pixano_vlm.models import Limits


def picture(path: Path, color: str) -> Path:
    Image.new("RGB", (20, 10), color).save(path)
    return path


def test_an_image_that_several_records_ask_about_is_opened_once(tmp_path: Path) -> None:
    first, copy = picture(tmp_path / "a.png", "red"), picture(tmp_path / "copy.png", "red")
    pictures = _Pictures()
    assert pictures.open(first, Limits())[1] is pictures.open(copy, Limits())[1]


def test_no_more_pixels_are_kept_than_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_request, "KEPT_PIXELS", 400)
    colors = ("red", "green", "blue")
    files = [picture(tmp_path / f"{color}.png", color) for color in colors]
    pictures = _Pictures()
    opened = [pictures.open(file, Limits())[1] for file in files]
    assert len(pictures._kept) == 2
    assert pictures.open(files[2], Limits())[1] is opened[2]
    assert pictures.open(files[0], Limits())[1] is not opened[0]


def test_one_that_is_kept_is_refused_where_limits_have_become_narrower(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png", "red")
    pictures = _Pictures()
    pictures.open(file, Limits())
    with pytest.raises(ImageError):
        pictures.open(file, Limits(max_image_pixels=10))


def test_an_image_turned_by_its_exif_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "turned.jpg", exif=exif)
    _, upright = _Pictures().open(tmp_path / "turned.jpg", Limits())
    assert upright.size == (10, 20)
    assert not upright.getexif()  # by which vLLM would turn it again
    assert not upright.info


@dataclass
class Logprob:
    """As vLLM has it."""

    logprob: float
    rank: int
    decoded_token: str


@dataclass
class Completion:
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None


@pytest.mark.parametrize(
    ("count", "others"), [(0, [[], []]), (1, [["a"], ["c"]]), (2, [["a", "b"], ["c", "d"]])]
)
def test_what_vllm_tells_of_its_tokens_is_written_in_openais_form(
    count: int, others: list[list[str]]
) -> None:
    first = {1: Logprob(-0.1, 1, "a"), 2: Logprob(-3.0, 2, "b")}
    second = {3: Logprob(-0.2, 1, "c"), 4: Logprob(-2.0, 2, "d"), 5: Logprob(-9.0, 7, "e")}
    logs, written = told(Completion([1, 5], [first, second]), count)
    assert logs == [-0.1, -9.0]
    assert written is not None
    assert [entry["token"] for entry in written["content"]] == ["a", "e"]
    assert [[other["token"] for other in entry["top_logprobs"]] for entry in written["content"]] == others
    assert told(Completion([1], None), 0) == ([], None)
