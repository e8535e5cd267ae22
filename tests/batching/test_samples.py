"""Several samples of a record: each is the one drawn alone with its seed, and their prompt is computed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.batching.schemas import SCHEMAS
from tests.batching.workload import requests

from pixano_vlm.batching.kv_cache import SlotCache
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import PromptError
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.models.samples import sample_inputs, vote
from pixano_vlm.models.vlm import Sample

pytestmark = pytest.mark.once

Open = Callable[..., TransformersVLMModel]


def inputs_of(name: str, pictures: list[Path], count: int = 6) -> list[VLMInput]:
    """Records of different lengths, every other of several samples."""
    made = []
    for number, input in enumerate(requests(name, pictures, count, longest=60)):
        n = 1 + number % 2 * (2 + number)
        changes = {"n": n, "temperature": 1.2, "seed": number, "logprobs": True, "max_new_tokens": 12}
        made.append(input.model_copy(update=changes))
    return made


def answers(model: TransformersVLMModel, inputs: list[VLMInput]) -> list[VLMOutput]:
    found: dict[int, Any] = dict(model.stream(enumerate(inputs)))
    assert all(isinstance(answer, VLMOutput) for answer in found.values()), found
    return [found[number] for number in range(len(inputs))]


def said(one: VLMOutput | Sample) -> tuple[Any, ...]:
    """Everything of an answer that a token more, less or other would change."""
    tokens = [entry["token"] for entry in (one.logprobs or {"content": []})["content"]]
    return one.generated_text, tokens, one.usage, one.finish_reason, one.parsed


def assert_drawn_alone(
    model: TransformersVLMModel, inputs: list[VLMInput], alone: TransformersVLMModel
) -> None:
    for input, answer in zip(inputs, answers(model, inputs), strict=True):
        drawn = [alone.predict(one) for one in sample_inputs(input)]
        if len(drawn) == 1:
            assert said(answer) == said(drawn[0])
            assert answer.samples is None
            continue
        assert [said(one) for one in answer.samples or []] == [said(one) for one in drawn]
        assert answer.generated_text == vote(input, drawn).generated_text
        assert answer.agreement == vote(input, drawn).agreement


@pytest.mark.parametrize("rows", [1, 4, 32])
@pytest.mark.parametrize("name", ["idefics3", "gemma3", "qwen3_5"])
def test_each_sample_is_the_one_that_is_drawn_alone_with_its_seed(
    name: str, rows: int, open_model: Open, pictures: list[Path]
) -> None:
    model = open_model(name, max_batch_size=rows)
    assert_drawn_alone(model, inputs_of(name, pictures), open_model(name, max_batch_size=1))


@pytest.mark.parametrize("params", [{"prefix_cache_bytes": 0, "image_cache_bytes": 0}, {"engine": "static"}])
def test_so_it_is_without_caches_and_in_static_batches(
    params: dict[str, Any], open_model: Open, pictures: list[Path]
) -> None:
    model = open_model("idefics3", max_batch_size=4, **params)
    alone = open_model("idefics3", **{**params, "max_batch_size": 1})
    assert_drawn_alone(model, inputs_of("idefics3", pictures, 4), alone)


def test_samples_of_answers_in_json_each_follow_the_schema_from_its_beginning(open_model: Open) -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": SCHEMAS["array with bounds"]}}
    settings = {"temperature": 2.0, "seed": 3, "n": 5, "response_format": schema, "max_new_tokens": 40}
    input = VLMInput(prompt="Tell.", **settings)  # type: ignore[arg-type]
    model = open_model("idefics3", max_batch_size=4)
    assert_drawn_alone(model, [input], model)
    (answer,) = answers(model, [input])
    assert all(isinstance(sample.parsed, list) for sample in answer.samples or [])
    assert len({sample.generated_text for sample in answer.samples or []}) > 1


def test_a_prompt_is_computed_once_for_all_samples(open_model: Open, pictures: list[Path]) -> None:
    model = open_model("idefics3", max_batch_size=4, prefix_cache_bytes=0)
    input = requests("idefics3", pictures, 1, longest=60)[0].model_copy(
        update={"temperature": 1.0, "seed": 1}
    )
    computed = []
    for n in (None, 3, 11):  # 11: more than there are rows
        answers(model, [input.model_copy(update={"n": n})])
        assert model.stats is not None
        computed.append((model.stats.prefill_tokens, model.stats.prefill_calls))
    assert computed[0] == computed[1] == computed[2]


@pytest.mark.parametrize("name", ["idefics3", "qwen3_5"])
def test_where_memory_runs_out_over_the_copies_they_are_computed_instead(
    name: str, open_model: Open, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(name, max_batch_size=4)
    inputs = inputs_of(name, pictures, 2)
    expected = [said(one) for one in answers(model, inputs)[1].samples or []]
    for method in ("read_row", "write_row"):
        calls = []

        def fails(*args: Any, calls: list[int] = calls) -> None:
            calls.append(1)
            raise torch.OutOfMemoryError("forced")

        with monkeypatch.context() as patched:
            patched.setattr(SlotCache, method, fails)
            assert [said(one) for one in answers(model, inputs)[1].samples or []] == expected
        assert calls, method


def test_nothing_of_a_prompt_is_kept_once_all_samples_have_it(
    open_model: Open, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixano_vlm.batching.sequence import PromptCopy

    made: list[PromptCopy] = []
    begin = PromptCopy.__init__

    def noted(self: PromptCopy, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(PromptCopy, "__init__", noted)
    answers(open_model("idefics3", max_batch_size=2), inputs_of("idefics3", pictures))
    assert len(made) == 3
    assert all(copy.states is None and copy.logits is None and not copy.missing for copy in made)


@pytest.mark.parametrize("params", [{}, {"engine": "static"}])
@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"temperature": 0.0}, "n is 3 at temperature 0"),
        ({"choices": ["a", "b"]}, "n is 3, and the answer is one of"),
    ],
)
def test_samples_that_could_not_differ_are_refused(
    settings: dict[str, Any], wrong: str, params: dict[str, Any], open_model: Open
) -> None:
    given = {"prompt": "a", "max_new_tokens": 4, "temperature": 1.0, "n": 3, **settings}
    model = open_model("idefics3", **params)
    answered = dict(model.stream([(0, VLMInput(**given)), (1, VLMInput(prompt="b", max_new_tokens=2))]))
    assert isinstance(answered[0], PromptError)
    assert wrong in str(answered[0])
    assert isinstance(answered[1], VLMOutput)
