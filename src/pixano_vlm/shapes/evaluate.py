"""How many questions about fresh pictures the model answers exactly right, and how well its regions lie.

Run as `python -m pixano_vlm.shapes.evaluate`. The pictures are drawn from a seed that training never uses,
with all kinds of question equally often and all wordings; an answer counts only if it is the right string.
Questions that ask for regions have pictures of their own, and IoU (boxes) or being inside (points) as measure.
The model is run by transformers alone, in static batches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from . import MODEL_DIR
from .card import write_accuracy
from .draw import Scene, draw, random_scene
from .overlap import PlacesFound, score_regions
from .questions import QUESTION_KINDS, REGION_KINDS, Question, ask_any

NEEDED_OVERALL = 0.95
NEEDED_IN_EVERY_KIND = 0.90
NEEDED_IOU = 0.75
NEEDED_INSIDE = 0.90


@dataclass(frozen=True, slots=True)
class Case:
    """A picture and a question about it."""

    picture: Image.Image
    question: Question
    scene: Scene | None = None
    """As it was drawn; needed only where the question asks for regions."""


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers among those given, for one kind of question or for all."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        """The share that is right; 0 when nothing was asked."""
        return self.right / self.asked if self.asked else 0.0


def fresh_cases(count: int, seed: int, kinds: Sequence[str] = QUESTION_KINDS) -> Iterator[Case]:
    """`count` cases of this seed: one question of these kinds about each picture, the same every time."""
    # Training's generators are seeded with "shapes/train/...": no seed number makes the two meet.
    rng = Random(f"shapes/evaluate/{seed}")
    for _ in range(count):
        picture, scene = draw(random_scene(rng), rng)
        yield Case(picture, ask_any(scene, rng, dict.fromkeys(kinds, 1.0)), scene)


@torch.inference_mode()
def answer(
    model: Any, processor: Any, cases: Sequence[Case], *, batch_size: int = 64, max_new_tokens: int = 96
) -> list[str]:
    """The model's greedy answer to every case, in order, in left-padded batches."""
    texts = []
    for start in range(0, len(cases), batch_size):
        batch = cases[start : start + batch_size]
        prompts = [
            processor.apply_chat_template(single_turn(case.question.text), add_generation_prompt=True)
            for case in batch
        ]
        inputs = processor(
            text=prompts,
            images=[[case.picture] for case in batch],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(model.device)
        tokens = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        new_tokens = tokens[:, inputs["input_ids"].shape[1] :]
        texts += processor.batch_decode(new_tokens, skip_special_tokens=True)
    return texts


def single_turn(question: str) -> list[dict[str, Any]]:
    """The chat that asks one question about one picture."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def score(cases: Sequence[Case], texts: Sequence[str]) -> dict[str, Score]:
    """The score of every kind, and of `all` together."""
    scores = {}
    for kind in (*QUESTION_KINDS, "all"):
        results = [
            text == case.question.answer
            for case, text in zip(cases, texts, strict=True)
            if kind in (case.question.kind, "all")
        ]
        scores[kind] = Score(sum(results), len(results))
    return scores


def region_scores(cases: Sequence[Case], texts: Sequence[str]) -> dict[str, PlacesFound]:
    """How the regions lie of every kind of question that asks for them, and of `all` together."""
    scores = dict.fromkeys(REGION_KINDS, PlacesFound())
    for case, text in zip(cases, texts, strict=True):
        if case.scene is not None and case.question.kind in scores:
            things = [thing for thing in case.scene.things if case.question.subject.matches(thing)]
            scores[case.question.kind] += score_regions(case.question.kind, things, text)
    return {**scores, "all": sum(scores.values(), PlacesFound())}


def good_enough(scores: dict[str, Score], regions: dict[str, PlacesFound]) -> bool:
    """Whether the scores reach what the shipped model promises: overall, in every kind, and where regions lie."""
    return (
        scores["all"].share >= NEEDED_OVERALL
        and all(scores[kind].share >= NEEDED_IN_EVERY_KIND for kind in QUESTION_KINDS)
        and regions["all"].mean_iou >= NEEDED_IOU
        and regions["all"].inside >= NEEDED_INSIDE
    )


def table(scores: dict[str, Score]) -> str:
    """The scores as a Markdown table, which reads as well in a terminal as in the model card."""
    lines = ["| kind       | asked | right | exact   |", "|:-----------|------:|------:|--------:|"]
    for kind, result in scores.items():
        lines.append(f"| {kind:<10} | {result.asked:>5} | {result.right:>5} | {result.share:>7.2%} |")
    return "\n".join(lines)


def region_table(scores: dict[str, PlacesFound]) -> str:
    """How the regions lie, as a Markdown table."""
    lines = [
        "| kind   | asked | boxes | mean IoU | points | inside  | labels right |",
        "|:-------|------:|------:|---------:|-------:|--------:|-------------:|",
    ]
    for kind, result in scores.items():
        iou = f"{result.mean_iou:.3f}" if result.overlaps else ""
        inside = f"{result.inside:.2%}" if result.hits else ""
        boxes, points = (len(each) or "" for each in (result.overlaps, result.hits))
        lines.append(
            f"| {kind:<6} | {result.asked:>5} | {boxes:>5} | {iou:>8} | {points:>6} | {inside:>7} |"
            f" {result.named:>12.2%} |"
        )
    return "\n".join(lines)


def load(folder: Path) -> tuple[Any, Any]:
    """The model (float32, evaluation mode) and its processor from a checkpoint folder."""
    model: Any = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    model.eval()
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
    return model, processor


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 0 when the model is good enough, 1 when it is not."""
    parser = argparse.ArgumentParser(prog="python -m pixano_vlm.shapes.evaluate", description=__doc__)
    parser.add_argument(
        "--pictures", type=int, default=2000, help="how many fresh pictures for each table (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which fresh pictures (%(default)s)")
    parser.add_argument("--model", type=Path, default=MODEL_DIR, help="the checkpoint folder")
    parser.add_argument("--card", action="store_true", help="put the tables into the model's card")
    parser.add_argument(
        "--show-wrong", action="store_true", help="print every answer that is not exact to stderr"
    )
    options = parser.parse_args(arguments)

    model, processor = load(options.model)
    cases = list(fresh_cases(options.pictures, options.seed))
    texts = answer(model, processor, cases)
    if options.show_wrong:
        for number, (case, text) in enumerate(zip(cases, texts, strict=True)):
            if text != case.question.answer:
                asked = case.question
                print(f"{number}: {asked.text} {text!r}, not {asked.answer!r}", file=sys.stderr)
    scores = score(cases, texts)
    region_cases = list(fresh_cases(options.pictures, options.seed, REGION_KINDS))
    regions = region_scores(region_cases, answer(model, processor, region_cases))
    print(f"{table(scores)}\n\n{region_table(regions)}")
    if options.card:
        measured = (
            f"Exact answers about {options.pictures:,} fresh pictures (seed {options.seed}, which training"
            " never draws from), one question each, asked alone:"
        )
        about_regions = (
            f"Regions in {options.pictures:,} more. A box that is missing, or that nothing is in, has an IoU of 0;"
            " labels are those of the boxes and points that were found:"
        )
        write_accuracy(
            options.model, f"{measured}\n\n{table(scores)}\n\n{about_regions}\n\n{region_table(regions)}"
        )
    return 0 if good_enough(scores, regions) else 1


if __name__ == "__main__":
    sys.exit(main())
