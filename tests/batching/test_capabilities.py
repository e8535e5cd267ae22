"""What rules out batching in flight is seen in a model's structure, before any trial."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
from transformers.cache_utils import DYNAMIC_LAYER_TYPE_MAPPING, DynamicLayer

from pixano_vlm.batching.capabilities import Trial, examine, obstacle
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import PromptError


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


@pytest.mark.parametrize(
    "parameters",
    [{"rope_type": "longrope"}, {"full_attention": {"rope_type": "longrope"}, "sliding_attention": None}],
)
def test_positions_that_hang_on_the_longest_record_of_a_batch_are_not_batched_in_flight(
    parameters: dict[str, object],
    open_model: Callable[..., TransformersVLMModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = open_model("llava")._require().model
    config = deepcopy(model.config)
    config.text_config.rope_parameters = parameters
    monkeypatch.setattr(model, "config", config)
    assert "longrope" in (obstacle(model) or "")


def test_words_alone_do_not_prove_that_images_may_be_batched(
    open_model: Callable[..., TransformersVLMModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = open_model("llava")._require()
    reference = Trial._reference

    def refusing(self: Trial, input: object) -> object:
        if input.images:  # type: ignore[attr-defined]
            raise PromptError("too small a picture.")
        return reference(self, input)  # type: ignore[arg-type]

    monkeypatch.setattr(Trial, "_reference", refusing)
    found = examine(Trial(loaded.model, loaded.maker, loaded.stop), loaded.plan)
    assert not found.in_flight
    assert "too small a picture" in found.reason
