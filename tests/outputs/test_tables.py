"""Tables: their types, and that no more than a row group of one is ever held."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.outputs.lines import Counted, failed, line

from pixano_vlm.errors import UsageError
from pixano_vlm.inputs.columns import Reading
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.parquet_rows import ParquetRows
from pixano_vlm.outputs.exports import split_outputs
from pixano_vlm.outputs.table_columns import MOST, Given
from pixano_vlm.outputs.tables import COLUMNS, write_csv, write_parquet
from pixano_vlm.records.output_line import FIRST, OutputLine

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


def test_columns_are_typed_and_what_failed_is_null(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet([line(0), failed(1)], tmp_path / "t.parquet")
    types = {
        field.name: str(field.type).replace("element", "item")
        for field in parquet.read_schema(tmp_path / "t.parquet")
    }
    answers = ["kind", "n"]  # a column for each key of an answer in JSON, beside it
    assert list(types)[:4] == ["id", "generated_text", *answers]
    assert set(types) == {*COLUMNS, *answers} - (
        OutputLine.model_fields.keys() - {*FIRST}
    )  # no line has a later key
    assert {name for name, kind in types.items() if kind == "int64"} == {
        "prompt_tokens", "completion_tokens", "total_tokens", "attempts", "n",
    }  # fmt: skip
    assert types["images"] == types["flags"] == "list<item: string>"
    frame = pandas.read_parquet(tmp_path / "t.parquet")
    first, second = (row for _, row in frame.iterrows())
    assert (first.total_tokens, list(first["images"]), list(first["flags"])) == (
        12,
        ["a.jpg", "b.jpg"],
        ["cut_off"],
    )
    assert json.loads(first.parsed) == {"kind": "cat", "n": 0}
    assert json.loads(first.generation_config) == {"top_k": 5}
    assert (second.error_type, second.error_message) == ("ImageError", "gone.")
    assert frame[["generated_text", "prompt_tokens", "parsed"]].iloc[1].isna().all()


@pytest.mark.parametrize("count", [2_000, 8_000])
def test_neither_form_holds_more_lines_the_longer_the_output_is(tmp_path: Path, count: int) -> None:
    pytest.importorskip("pyarrow")
    for write in (write_csv, write_parquet):
        lines = Counted(count)
        write(lines, tmp_path / "table")
        assert lines.most <= 3


@pytest.mark.parametrize("where", ["text", "metadata"])
def test_long_answers_and_long_metadata_close_a_row_group_early(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("pixano_vlm.outputs.tables.GROUP_CHARACTERS", 100_000)
    long = "x" * 10_000
    lines = Counted(100, long) if where == "text" else Counted(100, metadata={"note": long})
    write_parquet(lines, tmp_path / "t.parquet")
    with parquet.ParquetFile(tmp_path / "t.parquet") as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sum(groups) == 100
    assert max(groups) <= 10


def test_of_a_table_with_images_in_it_no_more_is_held_the_longer_it_is(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    most = []
    for groups in (2, 8):
        path = tmp_path / f"{groups}.parquet"
        schema = arrow.schema([("prompt", arrow.string()), ("image", arrow.binary())])
        with parquet.ParquetWriter(path, schema) as writer:
            for _ in range(groups):
                pictures = [os.urandom(50_000) for _ in range(40)]
                writer.write_table(arrow.table({"prompt": ["What?"] * 40, "image": pictures}, schema))
        before, held = arrow.total_allocated_bytes(), 0
        for _ in ParquetRows(InputFile(str(path))).rows():
            held = max(held, arrow.total_allocated_bytes() - before)
        most.append(held)
    assert most[1] < 1.5 * most[0]


def test_a_table_that_was_written_is_one_that_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pixano_vlm.inputs.template import Template

    write_parquet([line(n) for n in range(200)], tmp_path / "t.parquet")
    reading = Reading(Template("Is it {generated_text}?"))
    rows = list(ParquetRows(InputFile(str(tmp_path / "t.parquet")), reading).rows())
    values = json.loads(rows[199].text)
    assert (values["id"], values["prompt"], values["images"]) == ("r199", "Is it a cat?", ["a.jpg", "b.jpg"])


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


class TestColumns:
    """What was given comes back, with the answer beside it."""

    GIVEN = Given(
        {"id": "string", "prompt": "string", "n": "int64", "status": "string"},
        lambda: iter([
            ("r0", {"id": "r0", "prompt": "What?", "n": 1, "status": "new"}, True),
            ("left out", {"n": 2}, True),
            ("r1", {"id": "r1", "prompt": "Who?", "status": "old"}, True),
        ]),
    )  # fmt: skip

    def test_the_inputs_columns_come_first_and_the_answers_beside_them(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        write_parquet([line(0), line(1)], tmp_path / "t.parquet", self.GIVEN)
        table = parquet.read_table(tmp_path / "t.parquet")
        names = ["id", "prompt", "n", "input.status", "generated_text", "kind", "parsed.n", "status"]
        assert table.column_names[:8] == names
        assert table.column("prompt").to_pylist() == ["What?", "Who?"]
        assert table.column("n").to_pylist() == [1, None]
        assert table.column("input.status").to_pylist() == ["new", "old"]
        assert table.column("parsed.n").to_pylist() == [0, 1]

    def test_metadata_and_the_keys_of_answers_are_columns_of_their_type(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        metadata: list[dict[str, Any]] = [
            {"whole": 1, "mixed": 1, "half": 1, "yes": True, "words": ["a"], "deep": {"a": [1]}},
            {"whole": 2, "mixed": "x", "half": 1.5, "yes": False, "words": ["b", "c"], "deep": [None]},
        ]
        write_parquet([line(n, metadata=metadata[n]) for n in (0, 1)], tmp_path / "t.parquet")
        table = parquet.read_table(tmp_path / "t.parquet")
        assert {name: table.column(name).to_pylist() for name in metadata[0]} == {
            "whole": [1, 2], "mixed": ["1", "x"], "half": [1, 1.5], "yes": [True, False],
            "words": [["a"], ["b", "c"]], "deep": ['{"a": [1]}', "[null]"],
        }  # fmt: skip

    def test_a_key_that_was_asked_for_and_never_given_is_a_column(self, tmp_path: Path) -> None:
        write_csv([failed(0)], tmp_path / "t.csv", keys=["caption", "colours"])
        (row,) = read_csv(tmp_path / "t.csv")
        assert (row["caption"], row["colours"]) == ("", "")
        assert list(row)[:4] == ["id", "generated_text", "caption", "colours"]

    def test_a_csv_file_begins_with_the_mark_by_which_excel_knows_utf_8(self, tmp_path: Path) -> None:
        write_csv([line(0, "é", metadata={"ok": True})], tmp_path / "t.csv")
        assert (tmp_path / "t.csv").read_bytes().startswith(b"\xef\xbb\xbfid,ok,generated_text")
        (row,) = read_csv(tmp_path / "t.csv")
        assert (row["ok"], row["generated_text"], json.loads(row["flags"])) == ("true", "é", ["cut_off"])

    @given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), max_size=4))
    @settings(max_examples=60, deadline=None)
    def test_whatever_metadata_holds_a_table_can_be_written(
        self, tmp_path_factory: pytest.TempPathFactory, metadata: list[dict[str, Any]]
    ) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        path = tmp_path_factory.getbasetemp() / "any.parquet"
        lines = [line(number, metadata=values) for number, values in enumerate(metadata)]
        write_parquet(lines, path)
        assert parquet.read_table(path).num_rows == len(lines)

    def test_of_many_keys_only_so_many_are_columns_and_the_rest_is_still_there(self, tmp_path: Path) -> None:
        write_csv([line(n, metadata={f"k{n}": n}) for n in range(MOST + 50)], tmp_path / "t.csv")
        rows = read_csv(tmp_path / "t.csv")
        assert len(rows[0]) < MOST + 50
        assert json.loads(rows[-1]["metadata"]) == {f"k{MOST + 49}": MOST + 49}


class TestNames:
    """Which file is which form."""

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("a.xlsx", "Did you mean a.csv?"), ("a.json", "Did you mean a.jsonl?"),
            ("a.txt", "Did you mean a.jsonl?"),
            ("a.ftr", "Did you mean a.feather?"),
            ("a.docx", "There are .jsonl, .csv, .parquet, .arrow, .openai.jsonl, .hf, .coco.json or .pixano"),
            ("a.CSVX", "There are"), ("run.v2", "There are"),
        ],
    )  # fmt: skip
    def test_an_ending_that_is_not_known_is_refused_with_those_there_are(
        self, tmp_path: Path, name: str, said: str
    ) -> None:
        with pytest.raises(UsageError, match=r"no form of output that ends with") as caught:
            split_outputs([str(tmp_path / name)], Path("d"))
        assert said in str(caught.value)

    @pytest.mark.parametrize("name", ["a", "a.jsonl", "a.NDJSON", "/dev/null", "-"])
    def test_the_tools_own_form_needs_no_ending(self, name: str) -> None:
        path, exports = split_outputs([name], Path("d"))
        assert (path, exports) == (None if name == "-" else Path(name), ())

    def test_an_output_of_an_earlier_run_keeps_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "a.out.journal").touch()
        assert split_outputs([str(tmp_path / "a.out")], Path("d")) == (tmp_path / "a.out", ())

    def test_the_jsonl_beside_a_table_is_never_a_manifest_or_somebody_elses(self, tmp_path: Path) -> None:
        names, manifest = [str(tmp_path / "x.csv")], tmp_path / "x.jsonl"
        assert split_outputs(names, Path("d"))[0] == manifest
        manifest.touch()
        assert split_outputs(names, Path("d"), [manifest])[0] == tmp_path / "x.outputs.jsonl"
        assert split_outputs(names, Path("d"))[0] == tmp_path / "x.outputs.jsonl"
        (tmp_path / "x.jsonl.journal").touch()  # it is the output of an earlier run
        assert split_outputs(names, Path("d"))[0] == manifest
        assert split_outputs(names, Path("d"), [manifest])[0] == tmp_path / "x.outputs.jsonl"
