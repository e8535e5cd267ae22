"""`pixano-vlm load`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
