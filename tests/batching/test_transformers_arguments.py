"""What the engine passes to transformers' code has the names that the installed release takes.

A rename is found by the test that bears the argument's name, and until the engine has learnt the new one, `generate`
says that the model runs in static batches.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pytest
import transformers
from tests.batching.forwards import OPTIONAL, PASSED, Forwards, installed, read_forwards, renamed
from tests.conformance.table import Table
from transformers import GenerationMixin, Idefics3ForConditionalGeneration

from pixano_vlm.batching.cache_argument import CACHE_NAMES, cache_argument, pass_cache

SAYS = f"transformers {transformers.__version__} has"


@cache
def forwards() -> Forwards:
    return read_forwards(installed())


@cache
def batched() -> set[str]:
    """The types that the table says are batched in flight, of those that this release has."""
    return {name for name, row in Table.read().rows.items() if row.in_flight} & forwards().keys()


@pytest.mark.parametrize("argument", PASSED, ids=lambda names: names if isinstance(names, str) else "cache")
def test_every_class_that_is_batched_in_flight_takes_what_the_engine_passes(
    argument: str | tuple[str, ...],
) -> None:
    sentence = renamed(argument, forwards(), batched())
    assert sentence is None, f"{SAYS} {sentence}; `pixano_vlm.batching` has to learn the new name."


@pytest.mark.parametrize("argument", OPTIONAL)
def test_most_classes_take_what_makes_the_engine_fast(argument: str) -> None:
    takers = {name for name in batched() if argument in forwards()[name]}
    sentence = renamed(argument, forwards(), batched())
    assert len(takers) > len(batched()) * 2 / 3, (
        f"{SAYS} {sentence}; `pixano_vlm.batching` has to learn the new name."
    )


PREPARING = ("input_ids", "attention_mask", "is_first_iteration", CACHE_NAMES)
CALLS = {
    "prepare_inputs_for_generation": PREPARING,
    "_prepare_position_ids_for_generation": ("inputs_tensor", "model_kwargs"),
    "_prepare_special_tokens": ("generation_config", "device"),
    "_get_logits_processor": (
        "generation_config",
        "input_ids_seq_length",
        "encoder_input_ids",
        "prefix_allowed_tokens_fn",
        "logits_processor",
        "device",
        "model_kwargs",
    ),
}
"""What the engine calls besides, and with what."""


@pytest.mark.parametrize(
    ("method", "argument"), [(name, argument) for name, arguments in CALLS.items() for argument in arguments]
)
def test_what_the_engine_calls_is_there_and_takes_what_it_is_given(
    method: str, argument: str | tuple[str, ...]
) -> None:
    function = getattr(GenerationMixin, method, None)
    assert function is not None, f"{SAYS} renamed GenerationMixin.{method}."
    names = {argument} if isinstance(argument, str) else set(argument)
    assert names & inspect.signature(function).parameters.keys(), (
        f"{SAYS} renamed `{argument}` of GenerationMixin.{method}."
    )


class TestPlantedRenames:
    """In a copy of transformers' sources, and in the model that runs."""

    @pytest.fixture
    def copied(self, tmp_path: Path) -> Path:
        """The sources of a few models, in a folder of their own."""
        for name in ("auto", "idefics3", "llava", "qwen3_vl"):
            shutil.copytree(installed() / "models" / name, tmp_path / "models" / name)
        return tmp_path

    @pytest.mark.parametrize(
        "argument", PASSED, ids=lambda names: names if isinstance(names, str) else "cache"
    )
    def test_one_in_a_copy_is_told_with_the_old_name_and_the_new(
        self, argument: str | tuple[str, ...], copied: Path
    ) -> None:
        [old] = {argument} if isinstance(argument, str) else set(argument) & forwards()["llava"]
        auto = copied / "models" / "auto" / "modeling_auto.py"
        kept = re.compile(r'^        \("(?!llava"|idefics3"|qwen3_vl")\w.*$', re.MULTILINE)
        auto.write_text(kept.sub("", auto.read_text(encoding="utf-8")), encoding="utf-8")
        types = set(read_forwards(copied))
        assert types == {"llava", "idefics3", "qwen3_vl"}
        assert renamed(argument, read_forwards(copied), types) is None
        for file in copied.glob("models/*/modeling_[ilq]*.py"):
            source = file.read_text(encoding="utf-8")
            file.write_text(re.sub(rf"\b{old}\b", "called_otherwise", source), encoding="utf-8")
        sentence = renamed(argument, read_forwards(copied), types)
        assert sentence is not None
        assert f"`{old}`" in sentence
        assert "`called_otherwise`" in sentence
        assert "3 of 3 classes" in sentence

    @pytest.mark.parametrize(
        "argument", PASSED, ids=lambda names: names if isinstance(names, str) else "cache"
    )
    def test_generate_says_that_it_falls_back_and_answers_the_same(
        self,
        argument: str | tuple[str, ...],
        cli: Callable[..., Any],
        repository: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked = (
            "generate",
            repository / "examples/shapes/manifest.jsonl",
            "--model",
            "shapes",
            "--limit",
            "3",
        )
        before = cli(*asked, "-o", tmp_path / "before.jsonl")
        assert before.code == 0
        assert "static" not in before.err
        plant_rename(monkeypatch, argument)
        after = cli(*asked, "-o", tmp_path / "after.jsonl")
        assert after.code == 0, after.err
        [line] = [line for line in after.err.splitlines() if "static" in line]
        assert line.startswith("shapes runs in static batches")
        assert line.endswith(
            f"its forward takes no {' or '.join([argument] if isinstance(argument, str) else argument)}"
        )
        assert answers(tmp_path / "after.jsonl") == answers(tmp_path / "before.jsonl")

    def test_load_says_it_too_and_quiet_runs_do_not(
        self, cli: Callable[..., Any], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert cli("load", "shapes").err == ""
        plant_rename(monkeypatch, CACHE_NAMES)
        loaded = cli("load", "shapes", "--json")
        assert "shapes runs in static batches" in loaded.err
        assert json.loads(loaded.out)["continuous_batching"] is False
        manifest = repository / "examples/shapes/manifest.jsonl"
        output = tmp_path / "o.jsonl"
        quiet = cli("generate", manifest, "--model", "shapes", "--limit", "1", "-o", output, "-q")
        assert (quiet.code, quiet.err) == (0, "")


def plant_rename(monkeypatch: pytest.MonkeyPatch, argument: str | tuple[str, ...]) -> None:
    """An argument of the embedded model's `forward` is called otherwise; the rest of transformers knows it."""
    forward = Idefics3ForConditionalGeneration.forward
    signature = inspect.signature(forward)
    [old] = {argument} if isinstance(argument, str) else set(argument) & signature.parameters.keys()

    @wraps(forward)
    def new(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    parameters = [
        parameter.replace(name="called_otherwise") if name == old else parameter
        for name, parameter in signature.parameters.items()
    ]
    new.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    monkeypatch.setattr(Idefics3ForConditionalGeneration, "forward", new)


def answers(output: Path) -> list[str]:
    return [json.loads(line)["generated_text"] for line in output.read_text(encoding="utf-8").splitlines()]


def test_the_embedded_model_is_batched_continuously_with_shared_prefixes(cli: Callable[..., Any]) -> None:
    facts = json.loads(cli("load", "shapes", "--json").out)
    assert facts["engine"].startswith("continuous batching, images encoded once, shared prefixes")
    assert facts["continuous_batching"] is True


@pytest.mark.parametrize("name", CACHE_NAMES)
def test_the_cache_is_passed_by_the_name_that_each_callable_takes(name: str) -> None:
    taking: dict[str, Callable[..., None]] = {
        "cache": lambda input_ids, cache=None: None,
        "past_key_values": lambda input_ids, past_key_values=None: None,
    }
    assert cache_argument(taking[name]) == name
    for other in CACHE_NAMES:
        assert pass_cache({"input_ids": 1, other: 2, "use_cache": True}, name) == {
            "input_ids": 1,
            name: 2,
            "use_cache": True,
        }


def test_a_callable_without_a_cache_takes_none() -> None:
    assert cache_argument(lambda input_ids, use_cache, **kwargs: None) is None


def test_one_file_alone_spells_the_name_of_the_cache(repository: Path) -> None:
    spelling = [
        file.relative_to(repository).as_posix()
        for file in (repository / "src").rglob("*.py")
        if "past_key_values" in file.read_text(encoding="utf-8")
    ]
    assert spelling == ["src/pixano_vlm/batching/cache_argument.py"]
