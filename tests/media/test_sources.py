"""What a string that names an image may be: base64 without `data:` too; what it is not, is said in one sentence."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.fakes import FakeModel, run
from tests.media.gallery import CASES_BY_NAME, RGB, saved

from pixano_vlm.errors import ImageError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.media.images import load_image
from pixano_vlm.media.notes import Note, Notes
from pixano_vlm.media.sources import from_base64, is_url, shortened, split_page
from pixano_vlm.models import Limits, VLMInput
from pixano_vlm.records.content_key import ContentKey
from pixano_vlm.records.output_line import render
from pixano_vlm.records.result import Result

NOISE = Image.effect_noise((40, 30), 90).convert("RGB")
PNG = saved(NOISE, "PNG")
TEXT = base64.b64encode(PNG).decode()
URLSAFE = base64.urlsafe_b64encode(PNG).decode()
MIME = base64.encodebytes(PNG).decode()

FORMS = {
    "base64": TEXT,
    "URL-safe": URLSAFE,
    "without padding": TEXT.rstrip("="),
    "in lines": MIME,
    "in lines of a mail": MIME.replace("\n", "\r\n"),
    "indented": "  " + TEXT + "\n",
    "a data URL without data:": f"image/png;base64,{TEXT}",
    "only the mark": f"base64,{TEXT}",
    "Python's print of bytes": f"b'{TEXT}'",
    "in quotes": f'"{TEXT}"',
    "a data URL": f"data:image/png;base64,{TEXT}",
    "a data URL in lines": f"data:image/png;base64,{MIME}",
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_in_base64_is_decoded(form: str) -> None:
    loaded = load_image(FORMS[form], Limits())
    assert loaded.image.tobytes() == NOISE.tobytes()
    assert loaded.digest == load_image(PNG, Limits()).digest


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "ICO", "JPEG2000"]
)
def test_every_format_is_known_in_base64(format: str) -> None:
    data = saved(NOISE.convert("RGB"), format)
    assert is_url(from_base64(base64.b64encode(data).decode()))


@pytest.mark.parametrize(
    "path",
    [
        "images/cat.jpg", "/data/" + "a" * 200, "9j/" + "photos/" * 30 + "x", "UklGR/" * 20 + "a", "cat", "",
        "iVBORw0KGgo", "https://example.org/" + TEXT[:60], "C:/images/cat", "a" * 300,
        "/9j/4AAQ/" + "folder/" * 10 + "image.jpg",
    ],
)  # fmt: skip
def test_a_path_is_not_taken_for_base64(path: str) -> None:
    assert from_base64(path) == path


@given(st.text(st.characters(codec="ascii"), max_size=300))
def test_what_is_not_an_image_stays_as_it_is(text: str) -> None:
    found = from_base64(text)
    assert found == text or found.startswith("data:;base64,")
    assert len(shortened(text)) <= max(len(text), 240)


def test_a_file_of_such_a_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short string that names a file is that file, whatever it could be decoded to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iVBORw0KGgo").write_bytes(PNG)
    assert load_image("iVBORw0KGgo", Limits()).size == (40, 30)


@pytest.mark.parametrize(
    "junk",
    [
        "x" * 5_000,
        "QUJD" * 2_000,
        "not an image " * 400,
        "a/" * 3_000,
        "é" * 300,
        base64.b64encode(bytes(9_000)).decode(),
    ],
)
def test_a_string_that_is_nothing_is_refused_in_one_sentence(junk: str) -> None:
    with pytest.raises(ImageError, match="is not a path, a URL or the base64 of an image") as caught:
        load_image(junk, Limits())
    assert caught.value.message.count(". ") == caught.value.message.count("... (")
    assert len(str(caught.value)) < 500


def test_base64_of_something_else_says_what_it_looks_like() -> None:
    page = base64.b64encode(b"<!DOCTYPE html><html>" + b" " * 100).decode()
    with pytest.raises(ImageError, match="looks like HTML"):
        load_image(f"data:image/png;base64,{page}", Limits())
    with pytest.raises(ImageError, match="looks like HTML"):
        load_image(f"base64,{page}", Limits())


def test_a_cut_base64_is_a_truncated_image() -> None:
    with pytest.raises(ImageError, match="truncated"):
        load_image(TEXT[: len(TEXT) // 2], Limits())


def test_the_limit_of_bytes_holds_for_base64() -> None:
    with pytest.raises(ImageError, match="the limit is 100") as caught:
        load_image(TEXT, Limits(max_image_bytes=100))
    assert "--max-image-bytes" in str(caught.value)


LONG = base64.b64encode(saved(Image.effect_noise((900, 900), 90), "BMP")).decode()
"""More than a million characters."""


@pytest.mark.parametrize("form", [LONG, f"data:image/bmp;base64,{LONG}", f"data:image/png;base64,{'!' * 100_000}",
                                  "x" * 1_000_000, "https://example.org/" + "y" * 100_000])  # fmt: skip
def test_no_long_source_reaches_the_output_or_a_message(form: str, write_lines: Callable[..., Path]) -> None:
    manifest = write_lines("m.jsonl", [
        json.dumps({"id": "a", "prompt": "q", "images": [form]}),
        json.dumps({"id": "b", "prompt": [{"role": "user", "content": [{"type": "image", "image": form}]}]}),
    ])  # fmt: skip
    output = manifest.with_name("out.jsonl")
    run(manifest, output, limits=Limits(allow_urls=False))
    lines = output.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) < 2_000


def test_a_manifest_takes_base64(write_lines: Callable[..., Path]) -> None:
    (request,) = Manifest(write_lines("m.jsonl", [json.dumps({"prompt": "q", "images": TEXT})]))
    assert request.input is not None
    assert load_image(request.input.images[0], Limits()).size == (40, 30)  # type: ignore[index]  # it has one
    assert request.images[0].startswith("data:;base64,iVBOR")
    assert is_url(request.images[0]), "no sidecar is written beside it"
    assert request.files == ()


def test_another_base64_is_another_question_when_resuming(write_lines: Callable[..., Path]) -> None:
    other = base64.b64encode(saved(NOISE.rotate(180), "PNG")).decode()
    keys = {
        ContentKey(request, "model", 0).strong(Limits())
        for request in Manifest(
            write_lines("m.jsonl", [json.dumps({"prompt": "q", "images": text}) for text in (TEXT, other)])
        )
    }
    assert len(keys) == 2


class TestPages:
    """`scan.tif#page=2`."""

    @pytest.mark.parametrize(
        ("source", "split"),
        [
            ("a.tif#page=2", ("a.tif", 2)), ("a.tif", ("a.tif", None)), ("a#page=2.tif", ("a#page=2.tif", None)),
            ("a.tif#page=", ("a.tif#page=", None)), ("a.tif#page=-1", ("a.tif#page=-1", None)),
            ("https://x/a.pdf#page=12", ("https://x/a.pdf", 12)), ("a.tif#PAGE=2", ("a.tif#PAGE=2", None)),
        ],
    )  # fmt: skip
    def test_a_page_is_named_at_the_end(self, source: str, split: tuple[str, int | None]) -> None:
        assert split_page(source) == split

    @pytest.fixture
    def scan(self, tmp_path: Path) -> Path:
        path = tmp_path / "scan.tif"
        path.write_bytes(CASES_BY_NAME["three-pages.tif"].data)
        return path

    def test_a_page_is_read_and_has_a_digest_of_its_own(self, scan: Path) -> None:
        first, named, second = (load_image(f"{scan}{page}", Limits()) for page in ("", "#page=1", "#page=2"))
        assert first.image.tobytes() == named.image.tobytes() == RGB.tobytes()
        assert second.image.tobytes() == RGB[::-1].tobytes()
        assert first.digest == named.digest != second.digest
        assert first.pages == 3

    def test_a_path_of_pathlib_and_a_file_url_name_pages_too(self, scan: Path) -> None:
        second = load_image(f"{scan}#page=2", Limits()).digest
        assert load_image(Path(f"{scan}#page=2"), Limits()).digest == second
        assert load_image(f"file://{scan}#page=2", Limits()).digest == second

    def test_a_data_url_names_pages_too(self, scan: Path) -> None:
        url = "data:image/tiff;base64," + base64.b64encode(scan.read_bytes()).decode()
        assert load_image(f"{url}#page=2", Limits()).image.tobytes() == RGB[::-1].tobytes()

    def test_a_file_of_such_a_name_is_that_file(self, scan: Path) -> None:
        other = scan.with_name("scan.tif#page=2")
        other.write_bytes(PNG)
        assert load_image(str(other), Limits()).size == (40, 30)

    def test_a_manifest_names_pages_and_stamps_the_file(
        self, scan: Path, write_lines: Callable[..., Path]
    ) -> None:
        lines = [json.dumps({"prompt": "q", "images": [f"scan.tif#page={page}"]}) for page in (1, 2)]
        first, second = Manifest(write_lines("m.jsonl", lines))
        assert first.files == second.files
        assert first.files[0].inode
        keys = {ContentKey(request, "model", 0).strong(Limits()) for request in (first, second)}
        assert len(keys) == 2, "another page is another question"

    def test_a_page_is_confined_as_its_file_is(self, scan: Path, tmp_path: Path) -> None:
        (tmp_path / "root").mkdir()
        with pytest.raises(ImageError, match="outside the image root"):
            load_image(f"{scan}#page=2", Limits(image_root=tmp_path / "root"))

    def test_pages_that_nobody_asked_for_are_told_in_the_line(
        self, scan: Path, write_lines: Callable[..., Path]
    ) -> None:
        (scan.parent / "plain.png").write_bytes(PNG)
        (scan.parent / "dark.png").write_bytes(CASES_BY_NAME["scan12.png"].data)
        sources = ["scan.tif", "scan.tif#page=1", "scan.tif#page=3", "plain.png", "dark.png"]
        lines = [json.dumps({"id": source, "prompt": "q", "images": [source]}) for source in sources]
        parts = [{"type": "image", "image": "scan.tif"}, {"type": "text", "text": "q"}]
        lines.append(json.dumps({"id": "chat", "prompt": [{"role": "user", "content": parts}]}))
        output = scan.parent / "out.jsonl"
        summary = run(write_lines("m.jsonl", lines), output, FakeModel())
        found = {line["id"]: line for line in map(json.loads, output.read_text().splitlines())}
        assert {id: line["flags"] for id, line in found.items() if line["flags"]} == {
            "scan.tif": ["pages_not_read"],
            "dark.png": ["colours_guessed"],
            "chat": ["pages_not_read"],
        }
        assert found["scan.tif"]["pages_not_read"] == 2
        assert "pages_not_read" not in found["plain.png"]
        assert summary.flags["pages_not_read"] == 2


class TestInMemory:
    """A `VLMInput` may hold bytes and Pillow images."""

    def test_they_are_taken_as_they_are(self) -> None:
        input = VLMInput(prompt="q", images=["a.png", Path("b.png"), PNG, NOISE], max_new_tokens=1)
        assert input.images is not None
        assert input.images[:3] == ["a.png", Path("b.png"), PNG]
        assert input.images[3] is NOISE

    @pytest.mark.parametrize("bad", [3, None, {"bytes": PNG}, object()])
    def test_what_is_something_else_is_refused(self, bad: object) -> None:
        with pytest.raises(
            ValueError, match="must be a path, a URL, the bytes of an image, or a Pillow image"
        ):
            VLMInput(prompt="q", images=[bad], max_new_tokens=1)  # type: ignore[list-item]  # that is the test

    def test_as_json_they_are_data_urls(self) -> None:
        input = VLMInput(prompt="q", images=[PNG, NOISE], max_new_tokens=1)
        again = VLMInput.model_validate_json(input.model_dump_json())
        assert again.images is not None
        assert [load_image(source).image.tobytes() for source in again.images] == [NOISE.tobytes()] * 2

    def test_equal_images_have_equal_digests_and_the_callers_stays_as_it_is(self) -> None:
        copy = NOISE.copy()
        loaded = load_image(copy)
        loaded.image.info["x"] = 1
        loaded.image.putpixel((0, 0), (1, 2, 3))
        assert copy.tobytes() == NOISE.tobytes()
        assert "x" not in copy.info
        assert load_image(copy).digest == load_image(NOISE).digest != load_image(NOISE.rotate(180)).digest

    @pytest.mark.parametrize(
        "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "HSV", "LAB"]
    )
    def test_any_mode_is_taken(self, mode: str) -> None:
        assert load_image(Image.new(mode, (5, 4))).image.mode == "RGB"

    def test_it_is_turned_upright(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        opened = Image.open(io.BytesIO(saved(NOISE, "PNG", exif=exif)))
        assert load_image(opened).size == (30, 40)

    def test_limits_hold(self) -> None:
        with pytest.raises(ImageError, match="40 x 30 pixels, and the limit is 100"):
            load_image(NOISE, Limits(max_image_pixels=100))
        with pytest.raises(ImageError, match="the limit is 100"):
            load_image(PNG, Limits(max_image_bytes=100))


def test_an_error_line_of_a_long_source_is_short(write_lines: Callable[..., Path]) -> None:
    (request,) = Manifest(
        write_lines("m.jsonl", [json.dumps({"id": "a", "prompt": "q", "images": ["z" * 100_000]})])
    )
    assert request.error is not None
    line, _ = render(Result(request, error=request.error), "m")
    assert len(line) < 1_000
    assert json.loads(line)["id"] == "a"


def test_what_another_process_noticed_is_added(tmp_path: Path) -> None:
    there, here = Notes(), Notes()
    there.put("scan.tif", Note(pages_not_read=2))
    there.put("plain.png", Note())
    here.add(there.take_fresh())
    assert here.of("scan.tif").pages_not_read == 2
    assert there.take_fresh() == {}
    assert there.of("scan.tif").pages_not_read == 2


def test_notes_are_bounded_and_the_last_one_counts() -> None:
    notes = Notes()
    notes.SIZE = 10  # type: ignore[misc]  # so few in this one
    for number in range(100):
        notes.put(str(number), Note(pages_not_read=1))
    assert sum(bool(notes.of(str(number)).pages_not_read) for number in range(100)) == 10
    notes.put("99", Note())
    assert notes.of("99") == Note()
