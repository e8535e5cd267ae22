"""One line of a Pixano dataset: a record with its views, its conversations and what is annotated in it.

The names are those of Pixano's JSONL, version 2, which admits no others. A line that is read is kept whole beside
what is read of it here, so that it can be written again with nothing lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "LABEL_ATTRS",
    "QUESTION_TYPES",
    "Annotation",
    "DatasetConversation",
    "DatasetEntity",
    "DatasetLine",
    "DatasetMessage",
    "box_shares",
    "label_of",
]

QUESTION_TYPES = (
    "OPEN",
    "SINGLE_CHOICE",
    "SINGLE_CHOICE_EXPLANATION",
    "MULTI_CHOICE",
    "MULTI_CHOICE_EXPLANATION",
)


class DatasetMessage(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["SYSTEM", "QUESTION", "ANSWER"]
    content: str
    question_type: str | None = None
    choices: list[str] | None = None
    user: str | None = None
    views: list[str] | None = None


class DatasetConversation(BaseModel):
    """Questions and answers about one record."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    messages: list[DatasetMessage] = Field(min_length=1)


class Annotation(BaseModel):
    """What is annotated of an entity: a box, a label and others, of which boxes and labels are read here."""

    model_config = ConfigDict(extra="allow")

    kind: str
    id: str | None = None
    view: str | None = None
    coords: list[float] | None = None
    format: Literal["xywh", "xyxy"] | None = None
    is_normalized: bool | None = None
    confidence: float | None = None
    labels: list[str] | None = None
    attrs: dict[str, Any] = Field(default_factory=dict)


class DatasetEntity(BaseModel):
    """One thing in a record."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    attrs: dict[str, Any] = Field(default_factory=dict)
    annotations: list[Annotation] = Field(default_factory=list)


class DatasetLine(BaseModel):
    """One record."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    split: str | None = None
    attrs: dict[str, Any] = Field(default_factory=dict)
    views: dict[str, Any]
    entities: list[DatasetEntity] = Field(default_factory=list)
    conversations: list[DatasetConversation] = Field(default_factory=list)
    annotation_files: list[dict[str, Any]] = Field(default_factory=list)


LABEL_ATTRS = ("category", "label", "name", "class_name", "class")
"""Attributes of an entity that hold what it is; the first that it has is meant."""


def label_of(entity: DatasetEntity) -> str:
    """What an entity is: by its attribute, else by its first label; empty where neither says."""
    named = next((entity.attrs[name] for name in LABEL_ATTRS if entity.attrs.get(name)), None)
    labels = (label for annotation in entity.annotations for label in annotation.labels or ())
    return str(named) if named is not None else next(labels, "")


def box_shares(
    annotation: Annotation, view: Any, defaults: Mapping[str, Any]
) -> tuple[float, float, float, float] | None:
    """An annotation's box as `(x0, y0, x1, y1)` in shares of the image; None where it is not one, or has no size.

    Args:
        annotation: The annotation.
        view: The payload of its view, which says how large the image is where coordinates are pixels.
        defaults: What the file's header says of boxes that do not say it themselves.
    """
    coords = annotation.coords
    if annotation.kind != "bbox" or coords is None or len(coords) != 4:
        return None
    x0, y0, x1, y1 = coords
    if (annotation.format or defaults.get("format")) != "xyxy":
        x1, y1 = x0 + x1, y0 + y1
    is_normalized = annotation.is_normalized
    if is_normalized if is_normalized is not None else defaults.get("is_normalized"):
        return x0, y0, x1, y1
    width, height = (view.get("width"), view.get("height")) if isinstance(view, dict) else (None, None)
    return (x0 / width, y0 / height, x1 / width, y1 / height) if width and height else None
