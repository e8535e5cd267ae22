"""A Pixano dataset as a folder: `dataset.yaml`, and for each split a folder with `metadata.jsonl` and its media.

Reads lines one at a time and opens no image. What the schema declares is read from `dataset.yaml`, if it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pixano_vlm.errors import ManifestError, RecordError
from pixano_vlm.pixano_jsonl.ids import derived_id
from pixano_vlm.pixano_jsonl.line import DatasetLine
from pixano_vlm.validation import first_problem

__all__ = [
    "HEADER", "HEADER_KEY", "LINES", "SPEC", "DatasetFolder", "DatasetRow", "conversation_id", "is_dataset_folder",
    "is_exported", "view_id",
]  # fmt: skip

SPEC = "dataset.yaml"
LINES = "metadata.jsonl"
HEADER_KEY = "$pixano"
HEADER = "jsonl/2"
_HEAD = 1 << 12


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One line of a dataset's files."""

    split: str
    number: int
    """Line of its file, from 1."""
    file: Path
    values: dict[str, Any]
    """As the line has them."""
    defaults: dict[str, Any]
    """What the file's header says of boxes that do not say it themselves."""

    @property
    def source(self) -> str:
        """How messages call its file."""
        return f"{self.file.parent.name}/{self.file.name}"

    def read(self) -> DatasetLine:
        """The record.

        Raises:
            RecordError: When it is not one.
        """
        try:
            return DatasetLine.model_validate(self.values)
        except ValidationError as error:
            fault = first_problem(error)
            raise RecordError(
                f"it is not a line of a Pixano dataset: {fault.message()}",
                hint=fault.hint(list(DatasetLine.model_fields)),
            ) from None


def is_dataset_folder(path: Path) -> bool:
    """Whether a folder holds a Pixano dataset of a form that is read here, by its spec or the head of its lines."""
    if not path.is_dir():
        return False
    spec = path / SPEC
    try:
        if spec.is_file() and isinstance(found := yaml.safe_load(spec.read_text("utf-8")), dict):
            return "pixano" in found
        return any(HEADER_KEY.encode() in _head(file) for file in _files(path))
    except (OSError, ValueError, yaml.YAMLError):
        return False


def _files(path: Path) -> list[Path]:
    folders = sorted(
        folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")
    )
    return [folder / LINES for folder in folders if (folder / LINES).is_file()]


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.readline(_HEAD)


class DatasetFolder:
    """A dataset's folder.

    Args:
        path: The folder.

    Raises:
        ManifestError: When it holds no lines, or its spec is not one of the version that is read here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.files = _files(path)
            self.spec = self._read_spec()
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror or error}.") from error
        if not self.files:
            raise ManifestError(
                f"{path} holds no {LINES} in a folder for each split.",
                hint="Name the folder that `pixano data export` wrote.",
            )

    def _read_spec(self) -> dict[str, Any]:
        file = self.path / SPEC
        if not file.is_file():
            return {}
        try:
            spec = yaml.safe_load(file.read_text("utf-8"))
        except (ValueError, yaml.YAMLError) as error:
            raise ManifestError(f"{file} is not YAML: {' '.join(str(error).split())}.") from None
        if not isinstance(spec, dict) or spec.get("pixano") != 2:
            raise ManifestError(
                f"{file} is not the spec of a Pixano dataset of version 2.",
                hint="Export it with Pixano 0.8 or later: pixano data export DIR DATASET FOLDER",
            )
        return spec

    @cached_property
    def schema(self) -> dict[str, Any]:
        """What the spec declares, in its short form; empty where it declares nothing so."""
        found = self.spec.get("schema")
        return found if isinstance(found, dict) else {}

    @cached_property
    def annotations(self) -> frozenset[str] | None:
        """The kinds of annotation that the dataset has a table for; None where the spec does not say."""
        found = self.schema.get("annotations")
        return frozenset(found) if isinstance(found, (list, dict)) and found else None

    @cached_property
    def entity_attrs(self) -> frozenset[str]:
        """What an entity of the dataset says of itself."""
        return frozenset(((self.schema.get("entity") or {}).get("attrs")) or ())

    def is_image(self, view: str, payload: Any) -> bool:
        """Whether a view of a line is an image: as declared, or without a declaration by what it holds."""
        declared = (self.schema.get("views") or {}).get(view)
        kind = declared.get("kind") if isinstance(declared, dict) else declared
        if kind is not None:
            return bool(kind == "image")
        return isinstance(payload, str) or (isinstance(payload, dict) and {"uri", "width"} <= payload.keys())

    def rows(self) -> Iterator[DatasetRow]:
        """The lines of every split, in order.

        Raises:
            ManifestError: When a file cannot be read, or its header is of another version.
            RecordError: Never; a line that is wrong is one whose values do not make a record.
        """
        for file in self.files:
            yield from self._rows(file)

    def _rows(self, file: Path) -> Iterator[DatasetRow]:
        defaults: dict[str, Any] = {}
        try:
            with file.open("rb") as opened:
                for number, text in enumerate(opened, 1):
                    if not text.strip():
                        continue
                    try:
                        values = json.loads(text)
                    except (ValueError, RecursionError):
                        values = None
                    if not isinstance(values, dict):
                        raise ManifestError(
                            f"{file.parent.name}/{file.name}:{number} is not a JSON object.",
                            hint="Export the dataset again, or repair the line.",
                        )
                    if HEADER_KEY not in values:
                        yield DatasetRow(file.parent.name, number, file, values, defaults)
                        continue
                    if values[HEADER_KEY] != HEADER:
                        raise ManifestError(
                            f"{file.parent.name}/{file.name} is of the version {values[HEADER_KEY]!r}, and "
                            f"{HEADER!r} is read here.",
                            hint="Export it with Pixano 0.8.",
                        )
                    found = values.get("defaults")
                    defaults = (found.get("bbox") or {}) if isinstance(found, dict) else {}
        except OSError as error:
            raise ManifestError(f"{file} cannot be read: {error.strerror or error}.") from error


def conversation_id(record: str, place: int, own: str | None) -> str:
    """A conversation's id: its own, or the one that Pixano derives from its place in the record."""
    return own or derived_id(record, "conv", place)


def view_id(record: str, view: str, uri: str) -> str:
    """The id of a view's row: exported media are named for it; otherwise the one that Pixano derives."""
    return Path(uri).stem if _is_exported(view, uri) else derived_id(record, "view", view)


def is_exported(views: Mapping[str, Any]) -> bool:
    """Whether Pixano's exporter wrote a record, by where its media are."""
    return any(
        isinstance(payload, dict) and _is_exported(view, str(payload.get("uri")))
        for view, payload in views.items()
    )


def _is_exported(view: str, uri: str) -> bool:
    return Path(uri).parts[:-1] == ("media", view)
