"""A row of a table may hold images as large as an image may be: the limit is theirs, not that of a line."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fakes import FakeModel
from tests.media.gallery import saved

from pixano_vlm import Limits, generate
from pixano_vlm.inputs.manifest import Manifest

parquet = pytest.importorskip("pyarrow.parquet")
arrow = pytest.importorskip("pyarrow")

IMAGE = saved(Image.frombytes("RGB", (200, 200), os.urandom(200 * 200 * 3)), "BMP")
CELLS = {
    "bytes": IMAGE,
    "as datasets have it": {"bytes": IMAGE, "path": None},
    "a list": [IMAGE, IMAGE],
    "a data URL": "data:image/bmp;base64," + base64.b64encode(IMAGE).decode(),
    "base64": base64.b64encode(IMAGE).decode(),
}


def table(path: Path, cell: Any, *order: str) -> Path:
    columns = {"id": ["a", "b"], "prompt": ["q", "q"], "image": [cell, cell]}
    parquet.write_table(arrow.table({name: columns[name] for name in order}), path)
    return path


@pytest.fixture(autouse=True)
def short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line's limit is far below the images', as if these had 25 MB."""
    defaults = Manifest.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "max_line_bytes", 1_000)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("order", [("id", "prompt", "image"), ("image", "prompt", "id")])
def test_it_is_answered_and_its_line_is_short(cell: str, order: tuple[str, ...], tmp_path: Path) -> None:
    source = table(tmp_path / "t.parquet", CELLS[cell], *order)
    output = tmp_path / "out.jsonl"
    results = list(generate(source, FakeModel(), output=output))
    assert [(result.id, result.ok) for result in results] == [("a", True), ("b", True)]
    assert max(map(len, output.read_text(encoding="utf-8").splitlines())) < 1_000


@pytest.mark.parametrize("cell", CELLS)
def test_one_that_is_too_large_for_an_image_says_so_under_its_own_id(cell: str, tmp_path: Path) -> None:
    source = table(tmp_path / "t.parquet", CELLS[cell], "image", "prompt", "id")
    results = list(generate(source, FakeModel(), limits=Limits(max_image_bytes=10_000)))
    assert [(result.id, result.ok) for result in results] == [("a", False), ("b", False)]
    for result in results:
        assert "the limit is 10,000" in str(result.error)
        assert "--max-image-bytes" in str(result.error)
        assert len(str(result.error)) < 400
