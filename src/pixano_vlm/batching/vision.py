"""Each distinct image encoded once: encoded images by content, within a budget of bytes.

Knows no prompt and no cache of keys and values. Features are what `get_image_features` returns and
`mm_encoder_outputs` takes back (transformers 5.19 and later): `pooler_output`, and `deepstack_features` where
the model has them.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pixano_vlm.batching.sequence import PreparedImage

PIXEL_ARGUMENTS = ("pixel_values", "pixel_values_images", "image_patches")
"""What models call their main image argument."""


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """One encoded image."""

    pooled: Tensor
    """`[image_tokens, hidden]`, in the order of the placeholders."""
    deepstack: tuple[Tensor, ...]
    """For each fed layer `[image_tokens, hidden]`; empty for most models."""
    output_class: type[Any]
    is_tensor: bool
    """Whether the model holds `pooler_output` as one tensor, or as a list with one tensor an image."""

    @property
    def tokens(self) -> int:
        """Placeholders that this image fills."""
        return int(self.pooled.shape[0])

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(t.numel() * t.element_size() for t in (self.pooled, *self.deepstack))


def join(features: list[ImageFeatures]) -> dict[str, Any] | None:
    """Several encoded images as the `mm_encoder_outputs` of one forward call, in placeholder order."""
    if not features:
        return None
    first = features[0]

    def pack(rows: list[Tensor]) -> Any:
        joined = torch.cat(rows) if len(rows) > 1 else rows[0]
        return joined[None] if first.is_tensor else [joined]

    fields: dict[str, Any] = {"pooler_output": pack([f.pooled for f in features])}
    if first.deepstack:
        fields["deepstack_features"] = [
            [torch.cat([f.deepstack[layer] for f in features])] for layer in range(len(first.deepstack))
        ]
    try:
        encoded = first.output_class(**fields)
    except TypeError:  # one that insists on hidden states, which the language model does not read
        encoded = BaseModelOutputWithPooling(**fields)
    return {"image": encoded}


class ImageEncoder:
    """Encodes images and keeps what it encoded, the least recently used thrown out first.

    Args:
        model: The transformers model.
        budget: Bytes of features to keep; 0 keeps none.
    """

    def __init__(self, model: Any, budget: int) -> None:
        self._encode = getattr(model.base_model, "get_image_features", None)
        accepts = "mm_encoder_outputs" in inspect.signature(model.forward).parameters
        self.is_available = self._encode is not None and accepts
        self._arguments = (
            frozenset(inspect.signature(self._encode).parameters) - {"kwargs"}
            if self._encode
            else frozenset()
        )
        self._device = model.device
        self._dtype = model.dtype
        self._budget = budget
        self._kept: OrderedDict[bytes, ImageFeatures] = OrderedDict()
        self.nbytes = 0
        self.encoded = 0
        self.reused = 0

    def encode(self, image: PreparedImage) -> ImageFeatures:
        """Features of one image: kept ones, or encoded now and kept."""
        known = self._kept.get(image.digest)
        if known is not None:
            self._kept.move_to_end(image.digest)
            self.reused += 1
            return known
        features = self._run(image.pixels)
        self.encoded += 1
        self._keep(image.digest, features)
        return features

    def clear(self) -> None:
        """Forgets all features."""
        self._kept.clear()
        self.nbytes = 0

    def _run(self, pixels: dict[str, Any]) -> ImageFeatures:
        arguments = {name: self._place(value) for name, value in pixels.items() if name in self._arguments}
        assert self._encode is not None
        output = self._encode(**arguments, return_dict=True)
        pooled = output.pooler_output
        deepstack = getattr(output, "deepstack_features", None)
        return ImageFeatures(
            pooled=_flatten(pooled),
            deepstack=tuple(_flatten(layer) for layer in deepstack or ()),
            output_class=type(output),
            is_tensor=isinstance(pooled, Tensor),
        )

    def _place(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self._device, self._dtype if value.is_floating_point() else None)

    def _keep(self, digest: bytes, features: ImageFeatures) -> None:
        if features.nbytes > self._budget:
            return
        self._kept[digest] = features
        self.nbytes += features.nbytes
        while self.nbytes > self._budget:
            _, dropped = self._kept.popitem(last=False)
            self.nbytes -= dropped.nbytes


def _flatten(features: Any) -> Tensor:
    """Rows of a tensor, or of a list with one tensor an image, as one `[tokens, hidden]` of its own memory."""
    parts = [part.reshape(-1, part.shape[-1]) for part in features]
    return torch.cat(parts) if len(parts) > 1 else parts[0].clone()
