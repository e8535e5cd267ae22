"""Budgets of pixels: exact against the processor called with the same budget, and two of one image keep apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny import ARCHITECTURES

from pixano_vlm.batching.image_budget import ImageBudget, budget_of
from pixano_vlm.batching.image_size import size_looked_at
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import PromptError
from pixano_vlm.models import VLMInput

Open = Callable[..., TransformersVLMModel]


def picture(width: int = 211, height: int = 123, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def needs(name: str) -> None:
    if missing := ARCHITECTURES[name].missing:
        pytest.skip(f"needs {', '.join(missing)}")


def ask(image: Image.Image, **settings: Any) -> VLMInput:
    return VLMInput(prompt="what is there?", images=[image], max_new_tokens=12, temperature=0, **settings)


BUDGETS: list[tuple[str, int, dict[str, Any]]] = [
    ("qwen2_5_vl", 64 * 48, {"size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 48}}),
    ("qwen3_vl", 64 * 48, {"size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 48}}),
    ("smolvlm", 32 * 32, {"size": {"longest_edge": 32}}),
    ("idefics3_tiles", 32 * 32, {"size": {"longest_edge": 32}}),
    ("internvl", 32 * 32, {"min_patches": 1, "max_patches": 1}),
]
"""Architecture, most pixels, and the processor's own options for them."""


@pytest.mark.parametrize(("name", "most", "options"), BUDGETS, ids=[row[0] for row in BUDGETS])
def test_max_pixels_is_exact_against_the_processor_called_with_the_same_budget(
    name: str, most: int, options: dict[str, Any], open_model: Open
) -> None:
    needs(name)
    model = open_model(name)
    maker = model._require().maker
    image = picture()
    prompt = maker.make(ask(image, max_pixels=most))
    text = maker.renderer.render(ask(image)).text
    processor = ARCHITECTURES[name].parts().processor
    expected = processor(text=[text], images=[[image]], return_tensors="pt", images_kwargs=options)
    whole = processor(text=[text], images=[[image]], return_tensors="pt")
    assert torch.equal(prompt.tensors["pixel_values"], expected["pixel_values"])
    assert prompt.ids.tolist() == expected["input_ids"][0].tolist()
    assert len(prompt.ids) < whole["input_ids"].shape[1]


@pytest.mark.parametrize("name", [row[0] for row in BUDGETS])
def test_two_budgets_of_one_image_keep_their_own_features_and_prefixes(name: str, open_model: Open) -> None:
    needs(name)
    model = open_model(name)
    most = next(row[1] for row in BUDGETS if row[0] == name)
    image = picture(seed=1)
    inputs = [ask(image), ask(image, max_pixels=most), ask(image), ask(image, max_pixels=most)]
    alone = {}
    for place in (0, 1):
        keeps_nothing = open_model(name, image_cache_bytes=0, prefix_cache_bytes=0)
        alone[place] = keeps_nothing.predict(inputs[place])
    together = dict(model.stream(enumerate(inputs)))
    for place, answer in together.items():
        expected = alone[place % 2]
        assert (answer.generated_text, answer.usage) == (expected.generated_text, expected.usage)
    assert alone[0].usage.prompt_tokens != alone[1].usage.prompt_tokens


def test_the_size_that_the_model_looked_at_and_its_tokens_are_the_processors_own(open_model: Open) -> None:
    needs("qwen2_5_vl")
    model = open_model("qwen2_5_vl")
    answer = model.predict(ask(picture(), max_pixels=64 * 48))
    assert answer.image_sizes is not None
    (size,) = answer.image_sizes
    assert (size.width, size.height) == (211, 123)
    assert size.model_width is not None
    assert size.model_height is not None
    assert size.model_width * size.model_height <= 64 * 48
    assert size.tokens == size.model_width * size.model_height // (2 * 8) ** 2
    assert model.predict(ask(picture())).image_sizes is None


@pytest.mark.parametrize("name", ["llava", "paligemma"])
def test_a_model_that_cannot_is_the_records_error(name: str, open_model: Open) -> None:
    model = open_model(name)
    with pytest.raises(PromptError, match="max_pixels cannot be held to"):
        model.predict(ask(picture(), max_pixels=1000))
    assert model.cannot_budget_images() is not None


def test_a_budget_whose_least_is_more_than_its_most_is_the_records_error(open_model: Open) -> None:
    with pytest.raises(PromptError, match="min_pixels is 9,000, and max_pixels is 1,000"):
        open_model("idefics3_tiles").predict(ask(picture(), min_pixels=9000, max_pixels=1000))


class Lengths:
    """An image processor whose `size` is lengths, under the keys that others have for areas."""

    size: dict[str, int] = {"shortest_edge": 378, "longest_edge": 980}  # noqa: RUF012 - as transformers has it

    def __call__(
        self, images: list[Image.Image], *, size: dict[str, int] | None = None, **_: Any
    ) -> dict[str, Any]:
        size = size or self.size
        width, height = images[0].size
        share = min(1.0, size["longest_edge"] / max(width, height))
        return {"pixel_values": np.zeros((1, 3, round(height * share), round(width * share)), np.uint8)}


def test_lengths_are_not_taken_for_areas() -> None:
    budget = budget_of(Lengths())
    assert budget.options(None, 200 * 150, [(640, 480)])["size"]["longest_edge"] == 200
    features = Lengths()([picture(640, 480)], size=budget.options(None, 200 * 150, [(640, 480)])["size"])
    assert size_looked_at(features, None) == {"model_width": 200, "model_height": 150}


def test_a_processor_that_nothing_is_known_of_cannot() -> None:
    assert isinstance(budget_of(None), ImageBudget)
    assert budget_of(object()).refusal is not None
