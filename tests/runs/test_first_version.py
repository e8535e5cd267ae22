"""Runs of the first version that was whole (commit 2c17147) are resumed by this one with nothing asked again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pixano_vlm.cli import app

KEPT = Path(__file__).parent / "first_version"
IMAGES = Path(__file__).parents[2] / "examples" / "shapes" / "images"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kept files as they were, with the images that they name, in a folder of another name."""
    folder = tmp_path / "runs"
    shutil.copytree(KEPT, folder)
    shutil.copytree(IMAGES, folder / "images")
    for name in ("001.jpg", "002.jpg", "003.jpg"):
        shutil.copy(IMAGES / name, folder / "folder" / name)
    monkeypatch.chdir(folder)
    return folder


def lines(output: Path) -> list[dict[str, Any]]:
    """Those of an output. The first version did not list the images that are in messages: they are left out."""
    found = [json.loads(line) for line in output.read_text().splitlines()]
    return [{**line, "images": None if line["id"] == "chat" else line["images"]} for line in found]


def resume(*args: str) -> int:
    command = ["generate", "--plugin", "model.py", "--model", "first-version", "--resume", "-q", *args]
    return CliRunner().invoke(app, command).exit_code


@pytest.mark.parametrize(
    ("args", "output", "code"),
    [
        (["finished.jsonl"], "finished.outputs.jsonl", 0),
        (["every_kind.jsonl"], "every_kind.outputs.jsonl", 1),
        (
            ["folder", "--prompt", "What is in the picture?", "--sidecar", "txt"],
            "folder.outputs.jsonl",
            0,
        ),
        (["table.csv", "-o", "table.outputs.jsonl", "-o", "answers.csv"], "table.outputs.jsonl", 0),
    ],
)
def test_a_finished_run_is_resumed_with_nothing_asked_again(
    runs: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], output: str, code: int
) -> None:
    before = lines(runs / output)
    if args[0] == "table.csv":  # the ids of its rows are their numbers now, where they were their lines
        before = [{**line, "id": str(int(line["id"]) - 1)} for line in before]
    monkeypatch.setenv("ASK_NOTHING", "1")
    assert resume(*args, *([] if "-o" in args else ["-o", output])) == code
    assert lines(runs / output) == before


def test_an_interrupted_run_is_resumed_with_only_the_rest_asked(runs: Path) -> None:
    before = lines(runs / "interrupted.outputs.jsonl")
    assert resume("interrupted.jsonl", "-o", "interrupted.outputs.jsonl") == 1
    after = lines(runs / "interrupted.outputs.jsonl")
    assert after[:14] == before
    assert [line["id"] for line in after[14:]] == ["missing", "chat"]
    facts = json.loads((runs / "interrupted.outputs.jsonl.run.json").read_text())
    assert (facts["summary"]["reused"], facts["summary"]["ok"], facts["summary"]["failed"]) == (14, 1, 1)
