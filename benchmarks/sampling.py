"""What drawing a token costs beside the model: all rows at once, against transformers' warpers row by row.

    python benchmarks/sampling.py [--rows 40] [--vocabulary 49280]

`likely` is a distribution in which few tokens count, as in a trained model's answers; `flat` one in which most do,
where `top_p` is dearest. Both ways draw alternately; medians. Prints milliseconds a token, and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pixano_vlm.batching.sampling import choose
from pixano_vlm.batching.sequence import Prompt, Sequence
from pixano_vlm.models import VLMInput

SETTINGS: list[dict[str, float]] = [{}, {"top_k": 50}, {"top_p": 0.9}, {"min_p": 0.05}]
SPREADS = {"likely": 6.0, "flat": 0.5}
"""Standard deviation of the logits."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--vocabulary", type=int, default=49_280)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(2)
    figures = []
    print(f"{'logits':8} {'settings':16} {'pixano-vlm':>11} {'transformers':>13}  ms a token")
    for name, spread in SPREADS.items():
        noise = torch.Generator().manual_seed(0)
        logits = (torch.randn(options.rows, options.vocabulary, generator=noise) * spread).bfloat16()
        for settings in SETTINGS:
            ours, theirs = measure(logits, settings, options.rounds)
            shown = " ".join(f"{key} {value}" for key, value in settings.items()) or "temperature"
            print(f"{name:8} {shown:16} {ours:>11.3f} {theirs:>13.3f}", flush=True)
            figures.append({"logits": name, **settings, "ours_ms": ours, "transformers_ms": theirs})
    print(json.dumps(figures))


def sampled(input: VLMInput, seed: int) -> Sequence:
    """A record past its prefill, with random numbers of its own."""
    sequence = Sequence(seed, input, Prompt(np.zeros(1, dtype=np.int64), {}, (), 0), input.max_new_tokens)
    sequence.processors = []
    sequence.generator = torch.Generator().manual_seed(seed)
    return sequence


def warpers(input: VLMInput) -> LogitsProcessorList:
    """What transformers would change a record's logits by, in its order."""
    warp = LogitsProcessorList([TemperatureLogitsWarper(input.temperature)])
    if input.top_k:
        warp.append(TopKLogitsWarper(input.top_k))
    if input.top_p and input.top_p < 1:
        warp.append(TopPLogitsWarper(input.top_p))
    if input.min_p:
        warp.append(MinPLogitsWarper(input.min_p))
    return warp


def measure(logits: torch.Tensor, settings: dict[str, float], rounds: int) -> tuple[float, float]:
    """Milliseconds a token of both ways."""
    input = VLMInput.model_validate(
        {"prompt": "", "images": [], "max_new_tokens": 1, "temperature": 0.7, **settings}
    )
    sequences = [sampled(input, seed) for seed in range(len(logits))]
    warp = warpers(input)
    nothing = torch.zeros(1, 1, dtype=torch.long)

    def theirs() -> None:
        for row, sequence in zip(logits, sequences, strict=True):
            scores = warp(nothing, row.float()[None])  # type: ignore[arg-type]  # a tensor of integers
            torch.multinomial(torch.softmax(scores, dim=-1)[0], 1, generator=sequence.generator)

    ways: list[Callable[[], object]] = [lambda: choose(logits, sequences), theirs]
    seconds: list[list[float]] = [[], []]
    for way in ways:
        way()
    for _ in range(rounds):
        for way, taken in zip(ways, seconds, strict=True):
            began = time.perf_counter()
            way()
            taken.append(time.perf_counter() - began)
    ours, others = (1000 * statistics.median(taken) / len(logits) for taken in seconds)
    return round(ours, 3), round(others, 3)


if __name__ == "__main__":
    main()
