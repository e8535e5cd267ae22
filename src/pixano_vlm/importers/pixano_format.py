"""Outputs as a format of Pixano's: `pixano data import DIR answers.jsonl`. Pixano loads this by its entry point.

Answers about a dataset that Pixano exported are imported in mode `add`, and then only what is new is written: the
answers' messages, entities, boxes and labels. What was there is not touched, whatever ids it has. Any other output
becomes a dataset of its own, as `-o NAME.pixano` makes it.

This is the one module that imports Pixano, whose environment is not that of a run: torch and transformers are not
needed here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from lancedb.pydantic import LanceModel
from pixano.datasets.dataset_info import DatasetInfo
from pixano.datasets.io import (
    AnalyzeLimits,
    BatchBundle,
    DetectResult,
    ImportPlan,
    ImportSpec,
    Provenance,
    SourceRef,
)
from pixano.datasets.io.formats.pixano_jsonl.importer import PixanoJsonlImporter
from pixano.datasets.io.registry import Capabilities, DataFormat
from pixano.datasets.io.source_fingerprint import local_source_fingerprint
from pixano.datasets.io.spec import resolve_dataset_info

from pixano_vlm.outputs.forms import OWN, Answers, Lines
from pixano_vlm.outputs.pixano_dataset import pixano_of, read_folders
from pixano_vlm.pixano_jsonl.dataset_folder import SPEC
from pixano_vlm.pixano_jsonl.ids import late_id, message_id
from pixano_vlm.pixano_jsonl.origin import DatasetPlace, place_of
from pixano_vlm.records.output_line import OutputLine, read_line
from pixano_vlm.records.pixano_answer import Tables, answer_of, asked_in, entities_of, new_conversation

__all__ = ["FORMAT", "OutputImporter"]

_FIRST_KEYS = {"id", "status", "generated_text", "finish_reason", "attempts"}
_SLOTS = {"message": "messages", "bbox": "bboxes", "classification": "classifications"}
"""Kinds of annotation that are written, and their tables."""


class OutputImporter(PixanoJsonlImporter):  # type: ignore[misc]  # Pixano has no types
    """Imports the JSONL output of a run."""

    format_name: ClassVar[str] = "pixano_vlm"
    importer_version: ClassVar[str] = "1.0.0"
    supports_resume: ClassVar[bool] = False
    deterministic_ids: ClassVar[bool] = True

    def __init__(self) -> None:
        self._made: Path | None = None

    def probe(self, source: SourceRef) -> DetectResult | None:
        """Whether a file is an output, by its name and its first line."""
        if source.path is None or not source.path.is_file() or source.path.suffix not in OWN:
            return None
        first = next(_lines(source.path), None)
        return None if first is None else DetectResult(confidence=0.9, evidence="an output of pixano-vlm")

    def source_fingerprint(self, source: SourceRef, spec: ImportSpec) -> str:
        """What the file is recognised by."""
        return "" if source.path is None else str(local_source_fingerprint(source.path))

    def resolve_info(self, spec: ImportSpec, source: SourceRef | None = None) -> DatasetInfo:
        """The schema: of answers about a dataset that of its export, else that of the new dataset."""
        if (
            spec.schema_ is not None
            or spec.schema_manifest is not None
            or source is None
            or source.path is None
        ):
            return resolve_dataset_info(spec)
        folders = read_folders(source.path)
        own = folders[0].path if folders else self._folder(source.path)
        if not (own / SPEC).is_file():
            return resolve_dataset_info(spec)
        found = ImportSpec.from_yaml(own / SPEC)
        info = resolve_dataset_info(found)
        info.name = info.name or found.dataset.name
        return info

    def analyze(self, source: SourceRef, spec: ImportSpec, limits: AnalyzeLimits) -> ImportPlan:
        """Counts the answers; refuses what cannot be imported in the mode that was asked for."""
        plan = ImportPlan(format=self.format_name, importer_version=self.importer_version)
        where = Provenance(file=source.location())
        if self.probe(source) is None or source.path is None:
            plan.report.add(
                "invalid_source", where, suggestion="Name the JSONL file that pixano-vlm generate wrote."
            )
            return plan
        of_dataset, others = 0, 0
        for line in _lines(source.path):
            place = place_of(line.metadata)
            of_dataset += place is not None
            others += place is None
            split = "default" if place is None else place.split
            plan.splits[split] = (plan.splits.get(split) or 0) + 1
        if of_dataset and others:
            plan.report.add(
                "mixed_output",
                where,
                suggestion="Some answers are about a Pixano dataset and others are not.",
            )
        elif of_dataset and spec.mode != "add":
            plan.report.add(
                "answers_of_a_dataset", where,
                suggestion="These answers belong to a dataset that is there: import them with --mode add, and "
                "--name NAME where its export is elsewhere.",
            )  # fmt: skip
        plan.totals.records = of_dataset + others
        return plan

    def iter_batches(
        self, source: SourceRef, spec: ImportSpec, plan: ImportPlan, cursor: dict[str, Any] | None = None
    ) -> Iterator[BatchBundle]:
        """The rows that are new, one output line at a time; of a new dataset, all rows."""
        assert source.path is not None, "only a file is taken"
        if next((place for line in _lines(source.path) if (place := place_of(line.metadata))), None) is None:
            folder = SourceRef.from_string(str(self._folder(source.path)))
            yield from super().iter_batches(folder, spec, plan, cursor)
            return
        info = self.resolve_info(spec, source)
        run = source.path.name
        for number, line in enumerate(_lines(source.path), 1):
            place = place_of(line.metadata)
            tables = {} if place is None else _rows(line, place, info, run)
            if tables:
                yield BatchBundle(
                    tables=tables, cursor={"line": number}, provenance=Provenance(file=run, line=number)
                )

    def _folder(self, path: Path) -> Path:
        """The output as a folder that Pixano's own importer takes, made once."""
        if self._made is None:
            parent = tempfile.mkdtemp(prefix="pixano-vlm-")
            weakref.finalize(self, shutil.rmtree, parent, ignore_errors=True)
            self._made = Path(parent) / f"{path.stem.removesuffix('.outputs')}.pixano"
            pixano_of(Answers(Lines(path), output=path), self._made)
        return self._made


