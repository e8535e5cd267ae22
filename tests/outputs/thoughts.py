"""A run of a model that thinks, checked in every form that a run is written in."""

from __future__ import annotations

import csv
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.embedded import EXAMPLES

from pixano_vlm import generate
from pixano_vlm.models import VLMModel
from pixano_vlm.report.answers import ShownLine
from pixano_vlm.report.rows import _answer

SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "schema": {
            "type": "object",
            "properties": {"seen": {"type": "string", "maxLength": 12}},
            "required": ["seen"],
            "additionalProperties": False,
        }
    },
}


def check_every_form(model: VLMModel, folder: Path, *, schema: bool, **asked: Any) -> dict[str, Any]:
    """Runs one record that thinks, checks JSONL, CSV, Parquet, Batch, sidecars and report; returns its line.

    Args:
        model: One that thinks.
        folder: An empty one.
        schema: Whether the answer is to be JSON.
        asked: Further keys of the record.
    """
    shutil.copy(EXAMPLES / "images" / "001.jpg", folder / "a.jpg")
    record = {"id": "a", "prompt": "What is in this picture?", "images": ["a.jpg"], "temperature": 0, **asked}
    if schema:
        record["response_format"] = SCHEMA
    (folder / "in.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    has_parquet = find_spec("pyarrow") is not None
    forms = ("out.jsonl", "out.csv", "out.openai.jsonl", *(("out.parquet",) if has_parquet else ()))
    names = [folder / name for name in forms]
    for sidecar in ("txt", "json"):
        summary = generate(folder / "in.jsonl", model, output=names, overwrite=True, sidecar=sidecar).finish()  # type: ignore[arg-type]  # one of its names
        assert summary.ok == 1, (folder / "out.jsonl").read_text(encoding="utf-8")
    line: dict[str, Any] = json.loads((folder / "out.jsonl").read_text(encoding="utf-8"))
    text, thoughts, count = line["generated_text"], line["reasoning"], line.get("reasoning_tokens")
    assert thoughts
    assert thoughts not in text
    assert count is None or 0 < count < line["usage"]["completion_tokens"]
    assert (line.get("parsed") is not None) == schema
    if schema:
        assert json.loads(text) == line["parsed"]
        assert set(line["parsed"]) == {"seen"}

    with (folder / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["generated_text"], row["reasoning"]) == (text, thoughts)
    assert row.get("reasoning_tokens") == (None if count is None else str(count))
    if has_parquet:
        from pyarrow import parquet

        [cells] = parquet.read_table(folder / "out.parquet").to_pylist()
        assert (cells["generated_text"], cells["reasoning"], cells.get("reasoning_tokens")) == (
            text,
            thoughts,
            count,
        )
    body = json.loads((folder / "out.openai.jsonl").read_text(encoding="utf-8"))["response"]["body"]
    message = body["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == (text, thoughts)
    if count is not None:
        assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": count}

    assert (folder / "a.txt").read_text(encoding="utf-8") == text + "\n"
    beside = json.loads((folder / "a.json").read_text(encoding="utf-8"))
    assert (beside["generated_text"], beside["reasoning"]) == (text, thoughts)
    shown = _answer(ShownLine.model_validate(line))
    assert (shown["text"], shown["thoughts"], shown.get("thinking")) == (text, thoughts, count)
    assert not {"reasoning", "reasoning_tokens"} & set(shown.get("more", {}))
    return line
