"""`--adapter`: which class takes one, and what it makes of a run that exists."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

PLUGIN = ("--plugin", str(Path(__file__).parent / "plugin.py"))

ADAPTED = """
from pydantic import BaseModel

from pixano_vlm.models import UsageInfo, VLMModel, VLMOutput, register_model


class Params(BaseModel):
    path: str = ""
    adapter: str | None = None


@register_model("adapted")
class Adapted(VLMModel):
    params_class = Params

    def load_model(self):
        self.adapter = self.config.model_params.get("adapter")

    def predict(self, input):
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=f"{input.prompt} by {self.adapter}", usage=usage, finish_reason="stop")

    def fingerprint(self):
        return f"adapted:{self.config.model_params.get('adapter')}"

    def describe(self):
        return {"class": "adapted", "adapter": self.adapter}
"""


@pytest.fixture
def adapted(tmp_path: Path) -> tuple[str, str]:
    """The flags that register a class with adapters."""
    file = tmp_path / "adapted.py"
    file.write_text(ADAPTED, encoding="utf-8")
    return "--plugin", str(file)


@pytest.mark.parametrize("command", [("load",), ("generate", "m.jsonl", "--model")])
def test_a_class_that_would_leave_it_out_refuses_it(command: Sequence[str], cli: Callable[..., Any]) -> None:
    ran = cli(*command, "echo", *PLUGIN, "--adapter", "lora")
    assert ran.code == 2
    assert "--adapter: the class of model 'echo', echo, puts no adapter on a model." in ran.err
    assert "Leave it out" in ran.err


@pytest.mark.parametrize("name", ["OpenAIVLMModel", "VLLMVLMModel"])
def test_so_do_engines_without_adapters(name: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "served.yaml"
    file.write_text(f"models: [{{name: served, model_class: {name}, model_params: {{path: a/b}}}}]")
    ran = cli("load", "served", "--config", file, "--adapter", "lora")
    assert ran.code == 2
    assert f"{name}, puts no adapter" in ran.err


def test_one_with_adapters_gets_it(adapted: tuple[str, str], cli: Callable[..., Any]) -> None:
    assert (
        json.loads(cli("load", "adapted", *adapted, "--adapter", "lora", "--json").out)["adapter"] == "lora"
    )


def test_a_record_done_under_another_adapter_is_not_done(
    adapted: tuple[str, str],
    cli: Callable[..., Any],
    tmp_path: Path,
    write_lines: Callable[[str, Sequence[str]], Path],
) -> None:
    manifest = write_lines("m.jsonl", ['{"prompt": "a"}', '{"prompt": "b"}'])
    output, summary = tmp_path / "o.jsonl", tmp_path / "s.json"

    def run(*flags: str) -> tuple[int, list[str]]:
        ran = cli(
            "generate",
            manifest,
            "--model",
            "adapted",
            *adapted,
            "-o",
            output,
            "--summary-json",
            summary,
            *flags,
        )
        assert ran.code == 0, ran.err
        texts = [json.loads(line)["generated_text"] for line in output.read_text().splitlines()]
        return json.loads(summary.read_text())["reused"], texts

    assert run("--adapter", "one") == (0, ["a by one", "b by one"])
    assert json.loads(output.with_name("o.jsonl.run.json").read_text())["model"]["model_params"] == {
        "adapter": "one"
    }
    assert run("--adapter", "one", "--resume") == (2, ["a by one", "b by one"])
    assert run("--adapter", "two", "--resume") == (0, ["a by two", "b by two"])
    assert run("--resume") == (0, ["a by None", "b by None"])
