"""Records under three JSON schemas among free ones: all valid, and the free ones as they are alone.

60 of them here, and 200 in `make test-slow`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.batching.schemas import asked_of_all, assert_mixed
from tests.batching.workload import answer_alone, draw_pictures, load, requests
from tests.tiny import build

from pixano_vlm.media.images import load_image
from pixano_vlm.models import VLMInput
from pixano_vlm.models.limits import Limits
from pixano_vlm.shapes import MODEL_DIR

pytestmark = pytest.mark.once

SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "count"),
    [("idefics3", 60), *(pytest.param(name, 200, marks=SLOW) for name in ("idefics3", "llava", "gemma3"))],
)
def test_models_of_random_weights_answer_in_valid_json(name: str, count: int, tmp_path: Path) -> None:
    pictures = draw_pictures(tmp_path)
    build(name, tmp_path / "model")
    model = load(tmp_path / "model", max_batch_size=32)
    free = answer_alone(model, requests(name, pictures, count * 3 // 10))
    assert_mixed(model, asked_of_all(pictures, count), [(one.input, one.tokens) for one in free])


@pytest.mark.parametrize("count", [60, pytest.param(200, marks=SLOW)])
def test_the_embedded_model_answers_in_valid_json(count: int, repository: Path, tmp_path: Path) -> None:
    examples = repository / "examples" / "shapes"
    records = [json.loads(line) for line in (examples / "manifest.jsonl").read_text().splitlines()]
    pictures = []
    for name in sorted({record["images"][0] for record in records}):
        # Upright as plain pixels: what answers alone is opened without a look at the EXIF.
        pictures.append(tmp_path / Path(name).with_suffix(".png").name)
        load_image(examples / name, Limits()).image.save(pictures[-1])
    questions = [
        VLMInput(
            prompt=record["prompt"],
            images=[tmp_path / Path(record["images"][0]).with_suffix(".png").name],
            max_new_tokens=64,
            temperature=0,
        )
        for record in records[: count // 2]
    ]
    model = load(MODEL_DIR, max_batch_size=32)
    free = answer_alone(model, questions)
    assert_mixed(model, asked_of_all(pictures, count), [(one.input, one.tokens) for one in free])
