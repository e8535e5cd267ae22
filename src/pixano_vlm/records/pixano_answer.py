"""One answer as Pixano has it: a message behind its question, labels as a classification, boxes as entities.

Ids are derived from the record, the model and the question, so that the same run imported again is an update. A box
is `[x0, y0, x1, y1]` in shares of the upright image; points have no place in Pixano without a template, and are left
out. A label's confidence is its probability; a box of unknown confidence has -1, as Pixano's own do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixano_vlm.models.region import UNNAMED, Region
from pixano_vlm.pixano_jsonl.answer_text import MOST_CHOICES, answer_text
from pixano_vlm.pixano_jsonl.ids import derived_id
from pixano_vlm.pixano_jsonl.line import LABEL_ATTRS
from pixano_vlm.pixano_jsonl.origin import DatasetPlace
from pixano_vlm.records.output_line import OutputLine

__all__ = ["Tables", "answer_of", "asked_in", "entities_of", "new_conversation"]

Values = dict[str, Any]
Labels = list[tuple[list[str], list[float], Values | None]]
"""Labels with their confidences, or another annotation instead."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What a dataset has a place for."""

    annotations: frozenset[str] | None = None
    """Kinds of annotation; None: nobody knows, and it may have any."""
    entity_attrs: frozenset[str] = frozenset()

    def has(self, kind: str) -> bool:
        """Whether it has a table for a kind of annotation."""
        return self.annotations is None or kind in self.annotations

    @property
    def label_attr(self) -> str | None:
        """The attribute of an entity that says what it is."""
        return next((name for name in LABEL_ATTRS if name in self.entity_attrs), None)


def answer_of(line: OutputLine, question_type: str | None, choices: Sequence[str]) -> str | None:
    """The content of the answer to a question; None where the record failed, or chose nothing that there is."""
    text = line.generated_text
    if line.status != "ok" or text is None:
        return None
    if question_type in (None, "OPEN"):
        return text.strip() or None
    if question_type == "SINGLE_CHOICE":
        return answer_text([choices.index(text.strip())]) if text.strip() in choices else None
    parsed = line.parsed if isinstance(line.parsed, dict) else {}
    named = parsed.get("choices", [parsed.get("choice")])
    places = [choices.index(name) for name in named if name in choices] if isinstance(named, list) else []
    explanation = parsed.get("explanation")
    return answer_text(places, explanation if isinstance(explanation, str) else "") if places else None


def asked_in(line: OutputLine) -> tuple[str, list[str]]:
    """The type and the choices of the question that a line of a run's own prompt answers."""
    choices = list(line.probabilities or ())
    return ("SINGLE_CHOICE", choices) if 0 < len(choices) <= MOST_CHOICES else ("OPEN", [])


def new_conversation(line: OutputLine, record: str, views: Sequence[str], answer: str) -> Values:
    """A conversation of the prompt of a run and its answer."""
    turns = line.prompt if isinstance(line.prompt, list) else [{"role": "user", "content": line.prompt or ""}]
    question_type, choices = asked_in(line)
    messages: list[Values] = []
    for turn in turns:
        role, text = turn.get("role"), _text_of(turn.get("content"))
        if role == "assistant":
            messages.append({"type": "ANSWER", "content": text})
        elif role in ("system", "developer"):
            messages.append({"type": "SYSTEM", "content": text})
        else:
            question = {"type": "QUESTION", "content": text, "question_type": "OPEN"}
            messages.append({**question, "views": list(views[:1])} if views else question)
    if messages and messages[-1]["type"] == "QUESTION" and choices:
        messages[-1] |= {"question_type": question_type, "choices": choices}
    messages.append({"type": "ANSWER", "content": answer, **({"user": line.model} if line.model else {})})
    id = derived_id(record, "vlm", line.model or "", *(message["content"] for message in messages[:-1]))
    return {"id": id, "messages": messages}


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and part.get("type") == "text"
        )
    return content if isinstance(content, str) else ""


def entities_of(line: OutputLine, place: DatasetPlace, tables: Tables, source: Values) -> Iterator[Values]:
    """The entities that an answer adds to its record: one for its labels, and one for each of its boxes.

    Args:
        line: The answer's line.
        place: Where it belongs.
        tables: What the dataset has a place for.
        source: What each annotation says of where it comes from.
    """
    views = list(place.views)
    if line.probabilities and tables.has("classification") and views:
        labels = sorted(line.probabilities, key=lambda label: -(line.probabilities or {})[label])
        confidences = [round(line.probabilities[label], 6) for label in labels]
        yield _entity(line, place, "labels", views[0], source, [(labels, confidences, None)], {})
    for number, region in enumerate(line.regions or ()):
        box = _shares(region, line)
        if box is None or region.image >= len(views) or not tables.has("bbox"):
            continue
        label, attr = region.label or UNNAMED, tables.label_attr
        sure = 1.0 if region.confidence is None else region.confidence
        given: Labels = [([label], [sure], None)] if tables.has("classification") else []
        bbox = {
            "kind": "bbox", "coords": box, "format": "xyxy", "is_normalized": True,
            "confidence": -1.0 if region.confidence is None else region.confidence,
        }  # fmt: skip
        attrs = {} if attr is None else {attr: label}
        yield _entity(line, place, str(number), views[region.image], source, [([], [], bbox), *given], attrs)


def has_boxes(line: OutputLine) -> bool:
    """Whether an answer has regions that become boxes."""
    return any(region.bounds is not None for region in line.regions or ())


def _shares(region: Region, line: OutputLine) -> list[float] | None:
    box, sizes = region.bounds, line.image_sizes or []
    if box is None or region.image >= len(sizes):
        return None
    size = sizes[region.image]
    shares = (box[0] / size.width, box[1] / size.height, box[2] / size.width, box[3] / size.height)
    return [round(min(max(share, 0.0), 1.0), 6) for share in shares]


def _entity(
    line: OutputLine, place: DatasetPlace, name: str, view: str, source: Values,
    annotations: Sequence[tuple[list[str], list[float], Values | None]], attrs: Mapping[str, Any],
) -> Values:  # fmt: skip
    id = derived_id(place.record, "vlm", line.model or "", line.id, name)
    made = []
    for labels, confidences, other in annotations:
        own = other or {"kind": "classification", "labels": labels, "confidences": confidences}
        made.append({"id": derived_id(id, own["kind"], 0), **own, "view": view, "source": source})
    return {"id": id, **({"attrs": dict(attrs)} if attrs else {}), "annotations": made}
