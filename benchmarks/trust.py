"""How far the confidence of `shapes` tells right answers from wrong ones, on pictures that were made harder.

    python benchmarks/trust.py

Draws fresh pictures, makes them small, blurred, noisy and pale, until the model is right about four times in five;
runs them through `pixano-vlm generate`, and scores the answers: the AUROC, the expected calibration error on nine
tenths after a calibration on one tenth, and in how many of 200 random halvings `--accept 0.95`, decided on one half,
keeps its promise on the other. The last line is JSON. Needs the extra `score`, and an engine that gives confidences.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy
from PIL import Image, ImageEnhance, ImageFilter

from pixano_vlm.scoring import calibrate
from pixano_vlm.scoring.confidence import accept, auroc, calibration_error, reliability
from pixano_vlm.scoring.judge import confidence_of, judge_for, read_lines
from pixano_vlm.scoring.metrics import Tolerance
from pixano_vlm.scoring.truth import open_truth
from pixano_vlm.shapes.draw import random_scene, render
from pixano_vlm.shapes.questions import ask_any

WANTED = 0.95
SPLITS = 200


def harder(picture: Image.Image, rng: Random, hardness: float) -> Image.Image:
    """The picture with less to see: how much less is drawn, up to `hardness` (0: as it is; 1: hardly anything)."""
    strength = rng.uniform(0, hardness)
    width, height = picture.size
    shrink = 1 - 0.9 * strength
    small = picture.resize((max(8, round(width * shrink)), max(8, round(height * shrink))))
    pale = ImageEnhance.Contrast(small).enhance(1 - 0.85 * strength)
    blurred = pale.filter(ImageFilter.GaussianBlur(strength * min(small.size) / 25))
    values = numpy.asarray(blurred, dtype=numpy.float32)
    noise = numpy.random.default_rng(rng.getrandbits(32)).normal(0, 60 * strength, values.shape)
    return Image.fromarray(numpy.clip(values + noise, 0, 255).astype(numpy.uint8))


def draw(folder: Path, pictures: int, hardness: float, seed: int) -> Path:
    """Writes the pictures and a manifest with the right answers; returns the manifest."""
    rng, manifest = Random(f"trust/{seed}"), folder / "manifest.jsonl"
    (folder / "images").mkdir()
    with manifest.open("w", encoding="utf-8") as file:
        for number in range(pictures):
            scene = random_scene(rng)
            question = ask_any(scene, rng)
            name = f"images/{number:05}.png"
            harder(render(scene, rng), rng, hardness).save(folder / name)
            row = {
                "id": str(number), "prompt": question.text, "images": [name], "temperature": 0, "max_new_tokens": 64,
                "answer": question.answer, "kind": question.kind,
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
    return manifest


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--hardness", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generate", default="", help="further flags of generate, in one string")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, output = (
            draw(folder, options.pictures, options.hardness, options.seed),
            folder / "answers.jsonl",
        )
        command = [
            sys.executable,
            "-m",
            "pixano_vlm",
            "generate",
            str(manifest),
            "-m",
            "shapes",
            "-o",
            str(output),
        ]
        subprocess.run([*command, "-q", *options.generate.split()], check=True)
        judge = judge_for(output, open_truth("answer"), "exact", Tolerance())
        found = [(judge.value(line), confidence_of(line, raw=True)) for line in read_lines(output)]
    right = numpy.array([int(value or 0) for value, _ in found])
    print(f"{len(right):,} answers, {right.mean():.1%} right (hardness {options.hardness})")
    if any(confidence is None for _, confidence in found):
        print("The answers have no confidence.", file=sys.stderr)
        return 1
    confidence = numpy.array([confidence for _, confidence in found])
    figures = {"records": len(right), "right": right.mean(), **measured(confidence, right, options.seed)}
    for key, value in figures.items():
        print(f"{key:32} {value:.4g}")
    print(json.dumps({key: None if math.isnan(value) else float(value) for key, value in figures.items()}))
    return 0


def measured(confidence: numpy.ndarray, right: numpy.ndarray, seed: int) -> dict[str, float]:
    """The figures: ranking, calibration on a tenth, and the promise over random halvings."""
    random = numpy.random.default_rng(seed)
    order = random.permutation(len(right))
    tenth, rest = order[: len(right) // 10], order[len(right) // 10 :]
    fitted = calibrate.fit(confidence[tenth], right[tenth], model="shapes", metric="exact")
    calibrated = numpy.array([fitted.apply(float(value)) for value in confidence[rest]])
    kept, shares = 0, []
    for _ in range(SPLITS):
        order = random.permutation(len(right))
        here, there = order[: len(right) // 2], order[len(right) // 2 :]
        found = accept(confidence[here], right[here], WANTED)
        inside = confidence[there] >= (math.inf if found.threshold is None else found.threshold)
        kept += not inside.any() or right[there][inside].mean() >= WANTED
        shares.append(inside.mean())
    return {
        "auroc": auroc(confidence, right),
        "calibration_error_before": calibration_error(reliability(confidence[rest], right[rest])),
        "calibration_error_after": calibration_error(reliability(calibrated, right[rest])),
        "promise_kept": kept / SPLITS,
        "share_accepted": float(numpy.mean(shares)),
    }


if __name__ == "__main__":
    sys.exit(main())
