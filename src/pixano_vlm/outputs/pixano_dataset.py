"""A finished output as a folder that Pixano's importer takes: `dataset.yaml`, and `metadata.jsonl` for each split.

Answers about a dataset that Pixano exported go back where they belong: the folder has the records that were answered,
with their attributes and views, the conversations that have an answer more, and what is new of entities; imported in
mode `add`, each row is updated or added by its id, and what the folder does not name stays as it is. Answers about
anything else are a dataset of their own. Images are named by their path and not copied.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import yaml

from pixano_vlm.errors import ManifestError, RecordError, RunError
from pixano_vlm.media.sources import is_url, local_path
from pixano_vlm.outputs.forms import Answers, place
from pixano_vlm.outputs.run_file import run_file_path
from pixano_vlm.pixano_jsonl.conversation import turns_of
from pixano_vlm.pixano_jsonl.dataset_folder import (
    HEADER,
    HEADER_KEY,
    LINES,
    SPEC,
    DatasetFolder,
    DatasetRow,
    conversation_id,
    is_dataset_folder,
    is_exported,
    view_id,
)
from pixano_vlm.pixano_jsonl.ids import derived_id
from pixano_vlm.pixano_jsonl.line import DatasetLine, DatasetMessage
from pixano_vlm.pixano_jsonl.origin import DatasetPlace, place_of
from pixano_vlm.records.output_line import OutputLine
from pixano_vlm.records.pixano_answer import (
    Tables,
    answer_of,
    asked_in,
    entities_of,
    has_boxes,
    new_conversation,
)

__all__ = ["pixano_files", "pixano_of", "pixano_rows", "read_folders"]

Values = dict[str, Any]
SPLIT = "default"
"""The split of records that come from elsewhere."""
_REMOTE = ("http://", "https://", "s3://")
"""What an image of a dataset may be named by, besides a path."""


def pixano_of(answers: Answers, path: Path) -> None:
    """A finished output as the folder of a dataset.

    Raises:
        RunError: When the dataset that the answers are about is not there any more, or has no place for them.
    """
    lines = (line for line, _ in answers.rows())
    facts = _facts(answers.output)
    folders = _folders(facts)
    path.mkdir(parents=True, exist_ok=True)
    if folders:
        spec: Values = {key: value for key, value in folders[0].spec.items() if key != "options"}
        records = _updated(lines, folders, _source(answers.output))
    else:
        spec, base = (
            _spec(path.name, answers),
            (facts.get("context") or {}).get("base_dir") or str(Path.cwd()),
        )
        records = _made(lines, base, _source(answers.output))
    _write(path, spec, records)


def pixano_files(path: Path) -> list[Path]:
    """The files of such a folder."""
    return [file for file in (path / SPEC, *sorted(path.glob(f"*/{LINES}"))) if file.is_file()]


def pixano_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Each record's id, and its line as JSON.

    Raises:
        ValueError: When it is not such a folder.
    """
    for file in sorted(path.glob(f"*/{LINES}")):
        for text in file.read_text(encoding="utf-8").splitlines():
            values = json.loads(text)
            if isinstance(values, dict) and HEADER_KEY not in values:
                yield str(values.get("id")), json.dumps([file.parent.name, values], sort_keys=True)


