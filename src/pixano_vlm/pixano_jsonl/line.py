"""One line of a Pixano dataset: a record with its views, its conversations and what is annotated in it.

The names are those of Pixano's JSONL, version 2, which admits no others. A line that is read is kept whole beside
what is read of it here, so that it can be written again with nothing lost.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "QUESTION_TYPES",
    "Annotation",
    "DatasetConversation",
    "DatasetEntity",
    "DatasetLine",
    "DatasetMessage",
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
