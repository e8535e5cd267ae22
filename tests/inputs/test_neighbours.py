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
from pixano_vlm.inputs.template import Template
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
    def test_what_is_not_an_image_is_metadata(self, value: Any) -> None:
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


class TestDeclaredDelimiter:
    """The line that Excel writes above the names of a table's columns."""

    @pytest.mark.parametrize("first", ["sep=;\n", "sep=;\r\n", '"sep=;"\n', "SEP=;\n", "\ufeffsep=;\r\n"])
    def test_it_is_heeded_and_is_not_a_row(self, tmp_path: Path, first: str) -> None:
        (tmp_path / "m.csv").write_bytes(f"{first}prompt;image\nA, b, c, d?;a.png\n".encode())
        (request,) = read(tmp_path / "m.csv")
        assert request.input is not None
        assert request.input.prompt == "A, b, c, d?"
        assert images(request) == [str(tmp_path / "a.png")]
        assert request.id == "1"

    def test_it_decides_where_the_names_hold_more_of_another(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text('sep=;\nprompt;image;"a,b,c,d"\nWhy?;a.png;x\n')
        (request,) = read(tmp_path / "m.csv")
        assert images(request) == [str(tmp_path / "a.png")]

    def test_an_error_names_the_line_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("sep=;\nprompt;image\nWhy?;a.png;x;y\n")
        (request,) = read(tmp_path / "m.csv")
        assert request.error is not None
        assert "m.csv:3" in str(request.error)


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

    @pytest.mark.parametrize(
        "record", [{"prompt": WHAT, "number": {"0": 1}}, {"prompt": "a", "stop": ["a", "b"]}]
    )
    def test_a_single_record_is_one(self, tmp_path: Path, record: dict[str, Any]) -> None:
        (tmp_path / "m.jsonl").write_text(json.dumps(record))
        (request,) = read(tmp_path / "m.jsonl")
        assert request.error is None


def message(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


OPENAI = message({"type": "text", "text": WHAT})
CLAUDE = {"max_tokens": 9, "messages": message({"type": "text", "text": WHAT})}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": WHAT}]}]}


def openai(**body: Any) -> dict[str, Any]:
    return {"custom_id": "1", "body": {"model": "m", "messages": OPENAI, **body}}


def schema_of(request: Request) -> Any:
    assert request.input is not None, request.error
    asked = request.input.response_format
    return asked["json_schema"]["schema"] if asked and "json_schema" in asked else asked


class TestBatchLines:
    """Row 18: what other services' batch files ask for is done where it can be, and refused by name where not."""

    @pytest.mark.parametrize(
        "line_",
        [
            openai(temperature=0),
            {"custom_id": "1", "params": {**CLAUDE, "temperature": 0}},
            {"recordId": "1", "modelInput": {**CLAUDE, "temperature": 0}},
            {"recordId": "1", "modelInput": {
                "schemaVersion": "messages-v1", "messages": message({"text": WHAT}),
                "inferenceConfig": {"maxTokens": 9, "temperature": 0}}},
            {"key": "1", "request": {**GEMINI, "generationConfig": {"temperature": 0}}},
            {"id": "1", "model": "m", "prompt": WHAT, "stream": False, "options": {"temperature": 0}},
        ],
        ids=["OpenAI", "Anthropic", "Bedrock", "Nova", "Gemini", "Ollama"],
    )  # fmt: skip
    def test_a_temperature_of_0_is_asked_for_wherever_it_is(self, line_: dict[str, Any]) -> None:
        request = line(line_)
        assert request.input is not None, request.error
        assert request.input.temperature == 0

    @pytest.mark.parametrize(
        "line_",
        [
            {**openai(), "method": "post"},
            openai(thinking={"type": "disabled"}, safe_prompt=False),
            {
                "custom_id": "1",
                "params": {**CLAUDE, "thinking": {"type": "disabled"}, "tool_choice": {"type": "auto"}},
            },
            {"key": "1", "request": {**GEMINI, "generationConfig": {"responseMimeType": "text/plain"}}},
            {"key": "1", "request": {"contents": GEMINI["contents"][0]}},
        ],
    )
    def test_what_asks_for_nothing_is_passed_over(self, line_: dict[str, Any]) -> None:
        request = line(line_)
        assert request.error is None
        assert schema_of(request) is None

    def test_mistrals_seed_is_the_seed(self) -> None:
        request = line(openai(random_seed=5))
        assert request.input is not None
        assert request.input.seed == 5

    @pytest.mark.parametrize(
        ("asked", "schema"),
        [
            ({"guided_json": {"type": "object"}}, {"type": "object"}),
            ({"guided_choice": ["a", "b"]}, {"enum": ["a", "b"]}),
            ({"structured_outputs": {"choice": ["a"]}}, {"enum": ["a"]}),
            ({"extra_body": {"structured_outputs": {"json": {"type": "integer"}}}}, {"type": "integer"}),
        ],
    )
    def test_vllms_structured_answers_are_schemas(self, asked: dict[str, Any], schema: Any) -> None:
        assert schema_of(line(openai(**asked))) == schema

    @pytest.mark.parametrize("asked", [{"guided_regex": "a+"}, {"structured_outputs": {"regex": "a"}}])
    def test_those_that_are_none_are_refused(self, asked: dict[str, Any]) -> None:
        assert "cannot be done here" in str(line(openai(**asked)).error)

    def test_geminis_schema_is_one_of_json_schema(self) -> None:
        config = {
            "responseMimeType": "application/json",
            "responseSchema": {
                "type": "OBJECT", "propertyOrdering": ["type"],
                "properties": {"type": {"type": "STRING", "nullable": True},
                               "n": {"type": "ARRAY", "items": {"type": "INTEGER"}}},
            },
        }  # fmt: skip
        assert schema_of(line({"key": "1", "request": {**GEMINI, "generationConfig": config}})) == {
            "type": "object",
            "properties": {
                "type": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "n": {"type": "array", "items": {"type": "integer"}},
            },
        }
        free = {"response_mime_type": "application/json"}
        assert schema_of(line({"key": "1", "request": {**GEMINI, "generation_config": free}})) == {
            "type": "json_object"
        }

    def test_requests_inside_one_object_are_refused_with_what_takes_them_out(self, tmp_path: Path) -> None:
        (tmp_path / "m.json").write_text(json.dumps({"requests": [{"custom_id": "1", "params": CLAUDE}]}))
        with pytest.raises(ManifestError) as caught:
            read(tmp_path / "m.json")
        assert "jq -c '.requests[]' m.json" in (caught.value.hint or "")


class TestFolders:
    """Row 19: what lies beside the images."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("train/a.png", "test/a.png"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_bytes(png())
        return tmp_path

    def asked(self, folder: Path, prompt: str) -> list[Any]:
        rows = open_source([str(folder)], Template(prompt), recursive=True).rows
        return [request.input and request.input.prompt for request in Manifest(None, rows=rows)]

    @pytest.mark.parametrize("join", ["/", "\\"])
    def test_metadata_names_images_as_windows_writes_them_or_not(self, folder: Path, join: str) -> None:
        rows = [{"file_name": f"{split}{join}a.png", "text": split} for split in ("train", "test")]
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert self.asked(folder, "{text}?") == ["test?", "train?"]

    @pytest.mark.parametrize(
        ("name", "parted"), [("metadata.csv", ","), ("metadata.csv", ";"), ("metadata.tsv", "\t")]
    )
    def test_metadata_is_a_table_with_any_delimiter(self, folder: Path, name: str, parted: str) -> None:
        rows = [["file_name", "text"], ["train/a.png", "one"], ["test/a.png", "two"]]
        (folder / name).write_text("".join(parted.join(row) + "\n" for row in rows))
        assert self.asked(folder, "{text}?") == ["two?", "one?"]

    def test_a_caption_is_beside_its_image_under_either_ending(self, folder: Path) -> None:
        (folder / "train" / "a.txt").write_text("a cat")
        (folder / "test" / "a.caption").write_text("a dog\n")
        assert self.asked(folder, "Is it {txt}?") == ["Is it a dog?", "Is it a cat?"]
