"""What people bring that is nearly a form that is read: read as it was meant, or refused, never answered in part."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixano_vlm.errors import ManifestError
from pixano_vlm.inputs.manifest import Manifest, Request
from pixano_vlm.inputs.open import open_source
from pixano_vlm.prompts.messages import image_sources

WHAT = "What is it?"


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


B64 = base64.b64encode(png()).decode()
RECORDS = [
    {"id": "x", "prompt": WHAT, "images": ["a.png"]},
    {"id": "y", "prompt": "Why?", "images": ["b.png"]},
]
LINES = [json.dumps(record).encode() for record in RECORDS]
JSONL = b"\n".join(LINES) + b"\n"


def read(path: Path) -> list[Request]:
    source = open_source([str(path)])
    if source.rows is not None:
        source.rows.count()
    return list(Manifest(source.path, rows=source.rows))


def line(record: dict[str, Any]) -> Request:
    (request,) = Manifest(None, stream=io.BytesIO(json.dumps(record).encode()))
    return request


def table(folder: Path, **columns: Any) -> Request:
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), folder / "m.parquet")
    (request,) = read(folder / "m.parquet")
    return request


def images(request: Request) -> list[str]:
    assert request.input is not None, request.error
    prompt = request.input.prompt
    return [
        *map(str, request.input.images or ()),
        *map(str, image_sources(prompt) if isinstance(prompt, list) else ()),
    ]


class TestBlind:
    """Row 10: an image that stands where nobody looked."""

    @pytest.mark.parametrize(
        "key", ["images", "Images", "imageUrl", "image-path", "IMAGE", "image_base64", "img", "file_name"]
    )
    def test_a_key_of_images_in_a_message_is_one_in_whatever_letters(self, key: str) -> None:
        value = B64 if key == "image_base64" else ["a.png"]
        request = line({"prompt": [{"role": "user", "content": WHAT, key: value}]})
        (source,) = images(request)
        assert source.endswith(B64 if key == "image_base64" else "a.png")
        assert request.input is not None
        assert all(set(turn) == {"role", "content"} for turn in request.input.prompt)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "value", ["a.png", ["a.png"], {"src": "a.png"}, f"data:image/png;base64,{B64}", B64]
    )
    def test_an_image_under_any_other_key_of_a_message_is_refused(self, value: Any) -> None:
        request = line({"prompt": [{"role": "user", "content": WHAT, "photograph": value}]})
        assert "prompt[0].photograph seems to hold an image" in str(request.error)

    @pytest.mark.parametrize(
        "value", [{"image": "a.png"}, [{"path": "a.png"}], {"left": {"url": "https://x.org/a.jpg?w=5"}}]
    )
    def test_an_image_deeper_under_a_key_of_ones_own_is_refused(self, value: Any) -> None:
        assert "'view' seems to name an image" in str(line({"prompt": WHAT, "view": value}).error)
        beside = line({"prompt": WHAT, "images": ["b.png"], "view": value})
        assert beside.error is None  # the record has its image, and the rest is metadata
        assert beside.metadata == {"view": value}

    @pytest.mark.parametrize(
        "value", [{"n": 5}, {"text": "see a.png"}, [{"name": "a.txt"}], {}, {"a": {"b": {"c": {}}}}]
    )
    def test_what_is_no_image_is_metadata(self, value: Any) -> None:
        assert line({"prompt": WHAT, "view": value}).metadata == {"view": value}


class TestCells:
    """Rows 11 and 14: what is in the cells of tables."""

    def test_messages_that_were_written_as_json_twice_are_messages(self, tmp_path: Path) -> None:
        turns = json.dumps(json.dumps([{"role": "user", "content": WHAT}]))
        request = table(tmp_path, prompt=[turns])
        assert request.input is not None
        assert request.input.prompt == [{"role": "user", "content": WHAT}]

    def test_the_print_of_an_array_of_messages_is_refused(self, tmp_path: Path) -> None:
        printed = "array([{'content': 'What?', 'role': 'user'}], dtype=object)"
        assert "begins like messages written as text" in str(table(tmp_path, prompt=[printed]).error)

    @pytest.mark.parametrize("text", ['"a cat", he said', '"{\\"a\\": 1}" is JSON?', "array(5)", '"'])
    def test_quotes_and_arrays_in_a_prompt_are_text(self, tmp_path: Path, text: str) -> None:
        request = table(tmp_path, prompt=[text])
        assert request.input is not None
        assert request.input.prompt == text

    def test_an_image_whose_bytes_are_numbers_is_one(self, tmp_path: Path) -> None:
        arrow = pytest.importorskip("pyarrow")
        column = arrow.array([list(png())], arrow.list_(arrow.uint8()))
        (source,) = images(table(tmp_path, prompt=[WHAT], image=column))
        assert source.endswith(B64)

    @pytest.mark.parametrize(
        "cell", [{"url": "a.png"}, {"src": "a.png", "height": 8}, {"path": "a.png", "bytes": None}]
    )
    def test_an_object_that_names_an_image_is_one(self, tmp_path: Path, cell: Any) -> None:
        (source,) = images(table(tmp_path, prompt=[WHAT], image=[cell]))
        assert source == str(tmp_path / "a.png")

    @pytest.mark.parametrize("cell", [{"url": None, "width": None}, {"bytes": None, "path": None}])
    def test_an_object_that_names_none_is_said_to_be_empty(self, tmp_path: Path, cell: Any) -> None:
        arrow = pytest.importorskip("pyarrow")
        kind = arrow.struct([(key, arrow.string()) for key in cell])
        request = table(tmp_path, prompt=[WHAT], image=arrow.array([cell], kind))
        assert "the column 'image' is empty" in str(request.error)


class TestNotLines:
    """Row 16: a file whose name is that of lines, and whose records are not one per line."""

    @pytest.mark.parametrize(
        "data",
        [
            b"\xef\xbb\xbf" + JSONL, JSONL.replace(b"\n", b"\r\n"), JSONL.replace(b"\n", b"\r"), b"".join(LINES),
            b" ".join(LINES), b",\n".join(LINES) + b"\n", b",".join(LINES), b"[" + b",\n".join(LINES) + b"]",
        ],
        ids=["mark", "CRLF", "CR", "joined", "spaced", "commas", "commas in a line", "list"],
    )  # fmt: skip
    def test_records_are_read_however_they_are_parted(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "m.jsonl").write_bytes(data)
        assert [(request.id, request.error) for request in read(tmp_path / "m.jsonl")] == [
            ("x", None),
            ("y", None),
        ]

    @pytest.mark.parametrize(
        ("data", "said", "hint"),
        [
            (JSONL.decode().encode("utf-16"), "looks like UTF-16", "iconv -f UTF-16 -t UTF-8"),
            (JSONL.decode().encode("utf-16-be"), "looks like UTF-16", "iconv -f UTF-16"),
            (JSONL.decode().encode("utf-32"), "looks like UTF-32", "iconv -f UTF-32"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "a pointer of Git LFS", "git lfs pull"),
            (b"\n<!DOCTYPE html><html></html>", "an HTML page", "fetched"),
            (json.dumps({"images": [{"id": 1, "file_name": "a.png"}]}).encode(), "in COCO's format", "jq -c"),
            (json.dumps({"a": RECORDS[0], "b": RECORDS[1]}).encode(), "a record under each key", "to_entries"),
            (json.dumps({"prompt": ["a", "b"], "n": [1, 2]}).encode(), "holds columns", "orient='records'"),
            (json.dumps({"n": {"0": 1, "1": 2}, "prompt": {"0": "a", "1": "b"}}).encode(), "holds columns", "pandas"),
        ],
        ids=["UTF-16", "without mark", "UTF-32", "LFS", "HTML", "COCO", "by key", "columns", "pandas"],
    )  # fmt: skip
    @pytest.mark.parametrize("name", ["m.jsonl", "m.json", "m.csv"])
    def test_what_is_something_else_is_refused_whole(
        self, tmp_path: Path, name: str, data: bytes, said: str, hint: str
    ) -> None:
        if name == "m.csv" and data.startswith(b"{"):
            return
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ManifestError) as caught:
            read(tmp_path / name)
        assert said in caught.value.message
        assert hint in (caught.value.hint or "")

    @pytest.mark.parametrize(
        "data", [JSONL + b"\0" * 4096, JSONL + b"{", JSONL + b"x"], ids=["zeros", "cut off", "rubbish"]
    )
    def test_rubbish_behind_good_lines_is_an_error_of_its_own(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "m.jsonl").write_bytes(data)
        assert [request.error is None for request in read(tmp_path / "m.jsonl")] == [True, True, False]

    @pytest.mark.parametrize("record", [{"prompt": WHAT, "n": {"0": 1}}, {"prompt": "a", "stop": ["a", "b"]}])
    def test_a_single_record_is_one(self, tmp_path: Path, record: dict[str, Any]) -> None:
        (tmp_path / "m.jsonl").write_text(json.dumps(record))
        (request,) = read(tmp_path / "m.jsonl")
        assert request.error is None