def _facts(output: Path | None) -> Values:
    """What the run file of an output keeps of its inputs; nothing where there is none."""
    try:
        found = json.loads(run_file_path(output).read_text(encoding="utf-8")) if output is not None else {}
    except (OSError, ValueError):
        return {}
    inputs = found.get("inputs") if isinstance(found, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def read_folders(output: Path) -> list[DatasetFolder]:
    """The datasets that the run of an output read, as far as they are where they were."""
    return _folders(_facts(output))


def _folders(facts: Mapping[str, Any]) -> list[DatasetFolder]:
    names = [Path(name) for name in facts.get("names") or ()]
    return [DatasetFolder(name) for name in names if is_dataset_folder(name)]


def _source(output: Path | None) -> str:
    return "" if output is None else f" ({output.name})"


def _stated(model: str | None, run: str) -> Values:
    """Where an annotation comes from: the model and the run."""
    return {"type": "model", "name": f"{model or 'pixano-vlm'}{run}"}


def _write(path: Path, spec: Values, records: Iterable[tuple[str, str | None, Values]]) -> None:
    """Writes the files of a folder, each beside its place first; records are (split, model, line)."""
    with ExitStack() as opened:
        files: dict[str, IO[str]] = {}
        places: dict[Path, Path] = {}
        try:
            for split, source, line in records:
                if split not in files:
                    (path / split).mkdir(exist_ok=True)
                    file = path / split / LINES
                    places[file.with_name(LINES + ".new")] = file
                    files[split] = opened.enter_context(
                        file.with_name(LINES + ".new").open("w", encoding="utf-8", errors="backslashreplace")
                    )
                    defaults = {"source": {"type": "model", "name": source}}
                    files[split].write(json.dumps({HEADER_KEY: HEADER, "defaults": defaults}) + "\n")
                files[split].write(json.dumps(line, ensure_ascii=False) + "\n")
            for one in files.values():
                one.flush()
                os.fsync(one.fileno())
        except BaseException:
            for temporary in places:
                temporary.unlink(missing_ok=True)
            raise
    for temporary, file in places.items():
        temporary.replace(file)
    text = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)
    place(path / SPEC, lambda temporary: _put(temporary, text))


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


# --- answers about a dataset that Pixano exported ---


def _updated(
    lines: Iterable[OutputLine], folders: list[DatasetFolder], run: str
) -> Iterator[tuple[str, str | None, Values]]:
    rows = ((folder, row) for folder in folders for row in folder.rows())
    for id, group in groupby(_placed(lines), key=lambda item: item[1].record):
        folder, row = next(
            ((folder, row) for folder, row in rows if row.values.get("id") == id), (None, None)
        )
        if folder is None or row is None:
            raise RunError(
                f"the record {id!r} is not in {folders[0].path} any more.",
                hint="Name the dataset that the run read as it was, or import the JSONL itself.",
            )
        found = list(group)
        record = _Record(folder, row, run)
        for line, where in found:
            record.add(line, where)
        if record.has_news:
            yield found[0][1].split, record.source, record.values


def _placed(lines: Iterable[OutputLine]) -> Iterator[tuple[OutputLine, DatasetPlace]]:
    for line in lines:
        where = place_of(line.metadata)
        if where is not None:
            yield line, where


