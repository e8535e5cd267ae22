"""What it costs to know how sure answers are: confidence of every token, and 100 labels against generating one.

    python -m benchmarks.confidence [--records 96] [--labels 100] [--text-only] [--folder DIR]

The model has SmolVLM-256M's shape and random weights. `confidence_share` is the part of the processor's time that
goes into probabilities, free and under a JSON schema, where every token takes a mask: such weights never say
what it wants. `labels_ratio` is the processor time of records with choices over that of records that generate
one of the labels. Prints JSON lines; times are of the processor, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.structured_output import CAPTION
from benchmarks.workload import MAX_NEW_TOKENS, SMOLVLM_256M, write_model
from pixano_vlm.batching import sampling
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMOutput

WORDS = ("red", "small", "old", "wooden", "bright", "round", "cat", "house", "boat", "star")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=96)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--text-only", action="store_true", help="no images: the largest share there can be")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)) / "model"
        if not folder.exists():
            write_model(folder, SMOLVLM_256M)
        params = {"path": str(folder), "max_batch_size": 32}
        model = TransformersVLMModel(ModelDeploymentConfig(name="m", model_params=params))
        model.load_model()
        pictures = [] if args.text_only else draw(args.records // 4)
        run(model, records(4, pictures))
        for way, asked in (
            ("free", None),
            ("schema", {"type": "json_schema", "json_schema": {"schema": CAPTION}}),
        ):
            measure_confidence(model, way, records(args.records, pictures, response_format=asked))
        measure_labels(model, args.labels, pictures)


def measure_confidence(model: TransformersVLMModel, way: str, inputs: list[VLMInput]) -> None:
    with clocked() as spent:
        seconds = run(model, inputs)
    share = round(spent[0] / seconds, 4)
    print(
        json.dumps(
            {"way": way, "records": len(inputs), "cpu_s": round(seconds, 2), "confidence_share": share}
        ),
        flush=True,
    )


def measure_labels(model: TransformersVLMModel, count: int, pictures: list[Image.Image]) -> None:
    choose = random.Random(0)
    labels: list[str] = []
    while len(labels) < count:
        label = " ".join(choose.sample(WORDS, choose.randint(1, 3)))
        if label not in labels:
            labels.append(label)
    tokenizer = model._require().tokenizer
    longest = max(len(tokenizer(label, add_special_tokens=False)["input_ids"]) for label in labels) + 1
    scored = run(model, records(8, pictures, choices=labels))  # the first also tries out the tree
    scored = run(model, records(8, pictures, choices=labels))
    generated = run(model, records(8, pictures, max_new_tokens=longest))
    print(json.dumps({
        "labels": count, "cpu_s_scored": round(scored, 2), "cpu_s_generated": round(generated, 2),
        "tokens_of_one": longest, "labels_ratio": round(scored / generated, 2),
    }))  # fmt: skip


def records(count: int, pictures: list[Image.Image], **settings: Any) -> list[VLMInput]:
    choose = random.Random(1)
    made = []
    for number in range(count):
        longest = 96 if settings.get("response_format") else choose.choice(MAX_NEW_TOKENS)
        images = [pictures[number % len(pictures)]] if pictures else None
        given = {"max_new_tokens": longest, "temperature": 0, **settings}
        made.append(VLMInput(prompt=f"What is in picture {number}?", images=images, **given))
    return made


def run(model: TransformersVLMModel, inputs: list[VLMInput]) -> float:
    """Seconds of the processor."""
    began = time.process_time()
    for _, answer in model.stream(enumerate(inputs)):
        assert isinstance(answer, VLMOutput), answer
    return time.process_time() - began


def draw(count: int) -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [
        Image.fromarray(noise.integers(0, 256, (512, 512, 3), dtype=np.uint8)) for _ in range(max(1, count))
    ]


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Adds up the processor's time in what notes probabilities, without the schemas' own part of it."""
    spent = [0.0]
    noted, accepted = sampling._noted, sampling._accepted
    likelihoods = sampling.LogLikelihoods

    def timed(function: Any, sign: int) -> Any:
        def call(*args: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args)
            finally:
                spent[0] += sign * (time.process_time() - began)

        return call

    sampling._noted, sampling._accepted = timed(noted, 1), timed(accepted, -1)
    sampling.LogLikelihoods = timed(likelihoods, 1)  # type: ignore[misc,assignment]  # called before, not within
    try:
        yield spent
    finally:
        sampling._noted, sampling._accepted, sampling.LogLikelihoods = noted, accepted, likelihoods  # type: ignore[misc]


if __name__ == "__main__":
    main()
