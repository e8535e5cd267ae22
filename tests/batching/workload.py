"""Records of all sorts for one tiny architecture, and their answers by plain transformers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.tiny import ARCHITECTURES
from tests.tiny.reference import generate_alone

from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import ModelDeploymentConfig, VLMInput

WORDS = [
    "the",
    "red",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "seven",
    "blue",
    "birds",
    "over",
    "an",
    "old",
    "house",
    "while",
    "it",
    "rained",
]
SIZES = ((64, 48), (40, 90), (128, 128), (33, 57), (200, 60))
LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34, 64)


@dataclass(frozen=True)
class Record:
    """One request and what `generate` says to it alone."""

    input: VLMInput
    tokens: list[int]


def load(folder: Path, **params: Any) -> TransformersVLMModel:
    """A tiny checkpoint as the engine's user loads it, in float32."""
    model = TransformersVLMModel(
        ModelDeploymentConfig(name="tiny", model_params={"path": str(folder), "dtype": "float32", **params})
    )
    model.load_model()
    return model


def draw_pictures(folder: Path, count: int = 8) -> list[Path]:
    """Pictures of noise of different sizes; the last one is a copy of the first under another name."""
    noise = np.random.default_rng(0)
    paths = []
    for number in range(count):
        width, height = SIZES[number % len(SIZES)]
        paths.append(folder / f"{number}.png")
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(paths[-1])
    (folder / "copy.png").write_bytes(paths[0].read_bytes())
    return [*paths, folder / "copy.png"]


def requests(
    name: str, pictures: Sequence[Path], count: int, seed: int = 0, longest: int = 300
) -> list[VLMInput]:
    """Requests an architecture takes: prompts of 5 to `longest` tokens or so, 0 to 3 images, 1 to 64 new tokens."""
    builder = ARCHITECTURES[name]
    choose = random.Random(seed)
    fewest, most = builder.min_images, 3 if builder.max_images is None else builder.max_images
    made = []
    for _ in range(count):
        words = choose.choice((1, 2, 5, 12, 30, 60, longest // 3))
        prompt = " ".join(choose.choice(WORDS) for _ in range(words))
        images = [choose.choice(pictures) for _ in range(choose.randint(fewest, most))]
        made.append(
            VLMInput(prompt=prompt, images=images, max_new_tokens=choose.choice(LENGTHS), temperature=0)
        )
    return made


def answer_alone(model: TransformersVLMModel, inputs: Sequence[VLMInput]) -> list[Record]:
    """Each request through transformers alone."""
    loaded = model._require()
    return [
        Record(
            input,
            generate_alone(
                loaded.model,
                loaded.processor,
                input.prompt if isinstance(input.prompt, str) else list(input.prompt),
                [Image.open(path).convert("RGB") for path in input.images or []],
                input.max_new_tokens,
            ),
        )
        for input in inputs
    ]
