"""What a processor's own parser made of an answer -> places. Knows the two forms that transformers' parsers give.

Florence-2: `{task: {"bboxes": [[x0, y0, x1, y1]], "labels": [...]}}`, or with `quad_boxes`, `polygons`,
`bboxes_labels`, in pixels. Kosmos-2: the caption and `(phrase, (start, end), [(x0, y0, x1, y1)])`, from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pixano_vlm.regions.candidate import Candidate, Kind, boxes_in, numbers_of

__all__ = ["read_florence2", "read_kosmos2"]


def read_florence2(parsed: Any) -> list[Candidate]:
    """The places that Florence-2's `post_process_generation` found."""
    answers = parsed.values() if isinstance(parsed, dict) else ()
    return [place for answer in answers if isinstance(answer, dict) for place in _florence2(answer)]


def _florence2(answer: dict[str, Any]) -> Iterator[Candidate]:
    labels, scores = answer.get("labels") or [], answer.get("scores") or []
    box_labels = answer.get("bboxes_labels") or labels
    for index, box in enumerate(answer.get("bboxes") or []):
        yield Candidate("box", numbers_of(box), _at(box_labels, index), confidence=_at(scores, index))
    for index, quad in enumerate(answer.get("quad_boxes") or []):
        yield _polygon(quad, _at(labels, index))
    polygon_labels = answer.get("polygons_labels") or labels
    for index, polygons in enumerate(answer.get("polygons") or []):
        for polygon in polygons:  # a thing that something is in front of has several
            yield _polygon(polygon, _at(polygon_labels, index))


def _polygon(corners: Any, label: Any) -> Candidate:
    kind: Kind = "polygon"
    return Candidate(kind, numbers_of(corners), label)


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) and values[index] != "" else None


def read_kosmos2(parsed: Any) -> list[Candidate]:
    """The places of the entities that Kosmos-2's `post_process_generation` found."""
    if not isinstance(parsed, list | tuple) or len(parsed) != 2 or isinstance(parsed[1], str):
        return []
    return [
        place
        for phrase, _, boxes in parsed[1]
        for box in boxes
        for place in boxes_in(numbers_of(box), phrase or None)
    ]