def _lines(path: Path) -> Iterator[OutputLine]:
    """The lines of an output; none where it is something else."""
    with path.open("rb") as file:
        for number, text in enumerate(file):
            try:
                if number == 0 and not json.loads(text).keys() >= _FIRST_KEYS:
                    return
                yield read_line(text)
            except (ValueError, AttributeError):
                return


def _rows(line: OutputLine, place: DatasetPlace, info: DatasetInfo, run: str) -> dict[str, list[LanceModel]]:
    """The rows that an answer adds, by table."""
    kinds = frozenset(kind for kind in _SLOTS if getattr(info, kind, None) is not None)
    attrs = frozenset(info.entity.model_fields) if info.entity is not None else frozenset()
    source = {"type": "model", "name": f"{line.model or 'pixano-vlm'} ({run})"}
    stamps = {
        "record_id": place.record,
        "source_type": source["type"],
        "source_name": source["name"],
        "source_metadata": json.dumps({"run": run, "record": line.id, "confidence": line.confidence}),
    }
    found: dict[str, list[LanceModel]] = {}

    def add(kind: str, **values: Any) -> None:
        found.setdefault(_SLOTS[kind], []).append(getattr(info, kind)(**values, **stamps))

    kind, choices = (place.question_type, place.choices or []) if place.conversation else asked_in(line)
    answer = answer_of(line, kind, choices)
    if answer is not None and "message" in kinds:
        if place.conversation is not None:
            number = place.question or 0
            add(
                "message", id=late_id(place.conversation, "vlm", line.model or "", number), number=number,
                conversation_id=place.conversation, user=line.model or "", type="ANSWER", content=answer,
            )  # fmt: skip
        else:
            made = new_conversation(line, place.record, list(place.views), answer)
            number = -1
            for at, message in enumerate(made["messages"]):
                number += message["type"] == "QUESTION"
                views = message.pop("views", [])
                add(
                    "message", id=message_id(made["id"], at), conversation_id=made["id"], number=max(number, 0),
                    view_id=place.views[views[0]] if views else "", **{"user": line.model or "", **message},
                )  # fmt: skip
    for entity in entities_of(line, place, Tables(kinds, attrs), source):
        if info.entity is None:
            break
        row = info.entity(id=entity["id"], record_id=place.record, **entity.get("attrs", {}))
        found.setdefault("entities", []).append(row)
        for annotation in entity["annotations"]:
            given = {key: value for key, value in annotation.items() if key not in ("kind", "view", "source")}
            add(annotation["kind"], **given, entity_id=entity["id"], view_id=place.views[annotation["view"]])
    return found


FORMAT = DataFormat(
    name="pixano_vlm",
    title="Outputs of pixano-vlm",
    importer_cls=OutputImporter,
    capabilities=Capabilities(
        media_kinds=frozenset({"image"}),
        annotation_kinds=frozenset({"bbox", "classification", "message"}),
        source_kinds=frozenset({"local_file"}),
        deterministic_ids=True,
    ),
    detect=lambda source: OutputImporter().probe(source),
)
