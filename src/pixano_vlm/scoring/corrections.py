"""What reviewers made of answers that were imported into Pixano: accepted, corrected or rejected.

An answer that is there as it was is accepted, one that reads otherwise is corrected, and one that is gone or empty is
rejected; so is a box that is there, was moved or renamed, or is gone. An annotation that carries a `review_status`
of its own is what that says. Where the export includes the records' `status`, what is unchanged in a record that
nobody has finished is pending.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixano_vlm.errors import RecordError, UsageError
from pixano_vlm.pixano_jsonl.answer_text import EMPTY, chosen_in
from pixano_vlm.pixano_jsonl.dataset_folder import DatasetFolder, DatasetRow, conversation_id
from pixano_vlm.pixano_jsonl.line import DatasetEntity, DatasetLine, DatasetMessage, box_shares, label_of
from pixano_vlm.pixano_jsonl.origin import DatasetPlace, place_of
from pixano_vlm.records.output_line import OutputLine
from pixano_vlm.records.pixano_answer import Tables, answer_of, asked_in, entities_of, new_conversation
from pixano_vlm.scoring.intervals import Estimate, share
from pixano_vlm.scoring.judge import read_lines

__all__ = ["Corrections", "Reviewed", "review"]

STATUSES = ("accepted", "corrected", "rejected", "pending")
UNFINISHED = frozenset({"new", "inProgress"})
"""The statuses of records that nobody has finished; Pixano's others are inReview and validated."""
_SAME = 1e-4
"""How far a coordinate of a box may be off, in shares of the image, for it to be where it was."""
BOXES = "box: "
"""What the name of a question begins with that is a label of boxes."""


