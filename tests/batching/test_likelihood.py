"""The probability of what a schema allows is that of those tokens together, however many they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_vlm.batching.likelihood import LogLikelihoods

VOCABULARY = 20_000


@settings(max_examples=40, deadline=None)
@given(
    allowed=st.lists(
        st.one_of(
            st.sampled_from([0, 1, 8_192, 8_193, VOCABULARY - 1, VOCABULARY]), st.integers(0, VOCABULARY)
        ),
        min_size=1,
        max_size=8,
    ),
    sharpness=st.sampled_from([0.0, 1.0, 30.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**31),
)
def test_what_is_allowed_has_the_sum_of_its_tokens_probabilities(
    allowed: list[int], sharpness: float, dtype: torch.dtype, seed: int
) -> None:
    numbers = torch.Generator().manual_seed(seed)
    logits = (torch.randn(len(allowed), VOCABULARY, generator=numbers) * sharpness).to(dtype)
    chosen = np.random.default_rng(seed)
    masks = {}
    for row, count in enumerate(allowed):
        masks[row] = np.zeros(VOCABULARY, dtype=np.bool_)
        masks[row][chosen.permutation(VOCABULARY)[:count]] = True
    found = LogLikelihoods(logits, logits.amax(dim=-1)).of_allowed(masks)
    assert sorted(found) == list(range(len(allowed)))
    for row, mask in masks.items():
        probabilities = logits[row].double().softmax(dim=-1)[torch.from_numpy(mask)]
        # Where nothing is allowed nothing can be said of it, and a token keeps the model's own probability.
        expected = math.log(float(probabilities.sum())) if mask.any() else 0.0
        assert found[row] == pytest.approx(expected, abs=2e-5)
