"""`pixano-vlm list`."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixano_vlm.catalog import load_catalog
from pixano_vlm.cli.list import list_models

PLUGIN = Path(__file__).parent / "plugin.py"


def test_the_table_goes_to_standard_output_one_model_a_line(cli: Callable[..., Any]) -> None:
    ran = cli("list")
    assert ran.code == 0
    assert ran.err == ""
    header, *rows = ran.out.splitlines()
    assert header.split()[:3] == ["name", "class", "path"]
    assert len(rows) >= 25
    (shapes,) = [row for row in rows if row.startswith("shapes ")]
    assert "TransformersVLMModel  package:pixano_vlm.shapes/model" in shapes
    assert "4 MB" in shapes
    assert "Apache-2.0" in shapes


def test_json_has_every_field(cli: Callable[..., Any]) -> None:
    models = {model["name"]: model for model in json.loads(cli("list", "--json").out)}
    assert models["shapes"]["architecture"] == "idefics3"
    seven = models["qwen2.5-vl-7b-instruct"]
    assert seven["path"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert seven["memory_gb"] == 2 * seven["parameters"]
    assert seven["license"] == "Apache-2.0"
    assert set(models["shapes"]) == {
        "name", "model_class", "path", "architecture", "parameters", "memory_gb", "license", "on_disk",
        "description", "generation", "gated",
    }  # fmt: skip


def test_a_config_files_models_are_listed_too(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("models: [{name: mine, description: '[bold]my own[/bold]', model_params: {path: a/b}}]")
    assert "[bold]my own[/bold]" in cli("list", "--config", file).out


def test_a_plugins_classes_are_listed_as_models(cli: Callable[..., Any]) -> None:
    names = {model["name"] for model in json.loads(cli("list", "--json", "--plugin", PLUGIN).out)}
    assert {"echo", "broken"} <= names
    assert "TransformersVLMModel" not in names


def test_a_wrong_config_is_one_message_and_exit_2(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("models: [{nam: mine}]")
    ran = cli("list", "--config", file)
    assert ran.code == 2
    assert ran.out == ""
    assert f"{file}:1:" in ran.err
    assert "Traceback" not in ran.err


def names(printed: str) -> list[str]:
    return [model["name"] for model in json.loads(printed)]


def test_a_word_shows_the_models_that_have_it_in_any_letter_case(cli: Callable[..., Any]) -> None:
    shown = names(cli("list", "QWEN3-vl", "--json").out)
    assert len(shown) >= 3
    assert all(name.startswith("qwen3-vl") for name in shown)


def test_of_several_words_a_model_has_each(cli: Callable[..., Any]) -> None:
    assert names(cli("list", "qwen", "4b", "documents", "--json").out) == [
        "qwen3-vl-4b-instruct", "qwen3.5-4b",
    ]  # fmt: skip


def test_a_word_that_no_model_has_exits_2_with_the_nearest(cli: Callable[..., Any]) -> None:
    ran = cli("list", "qwn")
    assert ran.code == 2
    assert ran.out == ""
    assert "no registered model matches 'qwn'" in ran.err
    assert "Did you mean 'qwen" in ran.err
    assert "`pixano-vlm list` shows them all" in ran.err


@pytest.mark.parametrize("width", [72, 80, 109, 110, 120, 200])
def test_on_a_terminal_nothing_is_wider_than_it_and_no_name_is_cut(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = drawn(width, monkeypatch)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    for model in load_catalog():
        assert model.name in shown
    assert "TransformersVLMModel" not in shown, "that is for programs"


def test_a_narrow_terminal_has_the_description_below_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(80, monkeypatch).splitlines()
    (row,) = [index for index, line in enumerate(lines) if line.startswith("qwen3-vl-4b-instruct ")]
    assert lines[row].split()[1:] == ["8.8", "GB", "no", "Apache-2.0"]
    assert lines[row + 1].strip() == "Questions, documents, locating things. Needs torchvision."


def drawn(width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal of that width without colours shows."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", screen)
    list_models()
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())


def test_a_gated_model_is_marked(cli: Callable[..., Any]) -> None:
    models = {model["name"]: model for model in json.loads(cli("list", "--json").out)}
    assert models["gemma-3-4b-it"]["gated"]
    assert not models["shapes"]["gated"]
    (row,) = [row for row in cli("list", "gemma-3-4b").out.splitlines() if row.startswith("gemma-3-4b-it ")]
    assert "Gemma Terms of Use, gated" in row
