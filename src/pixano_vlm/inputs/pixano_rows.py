"""A Pixano dataset as it was exported -> rows: its unanswered questions, or with a prompt each record with an image.

The question's type decides how it is answered: one of its choices by their probabilities, several or an explanation
in JSON, anything else as free text. Turns before it in its conversation come first, without unanswered questions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ManifestError, RecordError, UsageError
from pixano_vlm.inputs.columns import Reading
from pixano_vlm.inputs.file import InputFile
from pixano_vlm.inputs.rows import Layout, Problem, Row, Rows, line_of
from pixano_vlm.pixano_jsonl.answer_text import MOST_CHOICES, read_answer
from pixano_vlm.pixano_jsonl.conversation import AskedQuestion, Turns, turns_of
from pixano_vlm.pixano_jsonl.dataset_folder import (
    SPEC,
    DatasetFolder,
    DatasetRow,
    conversation_id,
    is_exported,
    view_id,
)
from pixano_vlm.pixano_jsonl.line import QUESTION_TYPES, DatasetLine, DatasetMessage
from pixano_vlm.pixano_jsonl.origin import KEY
from pixano_vlm.records.request import Origin

__all__ = ["PixanoRows", "dataset_files"]

Values = dict[str, Any]


def dataset_files(path: Path) -> tuple[Path, ...]:
    """The files of a dataset's folder that are read.

    Raises:
        ManifestError: When there are none.
    """
    spec = path / SPEC
    return (*([spec] if spec.is_file() else []), *DatasetFolder(path).files)


class PixanoRows(Rows):
    """The rows of a dataset's folder. Rows are called by their line in the file of their split.

    Args:
        file: The folder.
        reading: How it is to be read; with a template every record is asked that, instead of its questions.

    Raises:
        ManifestError: When the folder cannot be read, or is of another version.
        UsageError: When the prompt has a placeholder that no record fills.
    """

    def __init__(self, file: InputFile, reading: Reading) -> None:
        assert file.path is not None, "a folder in a store is not looked into"
        for flag, _ in reading.naming.flags():
            raise UsageError(
                f"{flag} goes with a table or lines of JSON, not with a Pixano dataset.", hint="Leave it out."
            )
        self._folder, self._template = DatasetFolder(file.path), reading.template
        self.layout = Layout(file.name, file.path)
        declared = self._folder.schema.get("record") or {}
        if self._template is not None and self._folder.schema:
            self._template.check(["id", "split", *(declared.get("attrs") or ())])
        self._count: int | None = None

    def rows(self) -> Iterator[Row]:
        """Each question that nobody has answered; with a prompt, each record."""
        folders: dict[Path, str] = {}
        for row in self._folder.rows():
            base = folders.setdefault(row.file.parent, os.path.realpath(row.file.parent))
            origin = Origin(row.source, base)
            own = row.values.get("id")
            name = own if isinstance(own, str) and own else f"{row.source}:{row.number}"
            try:
                line = row.read()
                yield from self._of_line(row, line, origin)
            except RecordError as error:
                yield Row(row.number, b"{}", Problem(error.message, error.hint), name, origin)

    def count(self) -> int:
        """How many there are.

        Raises:
            ManifestError: When there are none, which says why.
        """
        if self._count is None:
            self._count = sum(1 for _ in self.rows())
            if not self._count:
                raise ManifestError(
                    f"{self.layout.name} has no question without an answer.",
                    hint='Ask about every image of it: --prompt "Describe this image."',
                )
        return self._count

    def _of_line(self, row: DatasetRow, line: DatasetLine, origin: Origin) -> Iterator[Row]:
        if line.id is None:
            raise RecordError(
                "the record has no id, which its answers would be imported by.",
                hint="Import the dataset into Pixano and export it: the exporter writes ids.",
            )
        split = line.split or row.split
        images = self._images(line)
        if self._template is not None:
            if not images:
                raise RecordError("none of its views is an image.", hint="Only images are looked at.")
            prompt = self._template.fill({**line.attrs, "id": line.id, "split": split})
            yield _row(row, origin, {"id": line.id, "prompt": prompt}, line, images, {"split": split})
            return
        for place, conversation in enumerate(line.conversations):
            id = conversation_id(line.id, place, conversation.id)
            turns = turns_of(conversation.messages, is_exported=is_exported(line.views))
            for question in turns.questions:
                if question.given:
                    continue
                own = id if question.number == 0 else f"{id}:{question.number}"
                where = {
                    "split": split, "conversation": id, "question": question.number,
                    "question_type": question.message.question_type, "choices": question.message.choices,
                }  # fmt: skip
                try:
                    asked = {"id": own, **_asked(question.message), "prompt": _prompt(turns, question)}
                    shown = _shown(question.message, images)
                    yield _row(row, origin, asked, line, shown, where)
                except RecordError as error:
                    known = line_of({"id": own})
                    yield Row(row.number, known, Problem(error.message, error.hint), None, origin)

    def _images(self, line: DatasetLine) -> dict[str, str]:
        """The sources of a record's image views, by the views' names."""
        found: dict[str, str] = {}
        for view, payload in line.views.items():
            source = payload.get("uri") if isinstance(payload, dict) else payload
            if isinstance(source, str) and source and self._folder.is_image(view, payload):
                found[view] = source
        return found


def _row(
    row: DatasetRow, origin: Origin, asked: Values, line: DatasetLine, images: dict[str, str], where: Values
) -> Row:
    record = line.id or ""
    views = {view: view_id(record, view, source) for view, source in images.items()}
    place = {
        "record": record,
        "views": views,
        **{key: value for key, value in where.items() if value is not None},
    }
    values = {**asked, "images": list(images.values()), "metadata": {**line.attrs, KEY: place}}
    return Row(row.number, line_of(values), None, None, origin)


def _shown(question: DatasetMessage, images: dict[str, str]) -> dict[str, str]:
    """The images that a question is about: those of its views, or all of the record."""
    named = {view: images[view] for view in question.views or () if view in images}
    if images and (named or not question.views):
        return named or images
    raise RecordError("the question is about no image.", hint="Only views that are images are looked at.")


def _asked(question: DatasetMessage) -> Values:
    """The settings that a question's type asks for.

    Raises:
        RecordError: When there is no such type, or it lacks its choices.
    """
    kind, choices = question.question_type, question.choices or []
    if kind not in QUESTION_TYPES:
        raise RecordError(
            f"the question has the type {kind!r}.", hint=f"The types are {', '.join(QUESTION_TYPES)}."
        )
    if kind == "OPEN":
        return {}
    if not choices:
        raise RecordError(
            f"the question is {kind} and has no choices.", hint="Give it choices, or make it OPEN."
        )
    if len(choices) > MOST_CHOICES:
        raise RecordError(
            f"the question has {len(choices)} choices, and Pixano's answers have letters for {MOST_CHOICES}.",
            hint="Split the question, or make it OPEN.",
        )
    if kind == "SINGLE_CHOICE":
        return {"choices": choices}
    one: Values = {"enum": choices}
    several: Values = {"type": "array", "items": one, "maxItems": len(choices)}
    chosen = {"choice": one} if kind.startswith("SINGLE") else {"choices": several}
    said: Values = {"explanation": {"type": "string"}} if kind.endswith("EXPLANATION") else {}
    properties = {**chosen, **said}
    schema = {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def _prompt(turns: Turns, question: AskedQuestion) -> str | list[Values]:
    """What is asked: the question's text with its choices, behind the turns before it, where there are any."""
    text = _with_choices(question.message)
    before: list[Values] = [{"role": "system", "content": message.content} for message in turns.system]
    for earlier in turns.questions[: question.number]:
        if earlier.given:
            answer = read_answer(earlier.given[0].content, earlier.message.choices or ())
            before.append({"role": "user", "content": _with_choices(earlier.message)})
            before.append({"role": "assistant", "content": answer})
    return [*before, {"role": "user", "content": text}] if before else text


def _with_choices(question: DatasetMessage) -> str:
    return "\n".join([question.content, *_listed(question.choices or ())])


def _listed(choices: Sequence[str]) -> Iterator[str]:
    return (f"- {choice}" for choice in choices)