@dataclass(slots=True)
class Reviewed:
    """How often answers to one question were accepted, corrected and rejected."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))

    @property
    def accepted(self) -> Estimate:
        """The share that was accepted, of those that are not pending."""
        decided = sum(self.counts[status] for status in STATUSES[:3])
        return share(self.counts["accepted"], decided)


@dataclass(slots=True)
class Corrections:
    """What became of the answers of some outputs."""

    truth: str
    by_question: dict[tuple[str, str], Reviewed] = field(default_factory=lambda: defaultdict(Reviewed))
    """By question, or label of boxes, and model."""
    by_model: dict[str, Reviewed] = field(default_factory=lambda: defaultdict(Reviewed))
    not_there: int = 0
    """Answers whose record or conversation is not in the export."""
    failed: int = 0

    def add(self, question: str, model: str, status: str) -> None:
        """Counts one."""
        self.by_question[question, model].counts[status] += 1
        self.by_model[model].counts[status] += 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "truth": self.truth,
            "models": [{"model": model, **_counts(one)} for model, one in self.by_model.items()],
            "questions": [
                {"question": question, "model": model, **_counts(one)}
                for (question, model), one in self.by_question.items()
            ],
            "not_in_the_export": self.not_there,
            "failed": self.failed,
        }


def _counts(one: Reviewed) -> dict[str, Any]:
    accepted = one.accepted
    return {**one.counts, "accepted_share": None if math.isnan(accepted.value) else accepted.to_dict()}


@dataclass(slots=True)
class _Talk:
    """A conversation as it was exported, without what its answers belong to."""

    questions: list[str]
    answers: list[tuple[int, DatasetMessage]]
    """Each with the number of the question before it; it belongs to that one or, sorted in front of it, the next."""


@dataclass(frozen=True, slots=True)
class _Given:
    """An answer that a model gave."""

    number: int
    content: str
    is_unfinished: bool
    """Whether nobody has finished its record."""


@dataclass(slots=True)
class _Export:
    """What the reviewed export has, by id."""

    records: dict[str, bool]
    """Whether nobody has finished it."""
    conversations: dict[str, _Talk]
    entities: dict[str, tuple[DatasetEntity, dict[str, Any], dict[str, Any]]]
    """Each with the views of its record, and what its file says of boxes."""


def review(outputs: tuple[Path, ...], export: Path) -> Corrections:
    """What reviewers made of the answers of some outputs.

    Args:
        outputs: What `generate` wrote about the dataset, or about images that were imported as one.
        export: The dataset as it was exported after the review.

    Raises:
        UsageError: When an output cannot be read, or none of its answers is in the export.
        ManifestError: When the export cannot be read.
    """
    found, corrections = _read(DatasetFolder(export)), Corrections(export.name)
    for output in outputs:
        talks: dict[tuple[str, str], list[_Given]] = defaultdict(list)
        """By conversation and model."""
        for line in read_lines(output):
            if line.status != "ok":
                corrections.failed += 1
                continue
            _take(line, found, talks, corrections)
        for (id, model), given in talks.items():
            talk = found.conversations[id]
            for one, status in zip(given, _statuses(given, talk, model), strict=True):
                corrections.add(talk.questions[one.number], model, status)
    if not corrections.by_model:
        raise UsageError(
            f"no answer of {', '.join(map(str, outputs))} is in {export}.",
            hint="Import the answers into Pixano, review them there, and export the dataset again.",
        )
    return corrections


def _read(folder: DatasetFolder) -> _Export:
    found = _Export({}, {}, {})
    for row in folder.rows():
        try:
            line = row.read()
        except RecordError as error:
            raise UsageError(f"{row.source}:{row.number}: {error.message}", hint=error.hint) from None
        _add(found, row, line)
    return found


def _add(found: _Export, row: DatasetRow, line: DatasetLine) -> None:
    record = line.id or ""
    found.records[record] = line.attrs.get("status") in UNFINISHED
    for place, conversation in enumerate(line.conversations):
        talk = _Talk([], [])
        for message in conversation.messages:
            if message.type == "QUESTION":
                talk.questions.append(message.content)
            elif message.type == "ANSWER" and message.content.strip() not in EMPTY:
                talk.answers.append((max(len(talk.questions) - 1, 0), message))
        found.conversations[conversation_id(record, place, conversation.id)] = talk
    for entity in line.entities:
        if entity.id is not None:
            found.entities[entity.id] = (entity, line.views, row.defaults)


def _take(
    line: OutputLine, export: _Export, talks: dict[tuple[str, str], list[_Given]], corrections: Corrections
) -> None:
    """Takes an answer to its conversation, and counts its boxes."""
    views = {("image" if number == 0 else f"image_{number + 1}"): "" for number in range(len(line.images))}
    place = place_of(line.metadata) or DatasetPlace(record=line.id, split="", views=views)
    model, is_unfinished = line.model or "-", export.records.get(place.record, False)
    kind, choices = (place.question_type, place.choices or []) if place.conversation else asked_in(line)
    content = answer_of(line, kind, choices)
    if content is not None:
        number, id = place.question or 0, place.conversation
        if id is None:
            made = new_conversation(line, place.record, list(place.views), content)
            id, number = made["id"], sum(message["type"] == "QUESTION" for message in made["messages"]) - 1
        talk = export.conversations.get(id)
        if talk is not None and number < len(talk.questions):
            talks[id, model].append(_Given(number, content, is_unfinished))
        elif not line.regions:  # of boxes, the text of the answer need not have been imported
            corrections.not_there += 1
    for entity in entities_of(line, place, Tables(entity_attrs=frozenset({"category"})), {}):
        if entity["annotations"][0]["kind"] != "bbox":
            continue  # a label is part of its answer
        if place.record in export.records:
            status = _box_status(entity, export, is_unfinished=is_unfinished)
            corrections.add(BOXES + entity["attrs"]["category"], model, status)
        else:
            corrections.not_there += 1


def _statuses(given: list[_Given], talk: _Talk, model: str) -> list[str]:
    """What became of a model's answers in one conversation.

    Those that are there as they were are found by what they say. Of the others, an answer that is left at a question
    is what became of the model's: one of the model's user first, since an edit keeps that.
    """
    left = sorted(talk.answers, key=lambda answer: answer[1].user != model)
    found: dict[int, str] = {}
    for place, one in enumerate(given):
        same = next(
            (answer for answer in left if _is_at(answer, one) and _same(answer[1].content, one.content)), None
        )
        if same is not None:
            left.remove(same)
            found[place] = "pending" if one.is_unfinished else "accepted"
    for place, one in enumerate(given):
        if place not in found:
            other = next((answer for answer in left if answer[0] == one.number), None)
            own = (answer for answer in left if _is_at(answer, one) and answer[1].user == model)
            other = other or next(own, None)
            if other is not None:
                left.remove(other)
            found[place] = "rejected" if other is None else "corrected"
    return [found[place] for place in range(len(given))]


def _is_at(answer: tuple[int, DatasetMessage], one: _Given) -> bool:
    return one.number in (answer[0], answer[0] + 1)


def _same(one: str, other: str) -> bool:
    """Whether two answers say the same: white space aside, and choices in any order."""
    (first, why), (second, because) = chosen_in(one), chosen_in(other)
    return sorted(first) == sorted(second) and " ".join(why.split()) == " ".join(because.split())


def _box_status(made: dict[str, Any], export: _Export, *, is_unfinished: bool) -> str:
    kept = export.entities.get(made["id"])
    if kept is None:
        return "rejected"
    entity, views, defaults = kept
    boxes = [annotation for annotation in entity.annotations if annotation.kind == "bbox"]
    if not boxes:
        return "rejected"
    status = boxes[0].attrs.get("review_status")
    if status in STATUSES:
        return str(status)
    before = made["annotations"][0]
    now = box_shares(boxes[0], views.get(boxes[0].view or next(iter(views), "")), defaults)
    is_moved = now is None or any(
        abs(one - other) > _SAME for one, other in zip(now, before["coords"], strict=True)
    )
    label = label_of(entity)
    if is_moved or (label and label != made["attrs"]["category"]):
        return "corrected"
    return "pending" if is_unfinished else "accepted"
