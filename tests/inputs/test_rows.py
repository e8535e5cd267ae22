"""Folders, globs, CSV, Parquet and OpenAI Batch lines: each gives the records that a JSONL manifest would give."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.fakes import FakeModel, run

from pixano_vlm.errors import ManifestError, MissingPackageError, RecordError, UsageError
from pixano_vlm.inputs.manifest import Manifest, Request
from pixano_vlm.inputs.open import Source, open_source
from pixano_vlm.inputs.template import Template, read_template
from pixano_vlm.models import GenerationSettings
from pixano_vlm.runs.options import RunOptions
from pixano_vlm.runs.run import Run

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def picture(path: Path, colour: tuple[int, int, int] = (200, 0, 0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


def manifest_of(source: Source) -> Manifest:
    return Manifest(source.path, rows=source.rows, settings=GenerationSettings(temperature=0))


def requests(*names: object, prompt: str | None = None, recursive: bool = False) -> list[Request]:
    template = None if prompt is None else Template(prompt)
    return list(manifest_of(open_source([str(name) for name in names], template, recursive=recursive)))


def error_of(request: Request) -> str:
    assert request.error is not None
    return str(request.error)


class TestTemplate:
    def test_fields_are_filled_in_and_doubled_braces_are_braces(self) -> None:
        template = Template('{{"name": "{name}"}} {stem}')
        assert template.fill({"name": "a.jpg", "stem": "a"}) == '{"name": "a.jpg"} a'

    def test_what_is_not_text_is_written_as_json(self) -> None:
        assert Template("{n} {tags}").fill({"n": 3, "tags": ["é", None]}) == '3 ["é", null]'

    def test_an_unknown_field_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(UsageError, match=r"no field \{steem\}.*Did you mean \{stem\}"):
            Template("{steem}").check(["name", "stem"])

    @pytest.mark.parametrize("text", ["{", "a }", "{name", "{}", "{a{b}"])
    def test_a_stray_brace_is_refused_with_what_to_write(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"\{\{"):
            Template(text)

    def test_a_missing_or_null_value_is_the_records_error(self) -> None:
        with pytest.raises(RecordError, match=r"wants \{b\}"):
            Template("{b}").fill({"b": None})

    @given(TEXT.filter(str.strip))
    def test_any_text_with_its_braces_doubled_is_itself(self, text: str) -> None:
        assert Template(text.replace("{", "{{").replace("}", "}}")).fill({}) == text

    @given(TEXT, TEXT)
    def test_a_value_is_never_looked_into(self, before: str, value: str) -> None:
        before = before.replace("{", "").replace("}", "")
        assert Template(before + "{x}").fill({"x": value}) == before + value

    def test_a_prompt_file_is_read_and_both_flags_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_text("What is {stem}?\n")
        template = read_template(None, tmp_path / "p.txt")
        assert template is not None
        assert template.fill({"stem": "this"}) == "What is this?"
        with pytest.raises(UsageError, match="both"):
            read_template("a", tmp_path / "p.txt")
        with pytest.raises(UsageError, match="cannot be read"):
            read_template(None, tmp_path / "none.txt")


class TestFolder:
    def test_images_come_sorted_by_suffix_and_hidden_ones_are_none(self, tmp_path: Path) -> None:
        for name in ("b.PNG", "a.jpg", ".hidden.jpg", "._a.jpg"):
            (tmp_path / name).write_bytes(b"")
        (tmp_path / "notes.txt").write_text("")
        (tmp_path / "folder.jpg").mkdir()
        found = requests(tmp_path, prompt="What is {name}?")
        assert [request.id for request in found] == ["a.jpg", "b.PNG"]
        assert found[0].input is not None
        assert found[0].input.prompt == "What is a.jpg?"
        assert found[0].input.images == [str(tmp_path.resolve() / "a.jpg")]

    def test_folders_below_are_read_when_asked(self, tmp_path: Path) -> None:
        for name in ("a.jpg", "cats/2.jpg", "cats/1.jpg", "cats/deep/0.jpg", "b.jpg"):
            picture(tmp_path / name)
        (tmp_path / "cats" / "loop").symlink_to(tmp_path)
        assert [request.id for request in requests(tmp_path, prompt="x")] == ["a.jpg", "b.jpg"]
        found = requests(tmp_path, prompt="{folder} {stem}", recursive=True)
        assert [request.id for request in found] == [
            "a.jpg", "b.jpg", "cats/1.jpg", "cats/2.jpg", "cats/deep/0.jpg",
        ]  # fmt: skip
        assert [request.input and request.input.prompt for request in found] == [
            f"{tmp_path.name} a", f"{tmp_path.name} b", "cats 1", "cats 2", "deep 0",
        ]  # fmt: skip

    def test_a_glob_and_images_by_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("a.jpg", "in/b.jpg", "in/c.png"):
            picture(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert [request.id for request in requests("in/*.jpg", prompt="x")] == ["b.jpg"]
        assert [request.id for request in requests("**/*.jpg", prompt="x")] == ["a.jpg", "in/b.jpg"]
        found = requests("in/b.jpg", "a.jpg", "a.jpg", prompt="x")
        assert [request.id for request in found] == ["in/b.jpg", "a.jpg"]
        Path("notes.txt").write_text("")
        with pytest.raises(ManifestError, match=r"notes.txt is not an image, and a.jpg is"):
            requests("a.jpg", "notes.txt", prompt="x")

    def test_the_fields_of_metadata_jsonl_are_those_of_the_prompt_and_go_to_the_metadata(
        self, tmp_path: Path
    ) -> None:
        for name in ("a.jpg", "b.jpg", "train/c.jpg"):
            picture(tmp_path / name)
        rows = [{"file_name": "a.jpg", "species": "cat", "n": 2}, {"file_name": "b.jpg", "n": 1}]
        (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "train" / "metadata.jsonl").write_text('{"file_name": "c.jpg", "species": "dog"}\n')
        first, second, third = requests(tmp_path, prompt="A {species}?", recursive=True)
        assert first.input is not None
        assert first.input.prompt == "A cat?"
        assert first.metadata == {"species": "cat", "n": 2}
        assert "wants {species}" in error_of(second)
        assert "b.jpg" in error_of(second)
        assert third.input is not None
        assert third.input.prompt == "A dog?"
        with pytest.raises(UsageError, match=r"Did you mean \{species\}"):
            requests(tmp_path, prompt="{specie}")

    @pytest.mark.parametrize("line", ["not json", '{"name": "a.jpg"}', "[]"])
    def test_a_wrong_metadata_file_is_named_with_its_line(self, tmp_path: Path, line: str) -> None:
        picture(tmp_path / "a.jpg")
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg"}\n' + line + "\n")
        with pytest.raises(ManifestError, match=r"metadata.jsonl:2"):
            requests(tmp_path, prompt="{x}")

    def test_a_folder_without_images_says_where_there_are_some(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match=r"no image.*known by their suffix"):
            requests(tmp_path, prompt="x")
        picture(tmp_path / "below" / "a.jpg")
        with pytest.raises(ManifestError, match="add --recursive"):
            requests(tmp_path, prompt="x")

    def test_a_folder_without_a_prompt_asks_for_one(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.jpg")
        with pytest.raises(ManifestError, match=r"is a folder.*--prompt"):
            requests(tmp_path)

    def test_a_name_that_is_not_utf_8_is_an_error_record_and_one_like_a_url_a_file(
        self, tmp_path: Path
    ) -> None:
        with open(os.path.join(os.fsencode(tmp_path), b"\xff.jpg"), "wb"):  # noqa: PTH123, PTH118
            pass
        picture(tmp_path / "data:1.jpg")
        first, second = requests(tmp_path, prompt="x")
        assert first.input is not None
        assert first.input.images == [str(tmp_path.resolve() / "data:1.jpg")]
        assert "not UTF-8" in error_of(second)

    def test_flags_that_do_not_go_with_the_source_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "m.jsonl").write_text("{}\n")
        with pytest.raises(UsageError, match="brings its own prompts"):
            requests(tmp_path / "m.jsonl", prompt="x")
        with pytest.raises(UsageError, match="--recursive goes with a folder"):
            requests(tmp_path / "m.jsonl", recursive=True)

    def test_a_run_on_a_folder_is_resumed_when_images_are_added_and_changed(self, tmp_path: Path) -> None:
        folder, output, model = tmp_path / "photos", tmp_path / "out.jsonl", FakeModel()
        for number in range(4):
            picture(folder / f"{number}.png", (number, 0, 0))

        def again(resume: bool) -> int:
            before = len(model.asked)
            source = open_source([str(folder)], Template("What is it?"))
            run(folder, output, model, rows=source.rows, resume=resume)
            return len(model.asked) - before

        assert again(False) == 4
        assert again(True) == 0
        picture(folder / "05.png", (0, 9, 0))
        picture(folder / "2.png", (0, 0, 7))
        assert again(True) == 2
        ids = [json.loads(line)["id"] for line in output.read_text().splitlines()]
        assert ids == ["0.png", "05.png", "1.png", "2.png", "3.png"]


class TestCsv:
    def read(self, tmp_path: Path, text: str | bytes, **options: Any) -> list[Request]:
        path = tmp_path / "m.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return requests(path, **options)

    def test_columns_are_the_keys_of_a_line_and_others_metadata(self, tmp_path: Path) -> None:
        found = self.read(
            tmp_path,
            "id,prompt,image,max_new_tokens,temperature,stop,seed,kind\n"
            'x,"One, and ""two""\nlines",a.jpg,9,0.5,"[""."", ""!""]",7,k\n'
            "y,Two,[],,,.,,\n",
        )
        first, second = found
        assert first.input is not None
        assert second.input is not None
        assert first.input.prompt == 'One, and "two"\nlines'
        assert first.input.images == [str(tmp_path.resolve() / "a.jpg")]
        assert (first.input.max_new_tokens, first.input.temperature, first.input.seed) == (9, 0.5, 7)
        assert first.input.stop == [".", "!"]
        assert first.metadata == {"kind": "k"}
        assert (second.id, second.line, second.input.images, second.input.stop) == ("y", 4, None, ["."])

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_the_delimiter_and_a_byte_order_mark_are_seen(self, tmp_path: Path, delimiter: str) -> None:
        rows = [["prompt", "images"], ["what; is, it", '["a.jpg", "b.jpg"]']]
        file = io.StringIO()
        csv.writer(file, delimiter=delimiter).writerows(rows)
        (request,) = self.read(tmp_path, "\ufeff" + file.getvalue())
        assert request.input is not None
        assert request.input.prompt == "what; is, it"
        assert len(request.input.images or ()) == 2

    def test_one_prompt_for_all_rows_takes_its_fields_from_the_columns(self, tmp_path: Path) -> None:
        first, second = self.read(tmp_path, "file_name,kind\na.jpg,cat\nb.jpg,\n", prompt="A {kind}?")
        assert first.input is not None
        assert first.input.prompt == "A cat?"
        assert "wants {kind}" in error_of(second)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "names no columns"),
            ("prompt,prompt\na,b\n", "is there twice"),
            ("promt,images\na,b\n", "Did you mean 'prompt'"),
            ("prompt,image,images\na,b,c\n", "both name images"),
            ("question\na\n", "no column 'prompt'"),
            ("prompt,\na,b\n", "has no name"),
            (b"\xff\xfepr", "UTF-8"),
        ],
    )
    def test_a_first_line_that_is_wrong_ends_it_before_it_starts(
        self, tmp_path: Path, text: str | bytes, said: str
    ) -> None:
        with pytest.raises((ManifestError, UsageError), match=said):
            self.read(tmp_path, text)

    def test_a_wrong_row_is_its_own_error_and_its_neighbours_do_not_notice(self, tmp_path: Path) -> None:
        bad: list[tuple[bytes, str]] = [
            (b"a,b,c,d\n", "4 cells, and there are 3 columns"),
            (b"\xff,[],\n", "'prompt' is not UTF-8"),
            (b"x,[],hot\n", "temperature must be a number, not 'hot'"),
            (b"x,[],NaN\n", "NaN"),
            (b",[],\n", "no prompt"),
            (b"x,,\n", "the column 'image' is empty"),
            (b"x, ,\n", "the column 'image' is empty"),
            (b'"x"y,[],\n', "not CSV"),
            (b"\0,[],\n", "NUL"),
        ]
        text = (
            b"prompt,image,temperature\n"
            + b"".join(b"good,[],0\n" + line for line, _ in bad)
            + b"good,[],0\n"
        )
        found = self.read(tmp_path, text)
        assert [request.error is None for request in found] == [True, False] * len(bad) + [True]
        for request, (_, said) in zip(found[1::2], bad, strict=True):
            assert said in error_of(request)
            assert f"m.csv:{request.line}" in error_of(request)
            assert request.line == 2 + request.index

    @given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=6))
    def test_whatever_cells_hold_comes_out_as_it_went_in(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
    ) -> None:
        rows = [tuple(cell.replace("\0", "") for cell in row) for row in rows]  # type: ignore[misc]
        file = io.StringIO()
        csv.writer(file).writerows([("prompt", "id", "note"), *rows])
        path = tmp_path_factory.mktemp("csv") / "m.csv"
        path.write_text(file.getvalue(), encoding="utf-8", newline="")
        found = requests(path)
        assert len(found) == len(rows)
        for request, (prompt, _, note) in zip(found, rows, strict=True):
            if request.input is not None and not prompt.lstrip().startswith('[{"'):
                assert request.input.prompt == prompt
                assert (request.metadata or {}).get("note", "") == note


class TestParquet:
    def write(self, path: Path, columns: dict[str, Any]) -> Path:
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.table(columns), path)
        return path

    def test_columns_keep_their_types(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path / "m.parquet",
            {
                "prompt": ["a", "b"], "images": [["a.jpg", "b.jpg"], None], "max_new_tokens": [5, None],
                "temperature": [0.5, float("nan")], "score": [1.5, None],
            },
        )  # fmt: skip
        first, second = requests(path)
        assert first.input is not None
        assert second.input is not None
        assert len(first.input.images or ()) == 2
        assert (first.input.max_new_tokens, first.input.temperature) == (5, 0.5)
        assert first.metadata == {"score": 1.5}
        assert (second.id, second.line, second.input.images) == ("2", 2, None)

    def test_images_kept_in_the_table_as_datasets_does_are_data_urls(self, tmp_path: Path) -> None:
        data = picture(tmp_path / "a.png").read_bytes()
        images = [{"bytes": data, "path": "a.png"}, {"bytes": None, "path": "a.png"}]
        path = self.write(tmp_path / "m.parquet", {"image": images, "kind": ["x", "y"]})
        first, second = requests(path, prompt="A {kind}?")
        assert first.input is not None
        assert second.input is not None
        assert str((first.input.images or [""])[0]).startswith("data:")
        assert second.input.images == [str(tmp_path.resolve() / "a.png")]

    def test_what_is_not_a_parquet_file_is_refused(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        (tmp_path / "m.parquet").write_text("no")
        with pytest.raises(ManifestError, match="cannot be read as Parquet"):
            requests(tmp_path / "m.parquet")

    def test_without_pyarrow_the_extra_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sys

        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        (tmp_path / "m.parquet").write_text("no")
        with pytest.raises(MissingPackageError, match=r"pip install 'pixano-vlm\[parquet\]'"):
            requests(tmp_path / "m.parquet")


class TestOpenAIBatch:
    def read(self, tmp_path: Path, *lines: dict[str, Any]) -> list[Request]:
        path = tmp_path / "m.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return requests(path)

    def line(self, id: str = "a", **body: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": "hello"}]
        return {
            "custom_id": id, "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "gpt", "messages": messages, **body},
        }  # fmt: skip

    def test_the_body_is_the_record(self, tmp_path: Path) -> None:
        settings = {"max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["."]}
        (request,) = self.read(tmp_path, self.line(**settings, n=1, user="me", tools=[]))
        assert request.id == "a"
        assert request.input is not None
        assert request.input.model_dump(exclude_none=True) == {
            "prompt": [{"role": "user", "content": "hello"}], "max_new_tokens": 9, "temperature": 0.5,
            "top_p": 0.9, "seed": 3, "stop": ["."],
        }  # fmt: skip

    def test_images_are_in_the_messages(self, tmp_path: Path) -> None:
        url = "data:image/png;base64,AAAA"
        content = [
            {"type": "text", "text": "what?"},
            {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        ]
        (request,) = self.read(tmp_path, self.line(messages=[{"role": "user", "content": content}]))
        assert request.input is not None
        assert request.input.prompt[0]["content"][1]["image_url"]["url"] == url  # type: ignore[index]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"body": {"messages": []}}, "empty"),
            ({"body": {"messages": [{"role": "user", "content": "x"}], "n": 2, "temperature": 0}}, "n is 2"),
            ({"body": {"mesages": []}}, "Did you mean 'messages'"),
            ({"body": {}}, "no messages"),
            ({"body": "x"}, "body must be an object"),
            ({"url": "/v1/embeddings"}, "POST /v1/embeddings cannot be answered"),
            (
                {"body": {"messages": [{"role": "user", "content": "x"}], "max_tokens": "many"}},
                "max_new_tokens",
            ),
        ],
    )
    def test_what_cannot_be_done_is_an_error_record_under_its_id(
        self, tmp_path: Path, change: dict[str, Any], said: str
    ) -> None:
        good, bad, after = self.read(tmp_path, self.line("a"), self.line("b") | change, self.line("c"))
        assert good.error is None
        assert after.error is None
        assert bad.id == "b"
        assert said in error_of(bad)

    def test_two_equal_ids_are_refused_as_in_any_manifest(self, tmp_path: Path) -> None:
        _, second = self.read(tmp_path, self.line("a"), self.line("a"))
        assert "an earlier line has the id 'a'" in error_of(second)


class TestNothingToDo:
    """What holds no record, or asks nothing, is refused before anything starts."""

    @pytest.mark.parametrize(
        ("name", "content"),
        [("m.jsonl", ""), ("m.jsonl", "\n  \n"), ("m.csv", "prompt,image\n"), ("m.csv", "prompt\n\n"),
         ("m.json", "[]"), ("m.json", "")],
    )  # fmt: skip
    def test_a_manifest_without_records_is_refused(self, tmp_path: Path, name: str, content: str) -> None:
        (tmp_path / name).write_text(content)
        options = RunOptions(source=open_source([str(tmp_path / name)]), model=FakeModel())
        with pytest.raises(ManifestError, match="holds no records"):
            Run(options)

    @pytest.mark.parametrize("prompt", ["", "  ", "\n"])
    def test_an_empty_prompt_is_refused(self, tmp_path: Path, prompt: str) -> None:
        picture(tmp_path / "a.png")
        with pytest.raises(UsageError, match="--prompt: the prompt is empty"):
            open_source([str(tmp_path)], read_template(prompt, None))
        (tmp_path / "p.txt").write_text(prompt)
        with pytest.raises(UsageError, match=r"p\.txt: the prompt is empty"):
            open_source([str(tmp_path)], read_template(None, tmp_path / "p.txt"))

    def test_how_many_records_there_are_is_known_of_every_source(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for number in range(4):
            picture(tmp_path / "in" / f"{number}.png")
        (tmp_path / "m.csv").write_text('prompt\n"a\nb"\n\nc\n')
        (tmp_path / "m.jsonl").write_text('{"prompt": "q"}\n\n{"prompt": "q"}\n')
        (tmp_path / "m.json").write_text('[{"prompt": "q"}]')
        ask = Template("x")

        def count(*names: str, template: Template | None = None) -> int | None:
            return Run(RunOptions(source=open_source(names, template), model=FakeModel())).count

        assert count("in", template=ask) == count("in/*.png", template=ask) == 4
        assert count("in/1.png", "in/2.png", template=ask) == 2
        assert [count("m.csv"), count("m.jsonl"), count("m.json"), count("m.jsonl", "m.json"), count("*.csv")] == [
            2, 2, 1, 3, 2,
        ]  # fmt: skip
