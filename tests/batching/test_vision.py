"""Encoded images go back into a model as it would have handed them on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.timm_wrapper.modeling_timm_wrapper import TimmWrapperModelOutput

from pixano_vlm.batching.vision import ImageFeatures, join


def features(rows: int, output_class: type[Any], is_tensor: bool = False) -> ImageFeatures:
    return ImageFeatures(
        pooled=torch.rand(rows, 4), deepstack=(), output_class=output_class, is_tensor=is_tensor
    )


@pytest.mark.parametrize(
    ("output_class", "joined_class"),
    [
        pytest.param(BaseModelOutputWithPooling, BaseModelOutputWithPooling, id="a class of transformers"),
        pytest.param(
            TimmWrapperModelOutput, BaseModelOutputWithPooling, id="one that insists on hidden states"
        ),
    ],
)
@pytest.mark.parametrize("is_tensor", [True, False])
def test_two_images_are_joined_in_the_order_of_their_placeholders(
    output_class: type[Any], joined_class: type[Any], is_tensor: bool
) -> None:
    first, second = features(3, output_class, is_tensor), features(2, output_class, is_tensor)
    outputs = join([first, second])
    assert outputs is not None
    assert type(outputs["image"]) is joined_class
    pooled = outputs["image"].pooler_output
    assert isinstance(pooled, torch.Tensor) is is_tensor
    torch.testing.assert_close(pooled[0], torch.cat([first.pooled, second.pooled]))


def test_no_image_gives_no_encoder_output() -> None:
    assert join([]) is None
