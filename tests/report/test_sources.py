"""Prompts on the page of runs that read no JSONL: a folder, images, CSV, Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.report.runs import Folder

ECHO = ("--model", "echo", "--plugin", str(Path(__file__).parents[1] / "cli" / "plugin.py"))
Data = Callable[[Path], dict[str, Any]]


@pytest.fixture
def here(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """An empty folder that is the current one, with two images in `photos`."""
    monkeypatch.chdir(folder.path)
    for name in ("a", "b"):
        folder.image(f"photos/{name}.png", colour={"a": "teal", "b": "red"}[name])
    return folder


def shown(data: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    return [
        (
            record["id"],
            record.get("prompt"),
            [data["images"][n]["name"] for n in record.get("images", [])],
        )
        for record in data["records"]
    ]


@pytest.mark.parametrize(
    "args",
    [
        ("photos", "--prompt", "A {stem}?"),
        ("photos", "--prompt-file", "prompt.txt"),
        ("photos/*.png", "--prompt", "A {stem}?"),
    ],
)
def test_a_folders_prompts_are_filled_in_again(
    cli: Callable[..., Any], here: Folder, data_of: Data, args: tuple[str, ...]
) -> None:
    (here.path / "prompt.txt").write_text("A {stem}?\n")
    assert cli("generate", *args, *ECHO, "-o", "o.jsonl").code == 0
    (here.path / "prompt.txt").write_text("changed since")
    ran = cli("report", "o.jsonl")
    assert (ran.code, ran.err) == (0, "")
    assert shown(data_of(Path("report.html"))) == [
        ("a.png", "A a?", ["a.png"]),
        ("b.png", "A b?", ["b.png"]),
    ]


def test_a_table_brings_its_prompts_or_takes_one(
    cli: Callable[..., Any], here: Folder, data_of: Data
) -> None:
    Path("own.csv").write_text("id,prompt,image\nx,Who?,photos/a.png\ny,Where?,photos/b.png\n")
    Path("one.csv").write_text("id,image,kind\nx,photos/a.png,cat\ny,photos/b.png,dog\n")
    assert cli("generate", "own.csv", *ECHO, "-o", "own.jsonl").code == 0
    assert cli("generate", "one.csv", *ECHO, "--prompt", "A {kind}?", "-o", "one.jsonl").code == 0
    assert cli("report", "own.jsonl").err == ""
    assert [asked for _, asked, _ in shown(data_of(Path("report.html")))] == ["Who?", "Where?"]
    assert cli("report", "one.jsonl").err == ""
    assert [asked for _, asked, _ in shown(data_of(Path("report.html")))] == ["A cat?", "A dog?"]


def test_images_inside_a_parquet_file_are_on_the_page(
    cli: Callable[..., Any], here: Folder, data_of: Data
) -> None:
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    images = [{"bytes": (here.path / f"photos/{n}.png").read_bytes(), "path": None} for n in "ab"]
    parquet.write_table(arrow.table({"image": images, "prompt": ["Who?", "Where?"]}), "t.parquet")
    assert cli("generate", "t.parquet", *ECHO, "-o", "o.jsonl").code == 0
    ran = cli("report", "o.jsonl")
    assert (ran.code, ran.err) == (0, "")
    data = data_of(Path("report.html"))
    assert [record["prompt"] for record in data["records"]] == ["Who?", "Where?"]
    assert [image["thumbnail"] for image in data["images"]] == [0, 1]


def test_a_moved_table_is_found_with_manifest_and_takes_the_runs_prompt(
    cli: Callable[..., Any], here: Folder, data_of: Data
) -> None:
    Path("t.csv").write_text("id,image\nx,photos/a.png\n")
    assert cli("generate", "t.csv", *ECHO, "--prompt", "What?", "-o", "o.jsonl").code == 0
    Path("moved.csv").write_bytes(Path("t.csv").read_bytes())
    Path("t.csv").unlink()
    assert "--manifest" in cli("report", "o.jsonl").err
    assert cli("report", "o.jsonl", "--manifest", "moved.csv").err == ""
    assert [asked for _, asked, _ in shown(data_of(Path("report.html")))] == ["What?"]


def test_the_prompt_is_among_the_runs_properties_and_its_source_is_not(
    cli: Callable[..., Any], here: Folder, data_of: Data
) -> None:
    assert cli("generate", "photos", *ECHO, "--prompt", "A {stem}?", "-o", "o.jsonl").code == 0
    cli("report", "o.jsonl")
    properties = data_of(Path("report.html"))["runs"][0]["properties"]
    assert properties["Prompt"] == "A {stem}?"
    assert "source" not in properties


def test_an_answer_in_json_is_told_from_a_free_one(here: Folder, data_of: Data) -> None:
    from tests.report.runs import answer

    lines = [
        answer("1", '{"a": 1}', parsed={"a": 1}, attempts=2),
        answer("2", '{"a": ', parsed=None, flags=["invalid_json"]),
        answer("3", "free", parsed=None, attempts=1),
    ]
    page, _ = here.report(here.run("a", lines))
    shown = [record["answers"][0] for record in data_of(page)["records"]]
    assert [(one.get("json"), one.get("attempts")) for one in shown] == [
        (True, 2), (None, None), (None, None),
    ]  # fmt: skip
    assert "parsed" not in json.dumps(shown)
