"""`pixano-vlm list`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def test_json_has_every_field(cli: Callable[..., Any]) -> None:
    models = {model["name"]: model for model in json.loads(cli("list", "--json").out)}
    assert models["shapes"]["architecture"] == "idefics3"
    assert models["qwen2.5-vl-7b-instruct"]["path"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert set(models["shapes"]) == {
        "name", "model_class", "path", "architecture", "on_disk", "description", "generation",
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
