"""Tables: their types, and that no more than a row group of one is ever held."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixano_vlm.inputs.parquet_rows import ParquetRows
from pixano_vlm.outputs.tables import COLUMNS, write_csv, write_parquet
from pixano_vlm.records.output_line import LineError, LineUsage, OutputLine


def line(number: int, text: str = "a cat", metadata: dict[str, Any] | None = None) -> OutputLine:
    return OutputLine(
        id=f"r{number}", status="ok", generated_text=text, finish_reason="stop",
        usage=LineUsage(prompt_tokens=9, completion_tokens=3, total_tokens=12), generation_config={"top_k": 5},
        parsed={"kind": "cat", "n": number}, error=None, flags=["cut_off"], attempts=2, model="m",
        images=["a.jpg", "b.jpg"], metadata=metadata or {},
    )  # fmt: skip


def failed(number: int) -> OutputLine:
    return OutputLine(
        id=f"r{number}", status="error", generated_text=None, finish_reason=None, usage=None,
        generation_config=None, parsed=None, error=LineError(type="ImageError", message="gone."), flags=[],
        attempts=1, model="m", images=[], metadata={},
    )  # fmt: skip


class Counted:
    """So many lines, and how many of them were alive at a time."""

    def __init__(self, count: int, text: str = "a cat", metadata: dict[str, Any] | None = None) -> None:
        self.count, self.text, self.metadata = count, text, metadata
        self.alive = self.most = 0

    def __iter__(self) -> Iterator[OutputLine]:
        for number in range(self.count):
            made = line(number, self.text, self.metadata)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(made, self._gone)
            yield made

    def _gone(self) -> None:
        self.alive -= 1


def test_columns_are_typed_and_what_failed_is_null(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet([line(0), failed(1)], tmp_path / "t.parquet")
    types = {
        field.name: str(field.type).replace("element", "item")
        for field in parquet.read_schema(tmp_path / "t.parquet")
    }
    assert list(types) == list(COLUMNS)
    assert {name for name, kind in types.items() if kind == "int64"} == {
        "prompt_tokens", "completion_tokens", "total_tokens", "attempts", "pages_not_read",
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


def test_of_a_table_with_pictures_in_it_no_more_is_held_the_longer_it_is(tmp_path: Path) -> None:
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
        for _ in ParquetRows(path).rows():
            held = max(held, arrow.total_allocated_bytes() - before)
        most.append(held)
    assert most[1] < 1.5 * most[0]


def test_a_table_that_was_written_is_one_that_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pixano_vlm.inputs.template import Template

    write_parquet([line(n) for n in range(200)], tmp_path / "t.parquet")
    rows = list(ParquetRows(tmp_path / "t.parquet", Template("Is it {generated_text}?")).rows())
    values = json.loads(rows[199].text)
    assert (values["id"], values["prompt"], values["images"]) == ("r199", "Is it a cat?", ["a.jpg", "b.jpg"])
