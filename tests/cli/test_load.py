"""`pixano-vlm load`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.embedded import copy_checkpoint

PLUGIN = ("--plugin", str(Path(__file__).parent / "plugin.py"))


def test_it_tells_what_the_model_says_of_itself(cli: Callable[..., Any]) -> None:
    ran = cli("load", "echo", *PLUGIN)
    assert ran.code == 0
    rows = dict(line.split(maxsplit=1) for line in ran.out.splitlines()[:4])
    assert rows["name"] == "echo"
    assert rows["parameters"] == "1,234,567"
    assert "load seconds" in ran.out


def test_json_is_one_object(cli: Callable[..., Any]) -> None:
    facts = json.loads(cli("load", "echo", "--json", *PLUGIN).out)
    assert facts["parameters"] == 1234567
    assert facts["load_seconds"] >= 0


def test_a_device_goes_to_the_class_as_a_parameter(cli: Callable[..., Any]) -> None:
    assert json.loads(cli("load", "echo", "--device", "cuda:1", "--json", *PLUGIN).out)["device"] == "cuda:1"


def test_an_unknown_model_exits_2_and_says_what_to_do(cli: Callable[..., Any]) -> None:
    ran = cli("load", "nope")
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: there is no model 'nope'.\n")
    assert "--config" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("unloadable", "error: the weights are missing.\nhint: Fetch them\n"),
        ("broken", "error: model 'broken' cannot be loaded: Broken.load_model failed: "),
    ],
)
def test_a_model_that_does_not_load_exits_3(cli: Callable[..., Any], model: str, said: str) -> None:
    ran = cli("load", model, *PLUGIN)
    assert ran.code == 3
    assert said in ran.err
    assert "Traceback" not in ran.err


class TestVerify:
    def test_equal_tokens_exit_0(self, cli: Callable[..., Any]) -> None:
        ran = cli("load", "verified", "--verify", *PLUGIN)
        assert ran.code == 0
        assert "same tokens" in ran.out

    def test_different_tokens_exit_1(self, cli: Callable[..., Any]) -> None:
        ran = cli("load", "unequal", "--verify", "--json", *PLUGIN)
        assert ran.code == 1
        assert json.loads(ran.out)["verify"]["same tokens"] == 7

    def test_a_class_without_it_says_so(self, cli: Callable[..., Any]) -> None:
        ran = cli("load", "echo", "--verify", *PLUGIN)
        assert ran.code == 2
        assert "has no --verify" in ran.err


class TestWhatDecidesAnswers:
    def test_it_is_printed(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        folder = copy_checkpoint(tmp_path / "m", generation_config={"eos_token_id": 0, "max_time": 5.0})
        ran = cli("load", folder, "--json")
        facts = json.loads(ran.out)
        assert facts["chat_template"] == "chat_template.jinja"
        assert facts["content_style"] == "string or list"
        assert facts["end_tokens"].endswith("they differ")
        assert facts["special_tokens_kept"] == "none"
        assert facts["generation_defaults"] == "not heeded: max_time 5.0"
        assert ran.err.count("warning:") == 1
        assert "max_time 5.0" in ran.err

    def test_a_missing_template_is_one_warning_and_fails_the_check(
        self, cli: Callable[..., Any], tmp_path: Path
    ) -> None:
        ran = cli("load", copy_checkpoint(tmp_path / "m", None), "--verify", "--json")
        assert ran.code == 1
        assert ran.err.count("warning: the checkpoint has no chat template") == 1
        assert json.loads(ran.out)["verify"]["ok"] is False

    def test_a_sound_checkpoint_passes(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        ran = cli("load", copy_checkpoint(tmp_path / "m"), "--verify", "--json")
        assert ran.code == 0
        assert "a tool turn 2" in json.loads(ran.out)["verify"]["prompts"]

    def test_a_run_warns_once(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        folder = copy_checkpoint(tmp_path / "m", generation_config={"num_beams": 4})
        manifest = tmp_path / "in.jsonl"
        manifest.write_text('{"prompt": "a"}\n{"prompt": "b"}\n', encoding="utf-8")
        ran = cli("generate", manifest, "--model", folder, "-o", tmp_path / "out.jsonl", "--temperature", "0")
        assert ran.code == 0
        assert ran.err.count("warning: ") == 1


class TestShowPrompt:
    RECORD = '{\n "prompt": "What do you\\nsee?",\n "images": ["a.png"]\n}\n'

    @pytest.fixture
    def record(self, tmp_path: Path) -> Path:
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        (tmp_path / "record.json").write_text(self.RECORD, encoding="utf-8")
        return tmp_path / "record.json"

    def test_it_prints_the_text_and_the_token_ids(self, cli: Callable[..., Any], record: Path) -> None:
        ran = cli("load", "shapes", "--show-prompt", record)
        assert ran.code == 0
        assert "<|im_start|>User:<image>What do you\nsee?<end_of_utterance>\nAssistant:\n" in ran.out
        ids = ran.out.rpartition("token ids\n")[2].split()
        assert f"prompt, {len(ids)} tokens" in ran.out

    def test_as_json_they_are_two_keys(self, cli: Callable[..., Any], record: Path) -> None:
        held = json.loads(cli("load", "shapes", "--show-prompt", record, "--json").out)
        assert held["prompt"].startswith("<|im_start|>User:<image>")
        assert held["token_ids"].count(4) == 16

    @pytest.mark.parametrize(
        ("text", "said"),
        [("{}", "there is no prompt"), ("nothing", "not JSON"), ("", "holds no record")],
    )
    def test_a_wrong_record_is_an_error(
        self, cli: Callable[..., Any], tmp_path: Path, text: str, said: str
    ) -> None:
        (tmp_path / "record.json").write_text(text, encoding="utf-8")
        ran = cli("load", "shapes", "--show-prompt", tmp_path / "record.json")
        assert ran.code != 0
        assert said in ran.err
        assert "Traceback" not in ran.err

    def test_a_class_without_it_says_so(self, cli: Callable[..., Any], record: Path) -> None:
        ran = cli("load", "echo", "--show-prompt", record, *PLUGIN)
        assert ran.code == 2
        assert "shows no prompts" in ran.err
