"""Text before the first image is prefilled once, whatever images follow: exactly, and however the records arrive."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.batching.workload import WORDS, answer_alone, load

from pixano_vlm.batching.prefix import shared_length
from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.shapes import MODEL_DIR

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RUBRIC = " ".join(random.Random(7).choices(WORDS, k=120))


def rubric_first(images: list[Path], role: str) -> list[VLMInput]:
    """A record for each image: the rubric, its image, a short question."""
    text, asked = {"type": "text", "text": RUBRIC}, {"type": "text", "text": "What is it?"}

    shown = {"type": "image"}
    turns: list[dict[str, Any]] = [{"role": "user", "content": [text, shown, asked]}]
    if role == "system":
        turns = [{"role": "system", "content": [text]}, {"role": "user", "content": [shown, asked]}]

    lengths = (6, 2, 9, 4, 12, 3, 7, 5)
    return [
        VLMInput(prompt=turns, images=[image], max_new_tokens=length, temperature=0)
        for image, length in zip(images, lengths, strict=False)
    ]


def fewest_tokens(model: TransformersVLMModel, inputs: list[VLMInput]) -> int:
    """Prompt tokens to compute where all that two prompts have in common is computed once."""
    maker = model._require().maker
    seen: list[Any] = []
    total = 0
    for ids in (maker.shared_ids(maker.make(input)) for input in inputs):
        assert ids is not None
        total += len(ids) - max((shared_length(ids, other) for other in seen), default=0)
        seen.append(ids)
    return total


@pytest.mark.parametrize("role", ["system", "user"])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_rubric_before_different_images_is_computed_once_and_changes_no_token(
    rows: int, role: str, pictures: list[Path]
) -> None:
    model = load(MODEL_DIR, max_batch_size=rows)
    inputs = rubric_first(pictures[:8], role)
    alone = answer_alone(model, inputs)
    tokens = stream_tokens(model._require().stop, model.stream, inputs)
    assert tokens == dict(enumerate(record.tokens for record in alone))
    assert model.stats is not None
    assert model.stats.prefill_tokens == fewest_tokens(model, inputs)


@pytest.mark.parametrize("name", ["llava", "llava_next", "qwen2_5_vl"])
def test_other_architectures_share_it_too(
    name: str, open_model: Callable[..., TransformersVLMModel], pictures: list[Path]
) -> None:
    model = open_model(name, max_batch_size=3)
    engine = model._require().engine
    assert engine is not None
    engine.runner.prefixes.clear()
    inputs = rubric_first(pictures[:5], "user")
    alone = answer_alone(model, inputs)
    tokens = stream_tokens(model._require().stop, model.stream, inputs)
    assert tokens == dict(enumerate(record.tokens for record in alone))
    assert model.stats is not None
    assert model.stats.prefill_tokens == fewest_tokens(model, inputs)


@pytest.mark.parametrize("ends_before", [False, True])
def test_a_record_that_arrives_late_takes_the_beginning_from_the_row_of_the_first(
    ends_before: bool, pictures: list[Path]
) -> None:
    """When the first was computed, nobody else was there to keep its beginning for."""
    model = load(MODEL_DIR, max_batch_size=4)
    engine = model._require().engine
    assert engine is not None
    first, second = rubric_first(pictures[:2], "user")
    if not ends_before:
        first = first.model_copy(update={"max_new_tokens": 200, "min_new_tokens": 200})

    def late() -> Iterator[tuple[int, VLMInput]]:
        yield 0, first
        for _ in range(10_000):
            steps, is_active = engine.stats.decode_steps, bool(engine.scheduler.active)
            if engine.stats.prefill_calls and (not is_active if ends_before else steps >= 3):
                break
            time.sleep(0.001)
        yield 1, second

    answers = dict(model.stream(late()))
    assert all(isinstance(answer, VLMOutput) for answer in answers.values())
    assert engine.stats.prefill_tokens == fewest_tokens(model, [first, second])
