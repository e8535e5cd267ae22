"""The run file says what was run, and tells no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pixano_vlm.outputs.run_file import RunFile, redacted, run_file_path
from pixano_vlm.runs.summary import Summary


def write(output: Path, **options: Any) -> dict[str, Any]:
    facts = {
        "command": ["pixano-vlm", "generate"],
        "model": {"name": "m"},
        "settings": {},
        "manifest": "m.jsonl",
    }
    run = RunFile(output, **{**facts, **options})
    run.write()
    run.describe({"device": "cpu", "dtype": "float32"})
    run.end(Summary(ok=3).to_dict(), "complete")
    return json.loads(run_file_path(output).read_text())


def test_it_names_versions_model_and_counts(tmp_path: Path) -> None:
    facts = write(tmp_path / "o.jsonl")
    assert facts["model"] == {"name": "m", "device": "cpu", "dtype": "float32"}
    assert facts["summary"]["ok"] == 3
    assert facts["ended"] == "complete"
    assert facts["start"] <= facts["end"]
    assert {"python", "pixano-vlm", "transformers"} <= facts["versions"].keys()


def test_a_resumed_run_keeps_what_was_run_before(tmp_path: Path) -> None:
    write(tmp_path / "o.jsonl", command=["first"])
    write(tmp_path / "o.jsonl", command=["second"], resumed=True)
    facts = write(tmp_path / "o.jsonl", command=["third"], resumed=True)
    assert [run["command"] for run in facts["earlier"]] == [["first"], ["second"]]
    assert "earlier" not in facts["earlier"][1]


@pytest.mark.parametrize(
    "command",
    [
        ["--api-key", "SECRET"],
        ["--api-key=SECRET"],
        ["--token", "SECRET"],
        ["--hf-token=SECRET"],
        ["--password", "SECRET"],
        ["--base-url", "https://user:SECRET@host/v1"],
        ["--model", "hf_SECRETSECRET"],
        ["--header", "sk-SECRETSECRET"],
    ],
)
def test_no_secret_of_the_command_line_is_kept(tmp_path: Path, command: list[str]) -> None:
    assert "SECRET" not in " ".join(redacted(command))
    model = {
        "params": {"api_key": "SECRET", "nested": [{"auth_token": "SECRET"}], "url": "http://u:SECRET@h/"}
    }
    write(tmp_path / "o.jsonl", command=command, model=model)
    assert "SECRET" not in run_file_path(tmp_path / "o.jsonl").read_text()


def test_a_models_special_tokens_are_not_secrets(tmp_path: Path) -> None:
    facts = write(tmp_path / "o.jsonl", model={"name": "m", "image_token": "<image>", "context_length": 5})
    assert facts["model"]["image_token"] == "<image>"


def test_ordinary_flags_are_kept() -> None:
    command = ["generate", "m.jsonl", "--max-new-tokens", "5", "--max-prompt-tokens=9", "--seed", "1"]
    assert redacted(command) == command
