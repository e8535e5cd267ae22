"""What people really bring: nothing that was given is left out of a question, nothing fails for its form."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.fakes import FakeModel, run

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.inputs.manifest import Manifest, Request
from pixano_vlm.inputs.naming import NONE, Naming
from pixano_vlm.inputs.open import open_source
from pixano_vlm.inputs.preflight import check_manifest_keys
from pixano_vlm.inputs.template import Template
from pixano_vlm.models import GenerationSettings

GREEDY = GenerationSettings(temperature=0)


def png(colour: int = 1, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (colour, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def requests(path: Path, ask: str | None = None, **names: Any) -> list[Request]:
    naming = Naming(**names)
    source = open_source([str(path)], None if ask is None else Template(ask), naming=naming)
    if source.rows is None:
        check_manifest_keys(source.path, naming)
    return list(Manifest(source.path, rows=source.rows, settings=GREEDY, naming=naming))


def from_lines(folder: Path, *lines: Any, **names: Any) -> list[Request]:
    path = folder / "m.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return requests(path, **names)


def from_csv(folder: Path, text: str, ask: str | None = None, **names: Any) -> list[Request]:
    (folder / "m.csv").write_text(text)
    return requests(folder / "m.csv", ask, **names)


def from_parquet(
    folder: Path, columns: dict[str, Any], ask: str | None = None, **names: Any
) -> list[Request]:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), folder / "m.parquet")
    return requests(folder / "m.parquet", ask, **names)


def images_of(request: Request) -> list[str]:
    """The names of all images that a good record shows, wherever they are."""
    assert request.error is None, request.error
    return [image.rpartition("/")[2] for image in request.images]


def error_of(request: Request) -> str:
    assert request.error is not None
    return str(request.error)


class TestNothingIsLeftOut:
    """Row 10: a record is answered with every image that was given for it, or not at all."""

    MESSAGES = (
        ({"role": "user", "content": "q", "images": ["a.png"]}, ["a.png"]),
        ({"role": "user", "content": "q", "image": "a.png"}, ["a.png"]),
        ({"role": "user", "content": "q", "image_url": {"url": "a.png"}}, ["a.png"]),
        ({"role": "user", "content": "q", "images": [{"path": "a.png"}, {"url": "b.png"}]}, ["a.png", "b.png"]),
        ({"role": "user", "content": [{"type": "text", "text": "q"}], "images": ["a.png"]}, ["a.png"]),
        ({"role": "user", "content": "<image> or <image>?", "images": ["a.png", "b.png"]}, ["a.png", "b.png"]),
        ({"role": "user", "content": [{"image": "a.png"}, {"text": "q"}]}, ["a.png"]),
        ({"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "image", "image": {"path": "a.png"}}]},
         ["a.png"]),
        ({"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "a.png"}}]}, ["a.png"]),
        ({"role": "user", "content": [{"type": "image_url", "url": "a.png"}]}, ["a.png"]),
        ({"from": "human", "value": "q", "images": ["a.png"]}, ["a.png"]),
    )  # fmt: skip

    @pytest.mark.parametrize(("message", "images"), MESSAGES)
    def test_an_image_is_taken_wherever_a_message_has_it(
        self, tmp_path: Path, message: dict[str, Any], images: list[str]
    ) -> None:
        (request,) = from_lines(tmp_path, {"prompt": [message]})
        assert images_of(request) == images

    @pytest.mark.parametrize(
        ("message", "said"),
        [
            ({"role": "user", "content": "q", "audio": {"data": "x"}}, "prompt[0].audio cannot be sent"),
            ({"role": "user", "content": "q", "documents": ["a.pdf"]}, "prompt[0].documents cannot be sent"),
            ({"role": "user", "content": "q", "images": [5]}, "must be a path or URL"),
            ({"role": "user", "content": [{"type": "text", "text": "q", "image": "a.png"}]}, "names an image"),
            ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "by its file_id"),
            ({"role": "user", "content": [{"type": "image"}, {"type": "image"}], "images": ["a.png"]}, "2 places"),
            ({"role": "user", "content": [{"type": "image", "data": "x", "source": "y"}]}, "twice"),
        ],
    )  # fmt: skip
    def test_what_a_message_holds_and_cannot_be_sent_is_refused_by_name(
        self, tmp_path: Path, message: dict[str, Any], said: str
    ) -> None:
        (request,) = from_lines(tmp_path, {"prompt": [message]})
        assert said in error_of(request)

    def test_the_file_name_of_an_image_folder_is_the_lines_image(self, tmp_path: Path) -> None:
        plain, beside = from_lines(
            tmp_path,
            {"prompt": "q", "file_name": "a.png"},
            {"prompt": "q", "file_name": "x", "images": ["b.png"]},
        )
        assert (images_of(plain), images_of(beside)) == (["a.png"], ["b.png"])
        assert beside.metadata == {"file_name": "x"}

    @pytest.mark.parametrize(
        "value",
        ["a.jpg", "in/B.PNG", "https://example.org/a.webp?size=9", "data:image/png;base64,AAAA",
         base64.b64encode(png()).decode(), ["a.jpg"], "photo of me.heic"],
    )  # fmt: skip
    def test_an_image_under_a_key_of_ones_own_is_not_left_out(self, tmp_path: Path, value: Any) -> None:
        (request,) = from_lines(tmp_path, {"prompt": "q", "foto": value})
        assert "'foto' seems to name an image" in error_of(request)
        (named,) = from_lines(tmp_path, {"prompt": "q", "foto": value}, images=("foto",))
        assert named.error is None or "'foto'" not in error_of(named)
        (data,) = from_lines(tmp_path, {"prompt": "q", "foto": value}, images=(NONE,))
        assert data.error is None
        (kept,) = from_lines(tmp_path, {"prompt": "q", "metadata": {"foto": value}})
        assert kept.metadata == {"foto": value}

    @pytest.mark.parametrize(
        "value", ["a cat", "see a.jpg and b", "a.txt", ".jpg", "x" * 5000 + ".jpg", 5, None, {}]
    )
    def test_data_of_ones_own_is_not_taken_for_an_image(self, tmp_path: Path, value: Any) -> None:
        (request,) = from_lines(tmp_path, {"prompt": "q", "note": value})
        assert request.error is None

    @pytest.mark.parametrize("cell", ["", " ", '""'])
    def test_a_row_without_its_image_is_its_error(self, tmp_path: Path, cell: str) -> None:
        good, bad, none = from_csv(tmp_path, f"prompt,image\nq,a.png\nq,{cell}\nq,[]\n")
        assert images_of(good) == ["a.png"]
        assert "m.csv:3: the column 'image' is empty" in error_of(bad)
        assert images_of(none) == []

    @pytest.mark.parametrize("value", [None, {"bytes": None, "path": None}])
    def test_a_row_of_parquet_without_its_image_is_its_error(self, tmp_path: Path, value: Any) -> None:
        _, bad = from_parquet(
            tmp_path, {"prompt": ["q", "q"], "image": [{"bytes": b"", "path": "a.png"}, value]}
        )
        assert "the column 'image' is empty" in error_of(bad)

    def test_a_table_whose_images_nobody_knows_is_refused_and_one_column_of_them_is_taken(
        self, tmp_path: Path
    ) -> None:
        held = {"bytes": png(), "path": "a.png"}
        with pytest.raises(ManifestError, match=r"'left', 'right' may all hold images.*--image-column left"):
            from_parquet(tmp_path, {"prompt": ["q"], "left": [held], "right": [held]})
        (both,) = from_parquet(
            tmp_path, {"prompt": ["q"], "left": [held], "right": [held]}, images=("left", "right")
        )
        assert len(images_of(both)) == 2
        (one,) = from_parquet(tmp_path, {"prompt": ["q"], "photo_of_it": [held]})
        assert len(images_of(one)) == 1
        (bytes_alone,) = from_parquet(tmp_path, {"prompt": ["q"], "photo": [png()]})
        assert "the column 'photo' seems to hold an image" in error_of(bytes_alone)

    def test_one_question_about_rows_without_images_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="every row would be asked the same"):
            from_csv(tmp_path, "url,note\nhttps://example.org/1,x\n", "Describe it.")
        (request,) = from_csv(
            tmp_path, "url,note\nhttps://example.org/1,x\n", "Describe it.", images=("url",)
        )
        assert request.images == ("https://example.org/1",)
        (text,) = from_csv(tmp_path, "note\nx\n", "Is {note} good?")
        assert text.error is None

    def test_a_system_message_beside_a_prompt_is_sent(self, tmp_path: Path) -> None:
        (request,) = from_lines(tmp_path, {"prompt": "q", "system": "Be brief.", "images": ["a.png"]})
        assert request.input is not None
        assert request.input.prompt[0] == {"role": "system", "content": "Be brief."}
        assert images_of(request) == ["a.png"]

    def test_bytes_of_text_are_the_text_and_never_their_length(self, tmp_path: Path) -> None:
        good, bad = from_parquet(tmp_path, {"prompt": [b"What?", b"\xff"], "id": [b"one", b"\xff"]})
        assert good.input is not None
        assert (good.id, good.input.prompt) == ("one", "What?")
        assert "not UTF-8" in error_of(bad)


class TestMessagesAsText:
    """Row 11: messages that were written as text are messages."""

    JSON = json.dumps(
        [{"role": "user", "content": [{"type": "image", "path": "a.png"}, {"type": "text", "text": "q"}]}]
    )

    @pytest.mark.parametrize(
        "value",
        [JSON, "  " + JSON, str(json.loads(JSON)), json.dumps({"messages": json.loads(JSON)}),
         json.dumps(json.loads(JSON)[0]), '[{"from": "human", "value": "q", "image": "a.png"}]'],
    )  # fmt: skip
    def test_they_are_read_in_lines_and_in_tables(self, tmp_path: Path, value: str) -> None:
        (line,) = from_lines(tmp_path, {"prompt": value})
        (row,) = from_parquet(tmp_path, {"prompt": [value]})
        for request in (line, row):
            assert request.input is not None, request.error
            assert request.input.prompt[0]["role"] == "user"
            assert images_of(request) == ["a.png"]

    @pytest.mark.parametrize(
        "value", ['[{"role": "user", "content": "q"', "[{'role': 'user', 'content': open('x')}]"]
    )
    def test_what_begins_so_and_cannot_be_read_is_refused_with_the_form(
        self, tmp_path: Path, value: str
    ) -> None:
        (request,) = from_lines(tmp_path, {"prompt": value})
        assert "begins like messages written as text" in error_of(request)
        assert '[{"role": "user"' in error_of(request)

    @pytest.mark.parametrize(
        "value", ['{"name": "x"}', "[1, 2]", '[{"a": 1}] is JSON. Why?', "{role} plays?", "[x] done"]
    )
    def test_other_text_that_looks_like_json_stays_text(self, tmp_path: Path, value: str) -> None:
        (request,) = from_lines(tmp_path, {"prompt": value})
        assert request.input is not None
        assert request.input.prompt == value

    def test_parts_as_text_inside_a_message_are_parts(self, tmp_path: Path) -> None:
        content = json.dumps([{"type": "image", "image": "a.png"}, {"type": "text", "text": "q"}])
        (request,) = from_lines(tmp_path, {"prompt": [{"role": "user", "content": content}]})
        assert images_of(request) == ["a.png"]

    def test_each_message_as_text_is_read(self, tmp_path: Path) -> None:
        (request,) = from_parquet(tmp_path, {"messages": [['{"role": "user", "content": "q"}']]})
        assert request.input is not None
        assert request.input.prompt == [{"role": "user", "content": "q"}]


class TestColumns:
    """Row 14: a table is not refused for a column that means nothing here."""

    @pytest.mark.parametrize(
        "other", ["image_url", "img", "messages", "seeds", "file_name", "picture", "prompts", "image_path"]
    )
    def test_beside_a_prompt_and_an_image_others_are_metadata(self, tmp_path: Path, other: str) -> None:
        (request,) = from_csv(tmp_path, f"prompt,image,{other}\nq,a.png,b.png\n")
        assert images_of(request) == ["a.png"]
        assert request.metadata == {other: "b.png"}

    @pytest.mark.parametrize(
        "column", ["image", "images", "file_name", "img", "image_url", "image_path", "pictures"]
    )
    def test_a_column_of_a_usual_name_holds_the_images(self, tmp_path: Path, column: str) -> None:
        (request,) = from_csv(tmp_path, f"prompt,{column}\nq,a.png\n")
        assert images_of(request) == ["a.png"]

    def test_which_of_several_is_meant_has_to_be_said(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match=r"both name images.*--image-column"):
            from_csv(tmp_path, "prompt,image,images\nq,a.png,b.png\n")
        (one,) = from_csv(tmp_path, "prompt,image,images\nq,a.png,b.png\n", images=("images",))
        assert images_of(one) == ["b.png"]
        (both,) = from_csv(tmp_path, "prompt,image,images\nq,a.png,b.png\n", images=("images", "image"))
        assert images_of(both) == ["b.png", "a.png"] or images_of(both) == ["a.png", "b.png"]

    def test_a_setting_that_is_misspelt_is_still_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="Did you mean 'temperature'"):
            from_csv(tmp_path, "prompt,temprature\nq,0\n")

    def test_names_that_are_said_are_followed_in_tables_and_lines(self, tmp_path: Path) -> None:
        names: dict[str, Any] = {"images": ("photo",), "prompt": "question", "id": "qid"}
        (row,) = from_csv(tmp_path, "qid,question,photo,prompt\n7,q,a.png,x\n", **names)
        (line,) = from_lines(tmp_path, {"qid": 7, "question": "q", "photo": "a.png"}, **names)
        for request in (row, line):
            assert request.input is not None
            assert (request.id, request.input.prompt, images_of(request)) == ("7", "q", ["a.png"])
        assert row.metadata == {"prompt": "x"}

    def test_a_name_that_is_not_there_is_refused_before_anything_starts(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match=r"no column 'foto'.*the columns are prompt, image"):
            from_csv(tmp_path, "prompt,image\nq,a.png\n", images=("foto",))
        with pytest.raises(ManifestError, match=r"no line has the key 'foto'.*Check --image-column foto"):
            from_lines(tmp_path, {"prompt": "q"}, images=("foto",))

    def test_names_do_not_go_with_images(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png())
        with pytest.raises(UsageError, match="--prompt-column goes with a table"):
            requests(tmp_path, "q", prompt="x")

    def test_answers_hold_while_the_names_say_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "m.jsonl").write_text('{"question": "one two", "prompt": "three"}\n')
        model, output = FakeModel(), tmp_path / "out.jsonl"

        def asked(**names: Any) -> list[str]:
            before = len(model.asked)
            run(tmp_path / "m.jsonl", output, model, naming=Naming(**names), resume=True)
            return model.asked[before:]

        assert asked(prompt="question") == ["one two"]
        assert asked(prompt="question") == []
        assert asked() == ["three"]


class TestIds:
    """Row 15: whole numbers are whole numbers, and no two records are called the same."""

    @pytest.mark.parametrize(
        ("value", "id"), [(1.0, "1"), (-2.0, "-2"), (2.0**53, str(2**53)), (7, "7"), ("1.0", "1.0"), (-0.0, "0")]
    )  # fmt: skip
    def test_a_whole_number_is_an_id_however_it_is_written(self, tmp_path: Path, value: Any, id: str) -> None:
        (request,) = from_lines(tmp_path, {"prompt": "q", "id": value})
        assert (request.id, request.error) == (id, None)

    @pytest.mark.parametrize("value", [1.5, 1e300, 2.0**53 + 2, True, [1]])
    def test_what_is_not_one_is_refused(self, tmp_path: Path, value: Any) -> None:
        (request,) = from_lines(tmp_path, {"prompt": "q", "id": value})
        assert "id must be a string or a whole number" in error_of(request)

    def test_the_ids_of_pandas_are_whole_numbers_and_gaps_are_row_numbers(self, tmp_path: Path) -> None:
        pd = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pd.DataFrame({"id": [1, None, 9], "prompt": ["a", "b", "c"]}).to_parquet(tmp_path / "m.parquet")
        assert [request.id for request in requests(tmp_path / "m.parquet")] == ["1", "2", "9"]

    def test_the_rows_of_a_csv_are_numbered_from_1_whatever_lines_they_are_in(self, tmp_path: Path) -> None:
        found = from_csv(tmp_path, 'prompt\n"a\nb"\n\nc\n')
        assert [(request.id, request.line, request.where) for request in found] == [
            ("1", 2, "m.csv:2"), ("2", 5, "m.csv:5"),
        ]  # fmt: skip

    def test_a_line_whose_number_is_another_ones_id_does_not_take_it(self, tmp_path: Path) -> None:
        first, second, third, fourth = from_lines(
            tmp_path, {"prompt": "a", "id": 2}, {"prompt": "b"}, {"prompt": "c"}, {"prompt": "d", "id": "3"}
        )
        assert (first.error, third.error) == (None, None)
        assert "has no id, and an earlier line has the id '2'" in error_of(second)
        assert "an earlier line has the id '3' too" in error_of(fourth)

    def test_the_same_holds_when_a_run_is_resumed(self, tmp_path: Path) -> None:
        manifest, output, model = tmp_path / "m.jsonl", tmp_path / "out.jsonl", FakeModel()
        manifest.write_text('{"prompt": "a"}\n{"prompt": "b", "id": 9}\n')
        run(manifest, output, model)
        manifest.write_text('{"prompt": "a"}\n{"prompt": "b", "id": 1}\n')
        run(manifest, output, model, resume=True)
        first, second = (json.loads(line) for line in output.read_text().splitlines())
        assert (first["status"], second["status"]) == ("ok", "error")
        assert model.asked == ["a", "b"]

    @given(st.lists(st.none() | st.integers(1, 6) | st.sampled_from(["1", "x"]), max_size=8))
    def test_no_two_good_records_are_called_the_same(
        self, tmp_path_factory: pytest.TempPathFactory, ids: list[Any]
    ) -> None:
        folder = tmp_path_factory.getbasetemp()
        found = from_lines(folder, *({"prompt": "q"} | ({} if id is None else {"id": id}) for id in ids))
        good = [request.id for request in found if request.error is None]
        assert len(set(good)) == len(good)
        assert len(found) == len(ids)


class TestNotLines:
    """Row 16: a file that is not JSONL is read for what it is, or refused before anything starts."""

    RECORDS = (
        {"prompt": "a", "id": "x"},
        {"prompt": "b"},
        {"prompt": "c", "metadata": {"n": [1, {"m": "]"}]}},
    )

    @pytest.mark.parametrize("name", ["m.json", "m.jsonl", "m"])
    @pytest.mark.parametrize(
        "text",
        [json.dumps(RECORDS), json.dumps(RECORDS, indent=2), json.dumps(RECORDS, indent="\t"),
         "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n", "\ufeff \n" + json.dumps(RECORDS, indent=1),
         "\n".join(json.dumps(record, indent=2) for record in RECORDS),
         "[\n" + ",\n".join(map(json.dumps, RECORDS)) + ",\n]\n"],
        ids=["one line", "indented", "tabs", "record per line", "mark", "objects", "comma at the end"],
    )  # fmt: skip
    def test_a_list_of_records_is_read_whatever_its_lines(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text, encoding="utf-8")
        found = requests(tmp_path / name)
        assert [(request.id, request.input and request.input.prompt) for request in found] == [
            ("x", "a"), ("2", "b"), ("3", "c"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "text", ['[{"prompt": "a"},', '[{"prompt": "a"} {"prompt": "b"}]', '[{"prompt": "a"}] x', "[{]"]
    )
    def test_a_list_that_is_broken_is_refused_with_its_line(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "m.json").write_text("\n" + text)
        source = open_source([str(tmp_path / "m.json")])
        assert source.rows is not None
        with pytest.raises(ManifestError, match=r"m\.json:2: not JSON"):
            source.rows.count()

    def test_a_wrong_record_of_a_list_is_its_own_error(self, tmp_path: Path) -> None:
        (tmp_path / "m.json").write_text(
            '[{"prompt": "a"}, 5, {"prompt": "b", "prompt": "c"}, NaN, {"prompt": "d"}]'
        )
        found = requests(tmp_path / "m.json")
        assert [request.error is None for request in found] == [True, False, False, False, True]
        assert "m.json:2: a JSON number" in error_of(found[1])

    @given(
        st.lists(
            st.dictionaries(
                st.text(max_size=4),
                st.recursive(st.text(max_size=6), lambda inner: st.lists(inner, max_size=3), max_leaves=6),
                max_size=4,
            ),
            max_size=5,
        ),
        st.sampled_from([None, 1, 4]),
        st.integers(1, 40),
    )
    def test_any_list_is_read_in_pieces_of_any_size(
        self, tmp_path_factory: pytest.TempPathFactory, records: list[Any], indent: int | None, piece: int
    ) -> None:
        from pixano_vlm.inputs import json_rows

        text = json.dumps(records, indent=indent)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_rows, "_PIECE", piece)
            texts = list(json_rows._Values(io.BytesIO(text.encode()), "m.json"))
        assert [json.loads(text) for text in texts] == records

    def test_a_list_on_standard_input_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "m.jsonl").write_text('[\n{"prompt": "a"}\n]\n')
        with pytest.raises(ManifestError, match=r"is a JSON list.*jq -c '\.\[\]'"):
            list(Manifest(tmp_path / "m.jsonl"))

    @pytest.mark.parametrize(
        "text", ["no\n" * 3, '{"prompt": "a",\n{"prompt": "b"}\n', '["q"]\n{"prompt": "b"}\n']
    )
    def test_lines_of_which_the_first_is_broken_are_lines_still(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "m.jsonl").write_text(text)
        assert len(list(Manifest(tmp_path / "m.jsonl").lines() if text[0] != "[" else ())) in (0, 2, 3)
        assert open_source([str(tmp_path / "m.jsonl")]).rows is None

    @pytest.mark.parametrize(
        ("name", "data", "said"),
        [("m.jsonl", b"PK\x03\x04", "begins like a file that ends with .xlsx"), ("m.jsonl", b"PAR1", ".parquet"),
         ("m.jsonl", b"\x1f\x8b\x08", "Let its name end with .gz"), ("m.csv", b"\x1f\x8b\x08", ".gz"),
         ("m.xlsx", b"PK", "Save the sheet as CSV"), ("m.txt", b"a.png\n", "$(cat m.txt)")],
    )  # fmt: skip
    def test_another_kind_of_file_is_refused_with_what_to_do(
        self, tmp_path: Path, name: str, data: bytes, said: str
    ) -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ManifestError) as caught:
            requests(tmp_path / name)
        assert said in str(caught.value)


class TestBatchLines:
    """Row 18: what a Batch line from elsewhere asks for is taken where its meaning is plain."""

    def read(self, folder: Path, url: str = "/v1/chat/completions", **body: Any) -> Request:
        messages = [{"role": "user", "content": "q"}]
        line = {
            "custom_id": "a",
            "method": "POST",
            "url": url,
            "body": {"model": "m", "messages": messages, **body},
        }
        (request,) = from_lines(folder, line)
        return request

    @pytest.mark.parametrize(
        "url", ["/chat/completions", "/v1/chat/completions", "/v4/chat/completions",
                "/openai/deployments/x/chat/completions?api-version=2024-10-21"],
    )  # fmt: skip
    def test_any_address_of_chat_completions_is_taken(self, tmp_path: Path, url: str) -> None:
        assert self.read(tmp_path, url).error is None

    @pytest.mark.parametrize("url", ["/v1/embeddings", "/v1/audio/transcriptions", "", 5])
    def test_another_one_is_refused(self, tmp_path: Path, url: Any) -> None:
        assert "cannot be answered here" in error_of(self.read(tmp_path, url))

    def test_two_names_of_one_limit_may_agree_and_not_differ(self, tmp_path: Path) -> None:
        request = self.read(tmp_path, max_tokens=9, max_completion_tokens=9)
        assert request.input is not None
        assert request.input.max_new_tokens == 9
        assert "differ" in error_of(self.read(tmp_path, max_tokens=9, max_completion_tokens=8))

    @pytest.mark.parametrize(
        "body",
        [{"seed": -1}, {"top_k": -1}, {"top_k": 0}, {"min_p": 0}, {"top_p": 1}, {"repetition_penalty": 1.0}, {"n": 1},
         {"chat_template_kwargs": {}}, {"stop": []}, {"logit_bias": None}, {"frequency_penalty": 0.0},
         {"extra_body": {"top_k": -1}}, {"skip_special_tokens": True}, {"max_tokens": -1}, {"tools": []}],
    )  # fmt: skip
    def test_what_asks_for_nothing_is_passed_over(self, tmp_path: Path, body: dict[str, Any]) -> None:
        assert self.read(tmp_path, **body).error is None

    @pytest.mark.parametrize("body", [{"tools": [{}]}, {"guided_regex": "x"}])
    def test_what_asks_for_something_is_refused(self, tmp_path: Path, body: dict[str, Any]) -> None:
        assert "cannot be done here" in error_of(self.read(tmp_path, **body))

    def test_n_is_so_many_samples_and_nothing_else(self, tmp_path: Path) -> None:
        request = self.read(tmp_path, n=2, temperature=0.5)
        assert request.input is not None
        assert request.input.n == 2
        assert "n is 2 at temperature 0" in error_of(self.read(tmp_path, n=2, temperature=0))
        assert "n must be" in error_of(self.read(tmp_path, n=True))

    def test_logprobs_are_asked_for_as_openai_has_them(self, tmp_path: Path) -> None:
        request = self.read(tmp_path, logprobs=True, top_logprobs=2)
        assert request.input is not None
        assert (request.input.logprobs, request.input.top_logprobs) == (True, 2)
        assert "top_logprobs" in error_of(self.read(tmp_path, top_logprobs=21))
        assert "true or false" in error_of(self.read(tmp_path, logprobs=5))

    def test_what_is_under_extra_body_counts(self, tmp_path: Path) -> None:
        request = self.read(tmp_path, extra_body={"top_k": 5})
        assert request.input is not None
        assert request.input.top_k == 5


class TestImageFolders:
    """Row 19: what is said of images beside them is read in whichever form it is."""

    ROWS = ({"file_name": "a.png", "species": "cat"}, {"file_name": "sub/b.png", "species": "dog"})

    def make(self, folder: Path, form: str, rows: Any = ROWS) -> Path:
        photos = folder / "photos"
        for name in ("a.png", "sub/b.png"):
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            (photos / name).write_bytes(png())
        if form == "jsonl":
            (photos / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif form == "csv":
            lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
            (photos / "metadata.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
        else:
            pa = pytest.importorskip("pyarrow")
            pytest.importorskip("pyarrow.parquet").write_table(
                pa.Table.from_pylist(list(rows)), photos / "metadata.parquet"
            )
        return photos

    @pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
    def test_it_fills_the_prompt_and_the_metadata(self, tmp_path: Path, form: str) -> None:
        source = open_source([str(self.make(tmp_path, form))], Template("A {species}?"), recursive=True)
        found = list(Manifest(None, rows=source.rows))
        assert [(request.id, request.input and request.input.prompt, request.metadata) for request in found] == [
            ("a.png", "A cat?", {"species": "cat"}), ("sub/b.png", "A dog?", {"species": "dog"}),
        ]  # fmt: skip
        assert source.rows is not None
        assert source.rows.count() == 2

    @pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
    def test_a_file_that_names_no_images_is_refused(self, tmp_path: Path, form: str) -> None:
        photos = self.make(tmp_path, form, [{"name": "a.png"}])
        with pytest.raises(ManifestError, match="there is no file_name"):
            open_source([str(photos)], Template("A {species}?"))

    def test_a_field_that_nobody_gives_is_refused_with_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"Did you mean \{species\}"):
            open_source([str(self.make(tmp_path, "csv"))], Template("A {specie}?"))

    def test_the_text_beside_an_image_is_a_field(self, tmp_path: Path) -> None:
        photos = self.make(tmp_path, "jsonl")
        (photos / "a.txt").write_text(" a cat, sitting\n")
        (photos / "c.png").write_bytes(png())
        source = open_source([str(photos)], Template("Improve: {txt}"))
        first, second = Manifest(None, rows=source.rows)
        assert first.input is not None
        assert first.input.prompt == "Improve: a cat, sitting"
        assert "wants {txt}" in error_of(second)


class TestLargeRows:
    """Row 24: the limit of a row is that of its image, and its error has its id."""

    def test_a_large_image_in_a_table_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = png() + bytes(60_000)
        monkeypatch.setattr("pixano_vlm.inputs.manifest.MAX_LINE_BYTES", 10_000)
        (request,) = from_parquet(tmp_path, {"id": ["big"], "prompt": ["q"], "image": [data]})
        assert (request.id, request.error) == ("big", None)

    def test_a_line_that_is_too_long_keeps_its_id(self, tmp_path: Path) -> None:
        lines = [
            {"id": "x", "prompt": "q" * 200},
            {"prompt": "q" * 200, "id": "y"},
            {"id": 7, "prompt": "q" * 200},
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        found = list(Manifest(None, stream=io.BytesIO(text), max_line_bytes=100))
        assert [request.id for request in found] == ["x", "2", "7"]
        assert all("the line is longer than 100 bytes" in error_of(request) for request in found)

    def test_the_path_of_an_image_that_is_in_the_table_is_kept(self, tmp_path: Path) -> None:
        held = [{"bytes": png(), "path": "a.png"}, {"bytes": png(), "path": None}]
        one, none = from_parquet(tmp_path, {"prompt": ["q", "q"], "image": held})
        assert (one.metadata, none.metadata) == ({"image.path": "a.png"}, {})
        (several,) = from_parquet(tmp_path, {"prompt": ["q"], "images": [held]})
        assert several.metadata == {"images.path": ["a.png", None]}