class _Record:
    """One record of a dataset with what is new of it."""

    def __init__(self, folder: DatasetFolder, row: DatasetRow, run: str) -> None:
        self._folder, self._row, self._run = folder, row, run
        self._line = self._read(row)
        self._tables = Tables(folder.annotations, folder.entity_attrs)
        self._conversations: dict[str, Values] = {}
        self._entities: list[Values] = []
        self.source = ""

    def _read(self, row: DatasetRow) -> DatasetLine:
        try:
            return row.read()
        except RecordError as error:
            raise ManifestError(f"{row.source}:{row.number}: {error.message}", hint=error.hint) from None

    @property
    def has_news(self) -> bool:
        """Whether anything is to be imported."""
        return bool(self._conversations or self._entities)

    def add(self, line: OutputLine, where: DatasetPlace) -> None:
        """Adds an answer.

        Raises:
            RunError: When the dataset has no place for it.
        """
        source = _stated(line.model, self._run)
        self.source = source["name"]
        if has_boxes(line) and not self._tables.has("bbox"):
            raise RunError(
                f"{self._folder.path} has no table for boxes: `bbox` is not among the annotations of its schema.",
                hint="Add it there, or write the boxes elsewhere: -o NAME.coco.json",
            )
        if has_boxes(line) and self._tables.label_attr is None and not self._tables.has("classification"):
            raise RunError(
                f"{self._folder.path} has no place for the label of a box: its entities have no attribute such as "
                "`category`, and `classification` is not among its annotations.",
                hint="Add one of them in Pixano, or write the boxes elsewhere: -o NAME.coco.json",
            )
        self._entities += entities_of(line, where, self._tables, source)
        kind, choices = (where.question_type, where.choices or []) if where.conversation else asked_in(line)
        answer = answer_of(line, kind, choices)
        if answer is None or not self._tables.has("message"):
            return
        if where.conversation is None:
            made = new_conversation(line, where.record, list(where.views), answer)
            self._conversations[made["id"]] = made
        else:
            self._answer(where.conversation, where.question or 0, answer, line.model)

    def _answer(self, id: str, number: int, content: str, model: str | None) -> None:
        if id not in self._conversations:
            for place_, conversation in enumerate(self._line.conversations):
                if conversation_id(self._line.id or "", place_, conversation.id) == id:
                    self._conversations[id] = {"id": id, "messages": conversation.messages}
        held = self._conversations.get(id)
        if held is None:
            return
        is_sorted = "turns" not in held and is_exported(self._line.views)
        turns = turns_of(held["messages"], is_exported=is_sorted)
        if number < len(turns.questions):
            question = turns.questions[number]
            question.answers = [DatasetMessage(type="ANSWER", content=content, user=model)]
        held["messages"], held["turns"] = turns.messages(), True

    @property
    def values(self) -> Values:
        """The record's line.

        Raises:
            RunError: When importing it would add its views once more.
        """
        record, raw = self._line.id or "", self._row.values
        views = {view: self._whole(view, payload) for view, payload in raw["views"].items()}
        conversations = [
            {
                "id": held["id"],
                "messages": [
                    message.model_dump(exclude_none=True) if isinstance(message, DatasetMessage) else message
                    for message in held["messages"]
                ],
            }
            for held in self._conversations.values()
        ]
        return {
            "id": record,
            **({"attrs": raw["attrs"]} if raw.get("attrs") else {}),
            "views": views,
            **({"entities": self._entities} if self._entities else {}),
            **({"conversations": conversations} if conversations else {}),
        }

    def _whole(self, view: str, payload: Any) -> Any:
        """A view's payload with the path of its file in whole."""
        uri = payload.get("uri") if isinstance(payload, dict) else payload
        if not isinstance(uri, str) or uri.startswith(_REMOTE):
            return payload
        record = self._line.id or ""
        if view_id(record, view, uri) != derived_id(record, "view", view):
            raise RunError(
                f"the view {view!r} of the record {record!r} has an id that Pixano's importer would not give it: "
                "imported from a folder it would be there twice.",
                hint="Import the JSONL itself, in Pixano's environment: pixano data import DIR FILE.jsonl --mode add",
            )
        whole = os.path.join(os.path.realpath(self._row.file.parent), uri)  # noqa: PTH118 - a view may hold any text
        return {**payload, "uri": whole} if isinstance(payload, dict) else whole


# --- answers about anything else ---


def _views_of(line: OutputLine, base: str) -> dict[str, Values]:
    """The images of a line as views, those that can be named by a path or a URL."""
    views: dict[str, Values] = {}
    for number, source in enumerate(line.images):
        name = "image" if number == 0 else f"image_{number + 1}"
        if source.startswith(_REMOTE):
            views[name] = {"uri": source}
        elif not is_url(source) and os.path.isfile(whole := os.path.join(base, local_path(source))):  # noqa: PTH113, PTH118
            views[name] = {"uri": whole}
    return views


def _spec(name: str, answers: Answers) -> Values:
    most = 1
    for line, _ in answers.rows():
        most = max(most, len(line.images))
    views = ["image", *(f"image_{number}" for number in range(2, most + 1))]
    return {
        "pixano": 2,
        "dataset": {"name": name.rpartition(".")[0] or name, "workspace": "image_vqa"},
        "format": "pixano_jsonl",
        "media": {"mode": "embed"},
        "schema": {
            "views": {view: {"kind": "image"} for view in views},
            "entity": {"attrs": {"category": {"type": "str"}}},
            "annotations": ["bbox", "classification", "message"],
        },
    }


_NEW = Tables(frozenset({"bbox", "classification", "message"}), frozenset({"category"}))


def _made(lines: Iterable[OutputLine], base: str, run: str) -> Iterator[tuple[str, str | None, Values]]:
    for line in lines:
        source = _stated(line.model, run)
        views = _views_of(line, base)
        ids = {view: derived_id(line.id, "view", view) for view in views}
        where = DatasetPlace(record=line.id, split=SPLIT, views=ids)
        answer = answer_of(line, *asked_in(line))
        entities = list(entities_of(line, where, _NEW, source))
        values: Values = {"id": line.id, "views": views}
        if entities:
            values["entities"] = entities
        if answer is not None:
            values["conversations"] = [new_conversation(line, line.id, list(views), answer)]
        yield SPLIT, source["name"], values
