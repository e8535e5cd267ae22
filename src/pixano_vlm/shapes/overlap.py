"""How well the regions of an answer lie on what was drawn: IoU of boxes, points inside their shape, right labels.

Answers are the JSON lists that `questions` teaches, outlines those of `draw`. Knows no model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .draw import Thing
from .questions import WHOLE


@dataclass(frozen=True, slots=True)
class PlacesFound:
    """How the regions of answers lie, those of many answers added up."""

    asked: int = 0
    """Answers."""
    overlaps: tuple[float, ...] = ()
    """The IoU of every box: 0 of a thing without a box, and of a box without a thing."""
    hits: tuple[bool, ...] = ()
    """Of every point, whether it is inside its shape: not where it is missing."""
    labels: tuple[bool, ...] = ()
    """Of every box and point that was found, whether its label is right."""

    @property
    def mean_iou(self) -> float:
        """The mean IoU over all boxes; 0 without any."""
        return _mean(self.overlaps)

    @property
    def inside(self) -> float:
        """The share of the points that are inside their shape; 0 without any."""
        return _mean(self.hits)

    @property
    def named(self) -> float:
        """The share of right labels; 0 without any."""
        return _mean(self.labels)

    def __add__(self, other: PlacesFound) -> PlacesFound:
        """Both together."""
        return PlacesFound(
            self.asked + other.asked,
            self.overlaps + other.overlaps,
            self.hits + other.hits,
            self.labels + other.labels,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """One item of an answer: its numbers as shares of the picture's width and height, and its label."""

    numbers: tuple[float, ...]
    label: str


def score_regions(kind: str, things: Sequence[Thing], text: str) -> PlacesFound:
    """How the answer `text` to a question of `kind` lies.

    Args:
        kind: One of `REGION_KINDS`.
        things: What the question is about, drawn.
        text: The answer; one that is not such a list has no regions.
    """
    if kind == "point":
        places = read_places(text, "point_2d", 2)
        hits, labels = [], []
        for thing in things:
            hit = bool(places) and thing.outline is not None and thing.outline.contains(*places[0].numbers)
            hits.append(hit)
            labels += [place.label == _name(thing) for place in places[:1]]
        return PlacesFound(1, hits=tuple(hits), labels=tuple(labels))
    places = read_places(text, "bbox_2d", 4)
    boxes = [thing.outline.box for thing in things if thing.outline is not None]
    pairs = matched(boxes, [place.numbers for place in places])
    left_over = len(boxes) + len(places) - 2 * len(pairs)
    return PlacesFound(
        1,
        overlaps=(*[iou(boxes[i], places[j].numbers) for i, j in pairs], *[0.0] * left_over),
        labels=tuple(places[j].label == _name(things[i]) for i, j in pairs),
    )


def matched(truth: Sequence[Sequence[float]], found: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs of boxes that overlap, by their indexes: the closest first, and no box in two pairs."""
    overlaps = {(i, j): iou(right, box) for i, right in enumerate(truth) for j, box in enumerate(found)}
    pairs: list[tuple[int, int]] = []
    for i, j in sorted(overlaps, key=lambda pair: -overlaps[pair]):
        if overlaps[i, j] > 0 and all(i != first and j != second for first, second in pairs):
            pairs.append((i, j))
    return pairs


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes `[left, top, right, bottom]`; 0 where they do not meet."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def read_places(text: str, key: str, count: int) -> list[Place]:
    """The objects of a JSON list that have `count` numbers under `key`; none of a text that is anything else."""
    try:
        items = json.loads(text)
    except ValueError:
        return []
    places = []
    for item in items if isinstance(items, list) else []:
        numbers = item.get(key) if isinstance(item, dict) else None
        if isinstance(numbers, list) and len(numbers) == count and all(map(_is_number, numbers)):
            places.append(Place(tuple(number / WHOLE for number in numbers), str(item.get("label"))))
    return places


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _name(thing: Thing) -> str:
    return f"{thing.colour} {thing.kind}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
