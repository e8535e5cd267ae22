"""Flags on real generations of models with random weights: loops, answers that are cut off, empty ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.batching.workload import load, requests
from tests.tiny import build
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.runs.flags import flags_of

pytestmark = pytest.mark.once

SEEDS = range(4)


def answers(folder: Path, inputs: list[VLMInput]) -> list[tuple[VLMOutput, list[int]]]:
    model = load(folder)
    found: dict[Any, Any] = {}

    def stream(pairs: Any) -> Any:
        for key, answer in model.stream(pairs):
            found[key] = answer
            yield key, answer

    tokens = stream_tokens(model._require().stop, stream, inputs)
    return [(found[number], tokens[number]) for number in range(len(inputs))]


def loops(tokens: list[int]) -> bool:
    """Whether the last 64 tokens are one stretch of up to 16 tokens over and over: found in tokens, not in text."""
    tail = tokens[-64:]
    return len(tail) == 64 and any(tail[period:] == tail[:-period] for period in range(1, 17))


def plain(folder: Path, seed: int) -> Path:
    """A model with the weights that transformers draws by itself: its layers hardly change what they read."""
    build("idefics3", folder)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    model.generation_config = GenerationConfig.from_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def test_greedy_models_of_random_weights_loop_and_are_flagged(tmp_path: Path, pictures: list[Path]) -> None:
    looping = 0
    for seed in SEEDS:
        asked = [
            one.model_copy(update={"max_new_tokens": 200}) for one in requests("idefics3", pictures, 8, seed)
        ]
        for output, tokens in answers(plain(tmp_path / str(seed), seed), asked):
            flags = flags_of(output)
            assert ("cut_off" in flags) == (len(tokens) == 200)
            if loops(tokens) and len(output.generated_text) >= 200:
                looping += 1
                assert "repetition" in flags, output.generated_text[-200:]
    assert looping >= 4


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_that_end_by_themselves_are_not(seed: int, tmp_path: Path, pictures: list[Path]) -> None:
    asked = [
        one.model_copy(update={"max_new_tokens": 200}) for one in requests("idefics3", pictures, 8, seed)
    ]
    ended = [
        flags_of(output)
        for output, tokens in answers(build("idefics3", tmp_path / "model", seed=seed), asked)
        if output.finish_reason == "stop" and output.generated_text and not loops(tokens)
    ]
    assert len(ended) >= 2
    assert set(ended) == {()}


def test_sampled_answers_of_the_same_models_do_not_loop(tmp_path: Path, pictures: list[Path]) -> None:
    folder = build("idefics3", tmp_path / "model")
    sampled = {"temperature": 1.5, "max_new_tokens": 120}
    asked = [
        one.model_copy(update={**sampled, "seed": number})
        for number, one in enumerate(requests("idefics3", pictures, 12, 1))
    ]
    for output, tokens in answers(folder, asked):
        assert not loops(tokens)
        assert flags_of(output) == (("cut_off",) if output.finish_reason == "length" else ())


def test_an_answer_whose_first_token_is_the_end_is_empty(tmp_path: Path, pictures: list[Path]) -> None:
    folder = build("idefics3", tmp_path / "model")
    config = GenerationConfig.from_pretrained(folder)
    vocabulary = AutoConfig.from_pretrained(folder).text_config.vocab_size
    end = config.eos_token_id
    config.suppress_tokens = [token for token in range(vocabulary) if token != end]
    config.save_pretrained(folder)
    for output, tokens in answers(folder, requests("idefics3", pictures, 4)):
        assert tokens == [end]
        assert flags_of(output) == ("empty",)


@pytest.mark.parametrize("tokens", [1, 5])
def test_an_answer_that_is_cut_off_says_so(tokens: int, tmp_path: Path, pictures: list[Path]) -> None:
    folder = build("llava", tmp_path / "model")
    asked = [
        one.model_copy(update={"max_new_tokens": tokens, "seed": 1, "temperature": 1})
        for one in requests("llava", pictures, 6, 2)
    ]
    ended = [
        (output.finish_reason, flags_of(output))
        for output, _ in answers(folder, asked)
        if output.generated_text
    ]
    assert ("length", ("cut_off",)) in ended
    assert all(flags == (("cut_off",) if reason == "length" else ()) for reason, flags in ended)
