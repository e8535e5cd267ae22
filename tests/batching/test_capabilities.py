"""What rules out batching in flight is seen in a model's structure, before any trial."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
from transformers.cache_utils import DYNAMIC_LAYER_TYPE_MAPPING, DynamicLayer

from pixano_vlm.batching.capabilities import obstacle
from pixano_vlm.engines.transformers import TransformersVLMModel


@pytest.mark.parametrize("kind", ["chunked_attention", "sparse_attention_of_next_year"])
def test_attention_that_chooses_its_keys_is_not_batched_in_flight(
    kind: str, open_model: Callable[..., TransformersVLMModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial of a few records can agree where one record in thirty would not."""
    model = open_model("llava")._require().model
    assert obstacle(model) is None
    config = deepcopy(model.config)
    config.text_config.layer_types = ["full_attention", "sliding_attention"]
    monkeypatch.setattr(model, "config", config)
    config.text_config.sliding_window = config.text_config.attention_chunk_size = 8
    assert obstacle(model) is None
    # As a model's own code does whose layers keep ordinary keys and values.
    monkeypatch.setitem(DYNAMIC_LAYER_TYPE_MAPPING, kind, DynamicLayer)
    config.text_config.layer_types = ["full_attention", kind]
    reason = obstacle(model)
    assert reason is not None
    assert kind in reason
