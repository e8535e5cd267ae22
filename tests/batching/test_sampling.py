"""Sampling: transformers' definitions, each record's own random numbers, and logits that are not finite numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from benchmarks.sampling import sampled, warpers
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_vlm.batching.logits import draw, least_logs, log_probabilities
from pixano_vlm.batching.sampling import choose
from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.errors import GenerationError
from pixano_vlm.models import VLMInput

SETTINGS = st.fixed_dictionaries(
    {"temperature": st.floats(0.2, 3)},
    optional={
        "top_k": st.integers(1, 3_000),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0.001, 1),
    },
)


def asked(**fields: Any) -> VLMInput:
    return VLMInput(prompt="What?", images=[], **{"max_new_tokens": 8, "temperature": 1.0, **fields})


def sequence(input: VLMInput, seed: int = 0) -> Sequence:
    """A record past its prefill, which samples unless its temperature is 0."""
    one = sampled(input, seed)
    if input.temperature == 0:
        one.generator = None
    return one


def kept_by_transformers(scores: torch.Tensor, input: VLMInput) -> torch.Tensor:
    return torch.isfinite(warpers(input)(torch.zeros(1, 1, dtype=torch.long), scores[None]))[0]


@settings(max_examples=200, deadline=None)
@given(asks=st.lists(SETTINGS, min_size=1, max_size=5), seed=st.integers(0, 2**32), spread=st.floats(0.1, 8))
def test_what_may_be_drawn_is_what_transformers_keeps(
    asks: list[dict[str, Any]], seed: int, spread: float
) -> None:
    inputs = [asked(**ask) for ask in asks]
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(inputs), 2_500, generator=random) * spread
    logs = log_probabilities(scores, inputs)
    for row, least in enumerate(least_logs(logs, inputs)):
        ours, theirs = logs[row] >= least, kept_by_transformers(scores[row], inputs[row])
        # Sums in another order differ by roundings of float32: by one token at the edge, or some of no weight.
        differing = logs[row][ours ^ theirs].exp().sort().values.tolist()
        assert sum(differing[:-1]) <= 1e-5, inputs[row]
        assert bool(ours.any())


@settings(max_examples=100, deadline=None)
@given(asks=st.lists(SETTINGS, min_size=2, max_size=6), seed=st.integers(0, 2**32))
def test_a_row_is_drawn_alone_as_among_others_though_many_tokens_are_equally_likely(
    asks: list[dict[str, Any]], seed: int
) -> None:
    inputs = [asked(**ask) for ask in asks]
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(inputs), 2_500, generator=random).bfloat16().float()
    together = draw(scores.clone(), [sequence(input, seed=row) for row, input in enumerate(inputs)])
    alone = [draw(scores[[row]], [sequence(input, seed=row)])[0] for row, input in enumerate(inputs)]
    assert together == alone


@pytest.mark.parametrize("settings", [{}, {"top_k": 4}, {"top_p": 0.8}, {"min_p": 0.2}, {"temperature": 0.5}])
def test_tokens_come_as_often_as_they_are_likely(settings: dict[str, Any]) -> None:
    input = asked(**settings)
    logits = torch.tensor([2.0, 0.0, 1.5, -1.0, 1.0, 0.5, -math.inf])
    expected = torch.softmax(
        torch.where(
            kept_by_transformers(logits, input),
            logits / input.temperature,
            -math.inf,
        ),
        dim=-1,
    )
    draws = 20_000
    record = sequence(input)
    counts = torch.zeros(len(logits))
    for _ in range(draws // 500):
        for token in draw(logits.repeat(500, 1), [record] * 500):
            assert isinstance(token, int)
            counts[token] += 1
    assert (counts[expected == 0] == 0).all()
    # Four standard deviations.
    assert ((counts / draws - expected).abs() <= 4 * (expected * (1 - expected) / draws).sqrt()).all()


def test_the_smallest_temperatures_are_greedy() -> None:
    scores = torch.randn(3, 100, generator=torch.Generator().manual_seed(0)) * 30
    records = [sequence(asked(temperature=temperature)) for temperature in (1e-6, 1e-38, 5e-324)]
    assert draw(scores.clone(), records) == scores.argmax(dim=-1).tolist()


@pytest.mark.parametrize("nothing", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_an_error_of_their_row(nothing: float) -> None:
    """As a float16 that overflowed gives them, which would else be answered with token 0 for ever."""
    logits = torch.zeros(4, 50)
    logits[:, 7] = 3.0
    logits[1:3, 20] = nothing
    records = [
        sequence(asked(temperature=0)),
        sequence(asked(temperature=0)),
        sequence(asked(top_p=0.9)),
        sequence(asked(top_k=1)),
    ]
    tokens = choose(logits, records)
    assert tokens[0] == tokens[3] == 7
    for error in tokens[1:3]:
        assert isinstance(error, GenerationError)
        assert "bfloat16" in str(error)


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 1), (1 - 2**-24, 2)])
def test_what_cannot_come_is_not_drawn_at_either_end(
    chance: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, chance))
    scores = torch.tensor([[-math.inf, 0.0, 0.0, -math.inf]])
    assert draw(scores, [sequence(asked())]) == [expected]
