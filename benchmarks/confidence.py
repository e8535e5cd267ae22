"""What it costs to know how sure answers are: confidence of every token, and 100 labels against generating one.

    python -m benchmarks.confidence [--records 96] [--labels 100] [--text-only] [--line-end] [--folder DIR]

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
from statistics import fmean, median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.structured_output import CAPTION
from benchmarks.workload import MAX_NEW_TOKENS, SMOLVLM_256M, write_model
from pixano_vlm.batching import sampling
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMOutput


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=96)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--text-only", action="store_true", help="no images: the largest share there can be")
    parser.add_argument(
        "--line-end",
        action="store_true",
        help="a prompt that ends in a line end, as most do: after one that ends in a word, each label is scored "
        "with and without a space before it",
    )
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)) / "model"
        if not folder.exists():
            write_model(folder, SMOLVLM_256M)
            if args.line_end:
                template = folder / "chat_template.jinja"
                template.write_text(template.read_text().replace("Assistant:", "Assistant:\n"))
        params = {"path": str(folder), "max_batch_size": 32}
        model = TransformersVLMModel(ModelDeploymentConfig(name="m", model_params=params))
        model.load_model()
        pictures = [] if args.text_only else draw(args.records // 4)
        run(model, records(4, pictures))
        for way, asked in (
            ("free", None),
            ("schema", {"type": "json_schema", "json_schema": {"schema": CAPTION}}),
        ):
            run(
                model, records(4, pictures, response_format=asked)
            )  # a schema is compiled with its first answers
            measure_confidence(model, way, records(args.records, pictures, response_format=asked))
        measure_labels(model, args.labels, args.text_only)


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


def measure_labels(model: TransformersVLMModel, count: int, text_only: bool) -> None:
    labels = draw_labels(model._require().tokenizer, count)
    tokenizer = model._require().tokenizer
    lengths = [len(tokenizer(label, add_special_tokens=False)["input_ids"]) + 1 for label in labels]
    run(model, records(2, [], choices=labels))  # the first also tries out the tree

    def eight(seed: int) -> list[Image.Image]:
        return [] if text_only else draw(8, seed)

    scored, generated = [], []
    for turn in range(3):
        # Each of other pictures, so that none is known from the run before.
        scored.append(run(model, records(8, eight(100 + turn), choices=labels)))
        generated.append(run(model, records(8, eight(200 + turn), max_new_tokens=round(fmean(lengths)))))
    print(json.dumps({
        "labels": count, "tokens_of_one": round(fmean(lengths), 2), "cpu_s_scored": round(median(scored), 2),
        "cpu_s_generated": round(median(generated), 2),
        "labels_ratio": round(median(scored) / median(generated), 2),
    }))  # fmt: skip


def draw_labels(tokenizer: Any, count: int) -> list[str]:
    """Labels of one to four tokens, as those of a published tokenizer are, whatever words this one has learned."""
    choose = random.Random(0)
    words = [text for token in range(len(tokenizer)) if (text := tokenizer.decode([token])).strip().isalpha()]
    labels: list[str] = []
    while len(labels) < count:
        label = " ".join(choose.choice(words).strip() for _ in range(choose.randint(1, 3)))
        length = len(tokenizer(label, add_special_tokens=False)["input_ids"])
        if label not in labels and length <= 4:
            labels.append(label)
    return labels


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


def draw(count: int, seed: int = 0) -> list[Image.Image]:
    noise = np.random.default_rng(seed)
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
            began = time.thread_time()
            try:
                return function(*args)
            finally:
                spent[0] += sign * (time.thread_time() - began)

        return call

    sampling._noted, sampling._accepted = timed(noted, 1), timed(accepted, -1)
    sampling.LogLikelihoods = timed(likelihoods, 1)  # type: ignore[misc,assignment]  # called before, not within
    try:
        yield spent
    finally:
        sampling._noted, sampling._accepted, sampling.LogLikelihoods = noted, accepted, likelihoods  # type: ignore[misc]


if __name__ == "__main__":
    main()
