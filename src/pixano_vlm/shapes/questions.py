"""Questions about a scene, each with exactly one right answer.

Asking and answering are apart: `ask` chooses a question, `right_answer` computes its answer from the scene
alone, so the answer never depends on how the question was chosen or worded. Nothing here looks at a picture.

Questions that ask for regions (`REGION_KINDS`) are about a scene that has been drawn, and their answers are JSON: a
list of objects with `bbox_2d` or `point_2d`, from 0 to 1000 across and down whatever the picture's size, and `label`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from .draw import CELLS, COLOURS, KINDS, Scene, Thing

QUESTION_KINDS: Final = ("describe", "count", "count_kind", "colour", "is_there", "where")
REGION_KINDS: Final = ("box", "point", "detect")
TRAINING_WEIGHTS: Final = {
    "describe": 0.04,
    "count": 0.02,
    "count_kind": 0.10,
    "colour": 0.10,
    "is_there": 0.10,
    "where": 0.14,
    "box": 0.26,
    "point": 0.18,
    "detect": 0.06,
}
"""How often training asks each kind: the kinds that single out one shape are learned last, so asked most."""

WHOLE: Final = 1000
"""What a coordinate of a region says for the picture's right or lower edge."""
STEP: Final = 20
"""Coordinates are multiples of this, so that few tokens name them all: 64 pixels show no more than steps of 16."""

SINGLING_OUT: Final = ("where", "box", "point")
"""The kinds that are about one thing alone, named by its colour and kind."""

NO_PICTURE: Final = "There is no picture."
"""What the model is taught to say when it is asked without a picture."""

