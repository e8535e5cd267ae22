"""The CPU's faster kernels in both dtypes: as close to exact as the library's own, and put back without a trace."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pixano_vlm.batching import kernels
from pixano_vlm.batching.kernels import PackedLinear, attend, is_applicable, speed_up
from pixano_vlm.engines.transformers.model import TransformersVLMModel

Open = Callable[..., TransformersVLMModel]

FASTER: Any = kernels.faster_attention
MODULE: Any = SimpleNamespace(is_causal=False, num_key_value_groups=1)


DTYPES = {"bfloat16": 0.01, "float32": 1e-5}
"""And how far from double precision rounding may take attention."""


@pytest.fixture(autouse=True)
def _both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which way is faster depends on the machine."""
    monkeypatch.setattr(kernels, "faster_attention", lambda dtype: frozenset({"many", "few"}))


def states(*shape: int, dtype: str = "bfloat16") -> torch.Tensor:
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))
    return numbers.to(getattr(torch, dtype))


def exact(query: Any, key: Any, value: Any, mask: Any) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    key, value = (x.double().repeat_interleave(groups, dim=1) for x in (key, value))
    result = functional.scaled_dot_product_attention(query.double(), key, value, attn_mask=mask)
    return result.transpose(1, 2)


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("heads", "key_heads", "tokens", "past"),
    [(9, 3, 1, 40), (9, 3, 7, 40), (4, 4, 1, 3), (4, 4, 300, 300), (8, 2, 300, 300)],
)
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_is_that_of_double_precision_but_for_rounding(
    heads: int, key_heads: int, tokens: int, past: int, masked: bool, dtype: str
) -> None:
    query, key, value = (
        states(2, heads, tokens, 16, dtype=dtype),
        states(2, key_heads, past, 16, dtype=dtype),
        states(2, key_heads, past, 16, dtype=dtype),
    )
    mask = None
    if masked:
        mask = torch.rand(2, 1, tokens, past, generator=torch.Generator().manual_seed(1)) < 0.7
        mask[..., 0] = True
    module: Any = SimpleNamespace(is_causal=False, num_key_value_groups=heads // key_heads)
    got, _ = attend(module, query, key, value, mask)
    assert distance(got, exact(query, key, value, mask)) < DTYPES[dtype]


def test_a_row_that_sees_nothing_is_not_nan() -> None:
    mask = torch.zeros(1, 1, 1, 5, dtype=torch.bool)
    got, _ = attend(MODULE, states(1, 2, 1, 8), states(1, 2, 5, 8), states(1, 2, 5, 8), mask)
    assert bool(torch.isfinite(got).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_is_only_taken_over_where_a_trial_shows_a_gain(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: dict[str, float] = {"ours": 1.0, "theirs": 1.0}
    now = 0.0

    def taking(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            nonlocal now
            now += passed[name]
            return call(*args, **options)

        return timed

    monkeypatch.setattr(kernels, "perf_counter", lambda: now)
    monkeypatch.setattr(kernels, "_attend_to_many", taking("ours", kernels._attend_to_many))
    monkeypatch.setattr(kernels, "_attend_to_few", taking("ours", kernels._attend_to_few))
    monkeypatch.setattr(kernels, "sdpa_attention_forward", taking("theirs", sdpa_attention_forward))
    for theirs, ways in ((0.7, set()), (1.1, set()), (1.9, {"many", "few"})):
        passed["theirs"] = theirs
        assert FASTER.__wrapped__(getattr(torch, dtype)) == ways


def test_what_the_products_do_not_know_goes_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(kernels, "sdpa_attention_forward", lambda *a, **k: called.append(k) or (a[1], None))
    query = states(1, 2, 1, 8)
    attend(MODULE, query, query, query, None, dropout=0.1)
    attend(MODULE, query, query, query, None, s_aux=query)
    monkeypatch.setattr(kernels, "FEW_BYTES", 10)
    attend(MODULE, query, query, query, None)
    assert len(called) == 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["idefics3", "llava", "gemma3"])
def test_a_model_with_the_kernels_gives_the_same_logits_but_for_rounding(
    name: str, dtype: str, open_model: Open
) -> None:
    network = open_model(name, dtype=dtype, engine="static")._require().model
    if not is_applicable(network):
        pytest.skip(f"this CPU does not compute in {dtype}")
    ids = torch.arange(40)[None] % 50 + 5
    with torch.inference_mode():
        before = network(input_ids=ids).logits.float()
        undo = speed_up(network, attention=True)
        fused = [m for m in network.modules() if isinstance(m, PackedLinear) and m.activation[0] != "none"]
        after = network(input_ids=ids).logits.float()
        undo()
        again = network(input_ids=ids).logits.float()
    assert fused
    rounding = 0.05 if dtype == "bfloat16" else 1e-4
    assert float((after - before).norm() / before.norm()) < rounding
    assert torch.equal(again, before)
    assert not any(isinstance(module, PackedLinear) for module in network.modules())
