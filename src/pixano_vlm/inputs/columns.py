"""A table's named columns -> the keys of a manifest line. Knows names and values, not where they are stored."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pixano_vlm.errors import ManifestError, RecordError
from pixano_vlm.inputs.fields import FIELDS, suggestion
from pixano_vlm.inputs.rows import Problem, Row, line_of
from pixano_vlm.inputs.template import Template
from pixano_vlm.models.generation import SETTINGS

__all__ = ["Columns"]

PICTURES = ("images", "image", "file_name")
"""Columns that hold a record's pictures. The last two are those of Hugging Face's datasets."""


class Columns:
    """What each column of a table means.

    Args:
        name: The table's name, for messages.
        columns: Its columns.
        template: The prompt of tables without a column of that name; any column can be a field of it.
        text: Whether every value is text, as in CSV: numbers and lists are then read from it, and empty is absent.

    Raises:
        ManifestError: When columns are misspelt, stand twice, or none holds a prompt.
        UsageError: When the prompt has a placeholder that no column fills.
    """

    def __init__(self, name: str, columns: Sequence[str], template: Template | None, *, text: bool) -> None:
        self._text, self._template = text, template
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise ManifestError(f"{name}: the column {twice[0]!r} stands twice.", hint="Rename one of them.")
        for column in columns:
            if column not in PICTURES and (meant := suggestion(column)) and meant not in columns:
                raise ManifestError(
                    f"{name}: unknown column {column!r}.",
                    hint=f"Did you mean {meant!r}? Rename it, or prefix it if it is data of your own.",
                )
        pictures = [column for column in PICTURES if column in columns]
        if len(pictures) > 1:
            raise ManifestError(
                f"{name}: the columns {' and '.join(map(repr, pictures))} both name pictures.",
                hint="Keep one of them.",
            )
        self._pictures = pictures[0] if pictures else None
        if template is None and "prompt" not in columns:
            raise ManifestError(
                f"{name}: there is no column 'prompt'.",
                hint="Add one, or give one prompt for all rows with --prompt TEXT.",
            )
        if template is not None:
            if "prompt" in columns:
                raise ManifestError(
                    f"{name} has a column 'prompt', and {template.source} was given too.",
                    hint="Leave one of them out.",
                )
            template.check(columns)
        self._columns = frozenset(columns)

    def row(self, number: int, values: Mapping[str, Any]) -> Row:
        """One row of the table."""
        line: dict[str, Any] = {}
        metadata: dict[str, Any] = {}
        try:
            for column, value in values.items():
                if value is None or (self._text and value == ""):
                    continue
                if column == self._pictures:
                    line["images"] = self._images(value)
                elif column in SETTINGS:
                    # A schema is JSON text in any table: as Parquet's own structure it would gain nulls.
                    is_text = self._text or (column == "response_format" and isinstance(value, str))
                    line[column] = _json(value) if is_text else _plain(value)
                elif column == "metadata":
                    metadata = {**metadata, **self._metadata(value)}
                elif column in FIELDS:
                    line[column] = self._prompt(value) if column == "prompt" else _plain(value)
                else:
                    metadata[column] = _plain(value)
            if metadata:
                line["metadata"] = metadata
            if self._template is not None:
                line["prompt"] = self._template.fill(
                    {
                        column: _plain(value)
                        for column, value in values.items()
                        if not (self._text and value == "")
                    }
                )
            return Row(number, line_of(line))
        except RecordError as error:
            return Row(number, line_of(_known(line)), Problem(error.message, error.hint))

    def _prompt(self, value: Any) -> Any:
        """Text, or a list of messages; in a CSV cell, those as JSON."""
        if self._text and value.lstrip().startswith('[{"'):
            return _json(value)
        return _plain(value)

    def _images(self, value: Any) -> Any:
        if isinstance(value, str):
            return _json(value) if self._text and value.lstrip().startswith("[") else [value]
        return [_picture(item) for item in (value if isinstance(value, list) else [value])]

    def _metadata(self, value: Any) -> dict[str, Any]:
        found = _json(value) if isinstance(value, str) else _plain(value)
        if not isinstance(found, dict):
            raise RecordError("metadata must be an object.", hint='Write {"name": value}, or add a column.')
        return found


def _known(line: dict[str, Any]) -> dict[str, Any]:
    return {key: line[key] for key in ("id", "metadata") if key in line}


def _json(text: str) -> Any:
    """The value that a cell's text says, or the text itself, which the line's own checks then judge."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _picture(value: Any) -> Any:
    """One picture of a cell: its path or URL, or its bytes as a data URL.

    Hugging Face's datasets keep a picture as `{"bytes": ..., "path": ...}`, where either may be null.
    """
    if isinstance(value, Mapping):
        data = value.get("bytes")
        value = data if data is not None else value.get("path")
    if isinstance(value, bytes):
        return "data:application/octet-stream;base64," + base64.b64encode(value).decode("ascii")
    return value


def _plain(value: Any) -> Any:
    """A cell's value as JSON has it: no NaN, no bytes, no dates."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
