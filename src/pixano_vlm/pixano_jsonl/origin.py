"""Which record and question of a Pixano dataset an output line answers: kept in its metadata, under `pixano`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["KEY", "DatasetPlace", "place_of"]

KEY = "pixano"


class DatasetPlace(BaseModel):
    """Where in a dataset an answer belongs."""

    model_config = ConfigDict(extra="ignore")

    record: str
    split: str
    views: dict[str, str]
    """The image views that the model was shown, in the order of the line's images, each with the id of its row."""
    conversation: str | None = None
    """None where the prompt was the run's own, and not a question of the dataset."""
    question: int | None = None
    """The question's number in its conversation, from 0."""
    question_type: str | None = None
    choices: list[str] | None = None


def place_of(metadata: Mapping[str, Any]) -> DatasetPlace | None:
    """The place that a line's metadata names; None where it names none."""
    try:
        return DatasetPlace.model_validate(metadata[KEY]) if KEY in metadata else None
    except ValidationError:
        return None
