"""Confidence: what one plain forward pass over prompt and answer gives, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.batching.likelihoods import confidence, plain_logs
from tests.batching.schemas import asked_of_all
from tests.batching.workload import load, requests

from pixano_vlm.batching.likelihood import LogLikelihoods, geometric_mean
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.shapes import MODEL_DIR

pytestmark = pytest.mark.once

Open = Callable[..., TransformersVLMModel]
NO_CACHES = {"image_cache_bytes": 0, "prefix_cache_bytes": 0}


def mixed(name: str, pictures: list[Path], count: int = 8) -> list[VLMInput]:
    """Free records, greedy and sampled, some with penalties, among others under schemas."""
    free = requests(name, pictures, count)
    for number, input in enumerate(free):
        if number % 2:
            input.temperature, input.seed, input.top_p = 1.5, number, 0.9
        if number % 4 == 2:
            input.repetition_penalty = 1.3
    schemas = asked_of_all(pictures, count)
    return [input for pair in zip(free, schemas, strict=True) for input in pair]


def answers(model: TransformersVLMModel, inputs: list[VLMInput]) -> list[tuple[VLMOutput, list[int]]]:
    """Each input's answer with its tokens."""
    with model._require().stop.recording() as tokens:
        outputs: dict[int, Any] = dict(model.stream(enumerate(inputs)))
    return [(outputs[number], tokens[number]) for number in range(len(inputs))]


def assert_plain(model: TransformersVLMModel, plain: TransformersVLMModel, inputs: list[VLMInput]) -> None:
    for input, (output, tokens) in zip(inputs, answers(model, inputs), strict=True):
        assert output.confidence == pytest.approx(confidence(plain_logs(plain, input, tokens)), abs=1e-5)


@pytest.mark.parametrize("rows", [1, 4, 32])
@pytest.mark.parametrize("name", ["idefics3", "llava", "gemma3"])
def test_it_is_that_of_a_plain_forward_pass_in_a_batch_of_any_size(
    name: str, rows: int, open_model: Open, pictures: list[Path]
) -> None:
    model = open_model(name, max_batch_size=rows)
    assert_plain(model, open_model(name), mixed(name, pictures))


@pytest.mark.parametrize("params", [NO_CACHES, {"engine": "static"}])
def test_it_is_the_same_without_caches_and_in_static_batches(
    params: dict[str, Any], open_model: Open, pictures: list[Path]
) -> None:
    assert_plain(open_model("idefics3", **params), open_model("idefics3"), mixed("idefics3", pictures))


def test_it_is_that_of_the_decoder_where_an_encoder_reads_the_prompt(
    open_model: Open, pictures: list[Path]
) -> None:
    model = open_model("florence2")
    assert_plain(model, model, requests("florence2", pictures, 4))


def test_the_embedded_models_answers_have_it_with_their_end(pictures: list[Path]) -> None:
    model = load(MODEL_DIR)
    asked = [
        VLMInput(prompt="What colour is the star?", images=[pictures[0]], max_new_tokens=16, temperature=0),
        VLMInput(prompt="Describe the picture.", images=[pictures[1]], max_new_tokens=3, temperature=0),
        *asked_of_all(pictures, 3),
    ]
    assert_plain(model, model, asked)
    [(ended, tokens), (cut_off, _), *_] = answers(model, asked)
    assert (ended.finish_reason, cut_off.finish_reason) == ("stop", "length")
    assert tokens[-1] in model._require().stop.end_ids


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_computed_in_float32_whatever_the_models_dtype(dtype: torch.dtype) -> None:
    logits = (torch.randn(3, 200_000, generator=torch.Generator().manual_seed(0)) * 4).to(dtype)
    found = LogLikelihoods(logits, logits.amax(dim=-1)).of([0, 1, 2], [5, 6, 7])
    expected = logits.double().log_softmax(-1)[[0, 1, 2], [5, 6, 7]].tolist()
    assert found == pytest.approx(expected, abs=1e-5)


def test_nothing_has_no_mean_and_no_mean_is_above_1() -> None:
    assert geometric_mean([]) is None
    assert geometric_mean([1e-9]) == 1.0
    assert geometric_mean([0.0, -1.3862943611]) == 0.5


@pytest.mark.parametrize("engine", ["in-flight", "static"])
def test_tokens_are_written_with_their_likeliest_alternatives(
    engine: str, open_model: Open, pictures: list[Path]
) -> None:
    model = open_model("idefics3", engine=engine)
    inputs = [input.model_copy(update={"top_logprobs": 3}) for input in mixed("idefics3", pictures, 3)]
    for input, (output, tokens) in zip(inputs, answers(model, inputs), strict=True):
        assert output.logprobs is not None
        content = output.logprobs["content"]
        logs = plain_logs(open_model("idefics3"), input, tokens)
        assert [entry["logprob"] for entry in content] == pytest.approx(logs, abs=1e-4)
        for entry in content:
            others = [other["logprob"] for other in entry["top_logprobs"]]
            assert len(others) == 3 or input.response_format is not None
            assert others == sorted(others, reverse=True)
            assert max(others) >= entry["logprob"] - 1e-4


def test_without_alternatives_only_the_tokens_are_written(open_model: Open, pictures: list[Path]) -> None:
    [asked] = requests("idefics3", pictures, 1)
    model = open_model("idefics3")
    plain, told, refused = (
        model.predict(asked.model_copy(update=update))
        for update in ({}, {"logprobs": True}, {"logprobs": False, "top_logprobs": 2})
    )
    assert plain.logprobs is refused.logprobs is None
    assert told.logprobs is not None
    assert {tuple(entry["top_logprobs"]) for entry in told.logprobs["content"]} == {()}