# "{a}" is the subject with its article, "{the}" with "the", "{many}" in the plural: "a red star", "the red
# star", "red stars", and "{one}" alone. A subject without a kind is a "shape": "a red shape".
WORDINGS: Final[dict[str, tuple[str, ...]]] = {
    "describe": (
        "Describe the picture.",
        "Describe this image.",
        "What is in this picture?",
        "What do you see?",
    ),
    "count": (
        "How many shapes are there?",
        "How many shapes are in the picture?",
        "Count the shapes.",
    ),
    "count_kind": (
        "How many {many} are there?",
        "How many {many} do you see?",
        "Count the {many}.",
    ),
    "colour": (
        "What colour is {the}?",
        "What color is {the}?",
        "Which colour does {the} have?",
    ),
    "is_there": (
        "Is there {a}?",
        "Is there {a} in the picture?",
        "Do you see {a}?",
    ),
    "where": (
        "Where is {the}?",
        "In which corner is {the}?",
    ),
    "box": (
        "Where is {the}? Answer with its box.",
        "Find {the}. Answer with a JSON list of bbox_2d and label.",
        "What is the bounding box of {the}?",
    ),
    "point": (
        "Point at {the}.",
        "Point to {the}. Answer with a JSON list of point_2d and label.",
    ),
    "detect": (
        "Detect all {many}.",
        "Detect every {one}. Answer with a JSON list of bbox_2d and label.",
        "Find all {many}. Answer with their boxes.",
    ),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a question is about: the things that have this colour, kind and cell; `None` means any."""

    colour: str | None = None
    kind: str | None = None
    cell: int | None = None

    def matches(self, thing: Thing) -> bool:
        """Whether `thing` is one of those the question is about."""
        return (
            self.colour in (None, thing.colour)
            and self.kind in (None, thing.kind)
            and self.cell in (None, thing.cell)
        )

    @property
    def noun(self) -> str:
        """The subject without an article: `red star`, `circle`, `blue shape`, `top left shape`."""
        place = None if self.cell is None else CELLS[self.cell]
        return " ".join(word for word in (place, self.colour, self.kind or "shape") if word)


@dataclass(frozen=True, slots=True)
class Question:
    """A question's kind (of `QUESTION_KINDS` or `REGION_KINDS`), its subject, its words, and its one right answer."""

    kind: str
    subject: Subject
    text: str
    answer: str


def right_answer(kind: str, subject: Subject, scene: Scene) -> str:
    """The one right answer to a question of `kind` about `subject`.

    Raises:
        ValueError: the question has no single answer in this scene (which colour, when there are two such
            shapes?), it asks for regions of what is not drawn, or there is no such kind of question.
    """
    found = [thing for thing in scene.things if subject.matches(thing)]
    match kind:
        case "describe":
            return listing(scene)
        case "count" | "count_kind":
            return str(len(found))
        case "is_there":
            return "yes" if found else "no"
        case "colour" | "where" if len(found) == 1:
            return found[0].colour if kind == "colour" else CELLS[found[0].cell]
        case "detect":
            return regions(found, "bbox_2d")
        case "box" | "point" if len(found) == 1:
            return regions(found, "bbox_2d" if kind == "box" else "point_2d")
        case "colour" | "where" | "box" | "point":
            raise ValueError(f"{kind!r} about {subject.noun!r} is ambiguous: {len(found)} things match")
        case _:
            raise ValueError(f"unknown kind of question {kind!r}; known: {', '.join(WORDINGS)}")


def regions(things: Iterable[Thing], key: str) -> str:
    """The JSON list that says where `things` are, by their boxes (`key` is `bbox_2d`) or points (`point_2d`).

    Raises:
        ValueError: a thing is not drawn.
    """
    found = []
    for thing in things:
        if thing.outline is None:
            raise ValueError(f"the {thing.colour} {thing.kind} is not drawn: it has no place to answer with")
        place: tuple[float, ...] = thing.outline.box if key == "bbox_2d" else thing.outline.centre
        found.append({key: [coordinate(share) for share in place], "label": f"{thing.colour} {thing.kind}"})
    return compact(found)


def compact(value: object) -> str:
    """JSON without blanks, as answers that are held to a schema have it."""
    return json.dumps(value, separators=(",", ":"))


def coordinate(share: float) -> int:
    """What answers say for a place at `share` (0 to 1) of the picture's width or height."""
    return STEP * round(min(max(share, 0.0), 1.0) * WHOLE / STEP)


def listing(scene: Scene) -> str:
    """Everything in the scene in reading order: `a red circle, an orange star and a blue square`."""
    names = [with_article(f"{thing.colour} {thing.kind}") for thing in scene.things]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def with_article(noun: str) -> str:
    """`noun` after "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def ask(kind: str, scene: Scene, rng: Random) -> Question:
    """A question of `kind` about `scene`, its subject and its wording drawn from `rng`.

    Raises:
        ValueError: the scene has nothing that this kind of question can be about without ambiguity, as
            `where` among identical shapes.
    """
    subjects = _subjects(kind, scene, rng)
    if not subjects:
        raise ValueError(f"nothing in this scene can be asked {kind!r} about without ambiguity")
    subject = rng.choice(subjects)
    return Question(kind, subject, wording(kind, subject, rng), right_answer(kind, subject, scene))


def wording(kind: str, subject: Subject, rng: Random) -> str:
    """The words of a question, drawn from `rng`."""
    noun = subject.noun
    words = {"a": with_article(noun), "the": f"the {noun}", "one": noun, "many": f"{noun}s"}
    return rng.choice(WORDINGS[kind]).format(**words)


def ask_any(scene: Scene, rng: Random, weights: dict[str, float] | None = None) -> Question:
    """A question of any kind that the scene allows, kinds drawn by `weights`; without, evenly of `QUESTION_KINDS`."""
    shares = dict(weights or dict.fromkeys(QUESTION_KINDS, 1.0))
    kind = rng.choices(list(shares), weights=list(shares.values()))[0]
    if kind in SINGLING_OUT and not any(_singled_out(scene)):
        # Among identical shapes nothing can be singled out. Every other kind can always be asked.
        shares = {kind: share for kind, share in shares.items() if kind not in SINGLING_OUT}
        kind = rng.choices(list(shares), weights=list(shares.values()))[0]
    return ask(kind, scene, rng)


def ask_several(
    scene: Scene, rng: Random, count: int, weights: dict[str, float] | None = None
) -> list[Question]:
    """Up to `count` questions about one scene, no two about the same thing."""
    questions: dict[tuple[str, Subject], Question] = {}
    for _ in range(4 * count):
        if len(questions) == count:
            break
        question = ask_any(scene, rng, weights)
        questions.setdefault((question.kind, question.subject), question)
    return list(questions.values())


def _subjects(kind: str, scene: Scene, rng: Random) -> list[Subject]:
    """What a question of `kind` can be about in this scene; one is drawn evenly, so shares are set here."""
    things = scene.things
    match kind:
        case "describe" | "count":
            return [Subject()]
        case "count_kind":
            return [_one_trait(things, rng, present=rng.random() < 0.75)]
        case "is_there":
            return [_maybe_there(things, rng, present=rng.random() < 0.5)]
        case "colour":
            by_kind = [Subject(kind=thing.kind) for thing in things]
            single = [subject for subject in by_kind if _is_unique(subject, scene)]
            by_cell = [Subject(cell=thing.cell) for thing in things]
            return single if single and rng.random() < 0.75 else by_cell
        case "detect":
            return [Subject(), _one_trait(things, rng, present=True)]
        case "where" | "box" | "point":
            return list(_singled_out(scene))
        case _:
            raise ValueError(f"unknown kind of question {kind!r}; known: {', '.join(WORDINGS)}")


def _singled_out(scene: Scene) -> Iterator[Subject]:
    """Every subject without a cell that fits just one thing: `red star`, `red shape`, `star`."""
    for thing in scene.things:
        traits = (Subject(thing.colour, thing.kind), Subject(colour=thing.colour), Subject(kind=thing.kind))
        yield from (subject for subject in traits if _is_unique(subject, scene))


def _is_unique(subject: Subject, scene: Scene) -> bool:
    return sum(subject.matches(thing) for thing in scene.things) == 1


def _one_trait(things: tuple[Thing, ...], rng: Random, *, present: bool) -> Subject:
    """A colour or a kind: one that is in the scene, or any at all."""
    thing = rng.choice(things)
    if rng.random() < 0.5:
        return Subject(colour=thing.colour if present else rng.choice(list(COLOURS)))
    return Subject(kind=thing.kind if present else rng.choice(KINDS))


def _maybe_there(things: tuple[Thing, ...], rng: Random, *, present: bool) -> Subject:
    """Something that is in the scene, or something that is not but whose parts may well be."""
    if present:
        thing = rng.choice(things)
        if rng.random() < 0.3:
            return Subject(colour=thing.colour) if rng.random() < 0.5 else Subject(kind=thing.kind)
        return Subject(thing.colour, thing.kind)
    while True:
        # Half of what is absent borrows its colour or its kind from the scene: to say "no" the model must
        # see both of one shape, not one of each.
        colour = rng.choice(things).colour if rng.random() < 0.5 else rng.choice(list(COLOURS))
        kind = rng.choice(things).kind if rng.random() < 0.5 else rng.choice(KINDS)
        subject = Subject(colour, kind)
        if rng.random() < 0.3:
            subject = Subject(colour=colour) if rng.random() < 0.5 else Subject(kind=kind)
        if not any(subject.matches(thing) for thing in things):
            return subject
        # With every kind in the scene no kind is absent; the next draw tries something else.
