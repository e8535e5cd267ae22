"""Images with several pages: the first and a flag, all as images of their record, or a record for each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fakes import FakeModel
from tests.media.gallery import CASES, CASES_BY_NAME, RGB, saved

from pixano_vlm import Limits, VLMInput, generate
from pixano_vlm.errors import UsageError
from pixano_vlm.media.page_count import count_pages


class Seen(FakeModel):
    """Notes the images of each record."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.images: list[list[str]] = []

    def predict(self, input: VLMInput) -> Any:
        self.images.append([Path(str(image)).name for image in input.images or ()])
        return super().predict(input)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with a TIFF of three pages and an image of one."""
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "scan.tif").write_bytes(CASES_BY_NAME["three-pages.tif"].data)
    (folder / "photo.jpg").write_bytes(saved(RGB, "JPEG"))
    return folder


def ids(run: Any) -> list[str]:
    return [result.id for result in sorted(run, key=lambda result: result.request.index)]


def test_each_page_is_a_record_of_a_folder(scans: Path) -> None:
    model = Seen()
    run = generate(scans, model, prompt="What?", pages="each")
    assert ids(run) == ["photo.jpg", "scan.tif#page=1", "scan.tif#page=2", "scan.tif#page=3"]
    assert model.images == [["photo.jpg"], ["scan.tif#page=1"], ["scan.tif#page=2"], ["scan.tif#page=3"]]
    assert run.summary.flags == {}


def test_all_pages_are_images_of_their_record(scans: Path) -> None:
    model = Seen()
    run = generate(scans, model, prompt="What?", pages="all")
    assert ids(run) == ["photo.jpg", "scan.tif"]
    assert model.images == [["photo.jpg"], ["scan.tif#page=1", "scan.tif#page=2", "scan.tif#page=3"]]
    assert run.summary.flags == {}


def test_the_first_alone_flags_the_answer(scans: Path) -> None:
    model = Seen()
    run = generate(scans, model, prompt="What?")
    assert ids(run) == ["photo.jpg", "scan.tif"]
    assert model.images[1] == ["scan.tif"]
    assert run.summary.flags == {"pages_not_read": 1}


def lines_of(*values: dict[str, Any]) -> list[str]:
    return [json.dumps(value) for value in values]


def test_a_manifest_of_lines_is_read_alike(scans: Path, write_lines: Callable[..., Path]) -> None:
    manifest = write_lines("m.jsonl", lines_of(
        {"id": "a", "prompt": "q", "images": "scans/scan.tif"},
        {"prompt": "q", "images": ["scans/scan.tif"]},
        {"id": "c", "prompt": "q", "images": ["scans/scan.tif#page=2"]},
        {"id": "d", "prompt": "q", "images": ["scans/gone.tif"]},
        {"id": "e", "prompt": [{"role": "user", "content": [{"type": "image", "path": "scans/scan.tif"}]}]},
        {"id": "f", "prompt": "no image"},
    ))  # fmt: skip
    assert ids(generate(manifest, FakeModel(), pages="each")) == [
        "a#page=1", "a#page=2", "a#page=3", "2#page=1", "2#page=2", "2#page=3", "c", "d",
        "e#page=1", "e#page=2", "e#page=3", "f",
    ]  # fmt: skip


def test_places_in_messages_become_as_many_as_there_are_pages(
    scans: Path, write_lines: Callable[..., Path]
) -> None:
    content = [
        {"type": "image"}, {"type": "text", "text": "and"},
        {"type": "image_url", "image_url": {"url": "scans/scan.tif", "detail": "low"}},
    ]  # fmt: skip
    manifest = write_lines("m.jsonl", lines_of(
        {"prompt": [{"role": "user", "content": content}], "images": ["scans/scan.tif"]}
    ))  # fmt: skip
    asked: list[VLMInput] = []
    generate(manifest, FakeModel(on_answer=asked.append), pages="all").finish()
    (input,) = asked
    assert len(input.images or ()) == 3
    parts = input.prompt[0]["content"]  # type: ignore[index]  # messages
    assert [part["type"] for part in parts] == ["image"] * 3 + ["text"] + ["image_url"] * 3
    assert parts[-1]["image_url"]["detail"] == "low"
    assert parts[-1]["image_url"]["url"].endswith("scan.tif#page=3")


def test_places_in_a_text_become_as_many_as_there_are_pages(
    scans: Path, write_lines: Callable[..., Path]
) -> None:
    manifest = write_lines("m.jsonl", lines_of(
        {"prompt": "<image>\nand <image>?", "images": ["scans/photo.jpg", "scans/scan.tif"]}
    ))  # fmt: skip
    asked: list[VLMInput] = []
    generate(manifest, FakeModel(on_answer=asked.append), pages="all").finish()
    assert asked[0].prompt == "<image>\nand <image><image><image>?"


def test_too_many_pages_are_that_records_error_and_say_what_to_do(scans: Path) -> None:
    run = generate(scans, FakeModel(), prompt="What?", pages="all", limits=Limits(max_images=2))
    errors = [str(result.error) for result in run if result.error]
    assert len(errors) == 1
    assert "3 images, every page counted, and the limit is 2" in errors[0]
    assert "--pages each" in errors[0]


def test_a_record_of_several_images_is_not_taken_apart(scans: Path, write_lines: Callable[..., Path]) -> None:
    manifest = write_lines("m.jsonl", lines_of(
        {"id": "a", "prompt": "q", "images": ["scans/photo.jpg", "scans/scan.tif"]},
    ))  # fmt: skip
    (result,) = generate(manifest, FakeModel(), pages="each")
    assert (result.id, result.ok) == ("a", False)
    assert "--pages all" in str(result.error)


def test_inputs_that_are_read_once_cannot_be_taken_apart() -> None:
    with pytest.raises(UsageError, match="can be read only once"):
        generate([{"prompt": "q"}], FakeModel(), pages="each")


def test_resuming_asks_no_page_again_and_another_way_of_reading_is_another_question(scans: Path) -> None:
    output = scans.parent / "out.jsonl"
    first = FakeModel()
    generate(scans, first, prompt="What?", pages="each", output=output).finish()
    assert len(first.asked) == 4
    again = FakeModel()
    generate(scans, again, prompt="What?", pages="each", output=output, resume=True).finish()
    assert again.asked == []
    other = FakeModel()
    generate(scans, other, prompt="What?", pages="all", output=output, resume=True, force=True).finish()
    assert len(other.asked) == 1, "the photo's answer holds"


def test_pages_are_counted_as_they_are_read(tmp_path: Path) -> None:
    for case in CASES:
        path = tmp_path / case.name
        path.write_bytes(case.data)
        if case.pixels is not None and not case.name.endswith(".jxl"):
            assert count_pages(str(path), Limits()) == case.pages, case.name
    assert count_pages(str(tmp_path / "gone.tif"), Limits()) == 1
    assert count_pages("https://example.org/scan.tif", Limits()) == 1
    assert count_pages(f"{tmp_path}/three-pages.tif#page=2", Limits()) == 1


def test_pages_outside_the_root_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "scan.tif").write_bytes(CASES_BY_NAME["three-pages.tif"].data)
    assert count_pages(str(tmp_path / "scan.tif"), Limits(image_root=tmp_path / "root")) == 1


def test_pages_of_a_document(tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    pages = [Image.new("RGB", (300, 150), colour) for colour in ("red", "lime", "blue")]
    pages[0].save(tmp_path / "doc.pdf", save_all=True, append_images=pages[1:], resolution=150)
    model = Seen()
    run = generate(tmp_path / "doc.pdf", model, prompt="What?", pages="each")
    assert [Path(id).name for id in ids(run)] == ["doc.pdf#page=1", "doc.pdf#page=2", "doc.pdf#page=3"]
