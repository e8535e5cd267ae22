"""Arrow files as other tools write them: with an index or without, packed, with categories, beside others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pixano_vlm.errors import ManifestError
from pixano_vlm.inputs.arrow_rows import ArrowTable
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.open import open_source

pa = pytest.importorskip("pyarrow")
feather = pytest.importorskip("pyarrow.feather")

COLUMNS: dict[str, Any] = {
    "prompt": [f"q{n}" for n in range(10)],
    "image": ["a.png"] * 10,
    "n": list(range(10)),
}


def stream(path: Path, table: Any, at_a_time: int = 4) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=at_a_time)


def prompts(name: Path) -> list[Any]:
    source = open_source([str(name)])
    return [request.input and request.input.prompt for request in Manifest(source.path, rows=source.rows)]


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_files_with_an_index_are_read_however_they_are_packed(tmp_path: Path, compression: str) -> None:
    feather.write_feather(
        pa.table(COLUMNS), str(tmp_path / "m.feather"), compression=compression, chunksize=3
    )
    assert prompts(tmp_path / "m.feather") == COLUMNS["prompt"]
    rows = open_source([str(tmp_path / "m.feather")]).rows
    assert rows is not None
    assert rows.count() == 10
    assert [row.number for row in rows.rows_after(7)] == [8, 9, 10]


def test_a_folder_that_datasets_saved_is_a_manifest(tmp_path: Path) -> None:
    table = pa.table(COLUMNS)
    for number in range(2):
        stream(tmp_path / f"data-0000{number}-of-00002.arrow", table.slice(5 * number, 5))
    (tmp_path / "state.json").write_text('{"_data_files": []}')
    (tmp_path / "dataset_info.json").write_text("{}")
    assert prompts(tmp_path) == COLUMNS["prompt"]


def test_categories_come_back_as_what_they_stand_for(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a", "b"], "kind": pa.array(["x", "y"]).dictionary_encode()})
    stream(tmp_path / "m.arrow", table)
    rows = open_source([str(tmp_path / "m.arrow")]).rows
    assert rows is not None
    assert [json.loads(row.text)["metadata"] for row in rows.rows()] == [{"kind": "x"}, {"kind": "y"}]
    assert rows.kinds["kind"] == "string"


def test_images_as_datasets_keep_them_are_images(tmp_path: Path) -> None:
    image = {"bytes": b"\x89PNG\r\n", "path": "a.png"}
    stream(tmp_path / "m.arrow", pa.Table.from_pylist([{"prompt": "a", "picture": image}]))
    rows = open_source([str(tmp_path / "m.arrow")]).rows
    assert rows is not None
    (row,) = rows.rows()
    assert json.loads(row.text)["images"] == ["data:application/octet-stream;base64,iVBORw0K"]


def test_large_rows_are_held_a_few_at_a_time(tmp_path: Path) -> None:
    data = [bytes([n % 256]) * 500_000 for n in range(40)]
    stream(tmp_path / "m.arrow", pa.table({"image": data, "prompt": ["a"] * 40}), 40)
    values = ArrowTable(InputFile(str(tmp_path / "m.arrow"))).values()
    before = pa.total_allocated_bytes()
    assert sum(1 for _ in values) == 40
    assert pa.total_allocated_bytes() - before < 1_000_000  # mapped, never copied whole


def test_a_stream_that_is_cut_off_is_said(tmp_path: Path) -> None:
    stream(tmp_path / "m.arrow", pa.table(COLUMNS))
    data = (tmp_path / "m.arrow").read_bytes()
    (tmp_path / "m.arrow").write_bytes(data[: len(data) // 2])
    with pytest.raises(ManifestError, match=r"m\.arrow cannot be read as an Arrow file"):
        prompts(tmp_path / "m.arrow")
