"""Presence and frequency penalties are OpenAI's, count the answer alone, and are the same alone and in a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pixano_vlm.batching.penalties import Penalties
from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import VLMInput


def test_a_score_loses_once_for_presence_and_each_time_for_frequency() -> None:
    scores = torch.zeros(2, 4)
    seen = torch.tensor([[1, 1, 2, 2, 3], [1, 1, 0, 0, 0]])
    after = Penalties(presence=1.0, frequency=0.5, start=2)(seen, scores)
    assert after.tolist() == [[0.0, 0.0, -2.0, -1.5], [-2.5, 0.0, 0.0, 0.0]]
    assert scores.eq(0).all()


def test_before_the_first_new_token_nothing_changes() -> None:
    scores = torch.randn(1, 5)
    assert Penalties(1.0, 1.0)(torch.tensor([[1, 2, 3]]), scores) is scores


def inputs(**settings: Any) -> list[VLMInput]:
    return [
        VLMInput(prompt=f"tell me {word}", max_new_tokens=40, temperature=0, **settings)
        for word in ("more", "less", "nothing at all")
    ]


def tokens(model: TransformersVLMModel, asked: list[VLMInput]) -> list[list[int]]:
    found = stream_tokens(model._require().stop, model.stream, asked)
    return [found[place] for place in range(len(asked))]


@pytest.mark.parametrize(("setting", "value"), [("presence_penalty", 2.0), ("frequency_penalty", 2.0)])
def test_an_answer_repeats_itself_less_and_is_the_same_in_both_engines_and_alone(
    setting: str, value: float, open_model: Callable[..., TransformersVLMModel]
) -> None:
    in_flight, static = open_model("idefics3", max_batch_size=4), open_model("idefics3", engine="static")
    plain, penalized = inputs(), inputs(**{setting: value})
    mixed = tokens(in_flight, [*plain, *penalized])
    before, after = mixed[:3], mixed[3:]
    assert tokens(static, penalized) == after
    assert [tokens(in_flight, [input])[0] for input in penalized] == after
    assert before == tokens(in_flight, plain)
    assert sum(map(most_common, after)) < sum(map(most_common, before))


def most_common(answer: list[int]) -> int:
    return max(Counter(answer).values())
