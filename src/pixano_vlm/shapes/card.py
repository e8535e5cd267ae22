"""The embedded model's card: what it is, how it was trained, and once measured, how well it answers.

It knows nothing of how either was done: training hands it facts, the evaluation a table.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .draw import COLOURS, KINDS, LARGEST_EDGE, SMALLEST_EDGE, WIDEST_ASPECT
from .questions import NO_PICTURE, STEP, WHOLE, WORDINGS

_ACCURACY_BEGINS: Final = "<!-- accuracy -->"
_ACCURACY_ENDS: Final = "<!-- end of accuracy -->"

_CARD: Final = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
language: en
tags: [idefics3, synthetic]
---

# shapes

A small vision-language model that answers questions about drawn pictures of coloured shapes. It is a real
Idefics3 (`Idefics3ForConditionalGeneration`) with {parameters:,} parameters, small enough to travel inside
a Python wheel: its purpose is that everything around a model can be tried, tested and measured offline, on
any machine, with answers that are right or wrong.

- **License:** Apache-2.0, weights included. No other model's weights or data went into it.
- **Input:** a picture of any size, squeezed into one 64 x 64 tile (8-pixel patches, pixel shuffle by 2: 16
  image tokens), and a question after it, in the chat template's layout.
- **Output:** one short answer, ended by `<end_of_utterance>`. Boxes and points are JSON as
  Qwen3-VL writes it: `[{{"bbox_2d":[{step},140,440,420],"label":"red star"}}]`, with `point_2d` for a
  point; 0 to {whole} across and down, in steps of {step}.
- **Network:** vision 4 layers of 128, text (Llama) 4 layers of 128, 4 heads each; float32 weights.
- **Tokenizer:** byte-level BPE made for this vocabulary; it knows all 256 bytes, so any text round-trips.

## What it was trained on

Pictures drawn on the fly, none stored: 1 to 4 shapes ({kinds}) in {colours}, each in its own quarter of the
picture, on a light plain or fading background, with some play in place, size, tilt and tint, {smallest} to
{largest} pixels on the longer edge, which is at most {aspect} times the shorter. About each picture up to
{questions} questions in one conversation, in {last:.0%} of them last those that ask for everything, `describe` and
`detect` (what is asked after them could be read off their answers). {system:.0%} of the conversations begin
with a system turn; {without:.0%} have no picture, and there every answer is "{no_picture}"

Nine kinds of question, each in these wordings:

{wordings}

## Recipe

AdamW, weight decay 0.05, betas 0.9 and 0.95, gradients clipped at 1; learning rate up to {rate:g} in one
cycle over {planned} steps (cosine down to 0); batches of {pictures} pictures; bfloat16 autocast over
float32 weights; only the answers, their end token included, count in the loss. For a coordinate the wanted
distribution is a bell about the right one with a standard deviation of {bell} steps, and it counts {share} times
as much as another token.

This checkpoint: {steps} steps, seed {seed}, {minutes:.0f} minutes on {machine} that did other work too.{note}

    python -m pixano_vlm.shapes.train --out DIR{begins_with} --steps {planned} --seed {seed}

## Accuracy

{begins}
Not measured yet.
{ends}

    python -m pixano_vlm.shapes.evaluate

## Limits

It knows nothing but these pictures and these questions. A photograph, a fifth shape, a picture in which
shapes do not keep to their quarters or which is far from square, two pictures at once, or a question in
other words gets an answer that means nothing. Asked where something is that is not there, it finds something else: no
question like that was in its training. It is a test instrument, not an assistant.
"""


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What a training run knows about itself. `machine` names its kind, not which one it was."""

    steps: int
    planned_steps: int
    seed: int
    minutes: float
    machine: str
    pictures_a_step: int
    questions_a_picture: int
    with_system_prompt: float
    without_picture: float
    parameters: int
    description_last: float
    peak_learning_rate: float
    bell_steps: float
    coordinate_weight: float
    has_begun_with_weights: bool
    note: str


def write_card(folder: Path, facts: TrainingFacts) -> None:
    """Write `README.md` into a checkpoint folder, its accuracy still unmeasured."""
    text = _CARD.format(
        parameters=facts.parameters,
        kinds=_spoken(KINDS),
        colours=_spoken(tuple(COLOURS)),
        smallest=SMALLEST_EDGE,
        largest=LARGEST_EDGE,
        aspect=WIDEST_ASPECT,
        questions=facts.questions_a_picture,
        last=facts.description_last,
        system=facts.with_system_prompt,
        without=facts.without_picture,
        no_picture=NO_PICTURE,
        step=STEP,
        whole=WHOLE,
        bell=facts.bell_steps,
        share=facts.coordinate_weight,
        wordings="\n".join(_wordings(kind) for kind in WORDINGS),
        rate=facts.peak_learning_rate,
        begins_with=" --weights OTHERS" if facts.has_begun_with_weights else "",
        planned=facts.planned_steps,
        pictures=facts.pictures_a_step,
        steps=facts.steps,
        seed=facts.seed,
        minutes=facts.minutes,
        machine=facts.machine,
        note=f" {facts.note}" if facts.note else "",
        begins=_ACCURACY_BEGINS,
        ends=_ACCURACY_ENDS,
    )
    (folder / "README.md").write_text(_wrapped(text), encoding="utf-8")


def write_accuracy(folder: Path, measured: str) -> None:
    """Put what was `measured` (Markdown) into a folder's card, instead of what was there."""
    card = folder / "README.md"
    before, rest = card.read_text(encoding="utf-8").split(_ACCURACY_BEGINS, 1)
    _, after = rest.split(_ACCURACY_ENDS, 1)
    text = f"{before}{_ACCURACY_BEGINS}\n{measured}\n{_ACCURACY_ENDS}{after}"
    card.write_text(text, encoding="utf-8")


def _wrapped(text: str) -> str:
    """The card with its plain paragraphs filled again: what was put into them changed their lines' lengths."""
    paragraphs = text.rstrip().split("\n\n")
    filled = (
        textwrap.fill(paragraph, 100, break_on_hyphens=False) if paragraph[:1].isalpha() else paragraph
        for paragraph in paragraphs
    )
    return "\n\n".join(filled) + "\n"


def _wordings(kind: str) -> str:
    # The colour of a red star is not a question.
    the = "the star" if kind == "colour" else "the red star"
    subject = {"a": "a red star", "the": the, "many": "red shapes", "one": "red shape"}
    return f"- `{kind}`: " + " ".join(wording.format(**subject) for wording in WORDINGS[kind])


def _spoken(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
