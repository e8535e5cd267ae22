"""A table's named columns -> the keys of a manifest line. Knows names and values, not where they are stored."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pixano_vlm.errors import ManifestError, RecordError
from pixano_vlm.inputs.dialects.known import DIALECT_KEYS, dialect_of
from pixano_vlm.inputs.dialects.text_values import parsed_text
from pixano_vlm.inputs.fields import ALIASES, FIELDS, check_id, suggestion
from pixano_vlm.inputs.image_like import image_key, looks_like_image
from pixano_vlm.inputs.naming import NONE, OWN_NAMES, Naming
from pixano_vlm.inputs.rows import GivenRow, Problem, Row, line_of
from pixano_vlm.inputs.template import Template
from pixano_vlm.models.generation import SETTINGS

__all__ = ["Columns", "Reading", "plain"]

IMAGES = ("images", "image", "file_name")
"""Columns that hold a record's images; the first counts. The last two are those of Hugging Face's datasets."""
DATA_IN_TABLES = frozenset({"n"})
"""Settings whose name is as often a table's own: a column of numbers called so is not asked for as samples."""
LINES_VERSION = 1
"""Raised when the same row of a table becomes another line: answers are then compared by what they were asked."""
_SIGNATURE = 16
"""So many bytes of an image tell that it is one."""
QUESTIONS = ("question", "query", "text", "instruction", "input", "Question", "Prompt")
"""Columns that are often meant to be the prompt."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How whoever runs a source wants it read."""

    template: Template | None = None
    """The prompt of sources without one; any column can be a field of it."""
    naming: Naming = OWN_NAMES
    """What columns are called, where they do not have the tool's own names."""

    def described(self) -> str:
        """It as text that is the same as long as a file that is the same gives the same lines."""
        template = None if self.template is None else self.template.text
        return repr((LINES_VERSION, template, self.naming.described()))


class Columns:
    """What each column of a table means.

    Args:
        name: The table's name, for messages.
        columns: Its columns.
        reading: How it is to be read.
        text: Whether every value is text, as in CSV: numbers and lists are then read from it, and empty is absent.
        held: Columns that are known to hold images, by their type.
        lists: Columns whose type is that of lists, of which a missing one is an empty one.

    Raises:
        ManifestError: When columns are misspelt, there twice, or none holds a prompt; or images may be left out.
        UsageError: When the prompt has a placeholder that no column fills.
    """

    def __init__(
        self, name: str, columns: Sequence[str], reading: Reading, *, text: bool,
        held: Sequence[str] = (), lists: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._name, self._text, self._lists = name, text, frozenset(lists)
        self._template, self._naming = reading.template, reading.naming
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise ManifestError(
                f"{name}: the column {twice[0]!r} is there twice.", hint="Rename one of them."
            )
        for flag, named in self._naming.flags():
            if named not in columns:
                raise ManifestError(
                    f"{name}: there is no column {named!r}.",
                    hint=f"Check {flag} {named}; the columns are {', '.join(columns)}.",
                )
        self._images = self._choose_images(columns, held)
        self._prompt = self._naming.prompt or "prompt"
        self.id = self._naming.id or ("id" if "id" in columns else None)
        """The column of ids."""
        own = FIELDS - {"images", "prompt", "id", *DATA_IN_TABLES}
        self._keys = dict.fromkeys(
            column for column in columns if column in own and column not in self._images
        )
        """Columns under a key of their own name."""
        self._check_prompt(columns)
        self._check_spelling(columns)
        if (
            self._template is not None
            and not self._images
            and not self._template.names
            and not self._naming.images
        ):
            raise ManifestError(
                f"{name}: no column is known to hold images, and every row would be asked the same.",
                hint=f"Say which: --image-column NAME, of {', '.join(columns)}.",
            )

    def _choose_images(self, columns: Sequence[str], held: Sequence[str]) -> tuple[str, ...]:
        if self._naming.images:
            return () if self._naming.has_no_images else self._naming.images
        found = [column for column in IMAGES if column in columns]
        if {"images", "image"} <= set(columns):
            raise ManifestError(
                f"{self._name}: the columns 'images' and 'image' both name images.",
                hint="Say which is meant: --image-column images, --image-column image, or both of these.",
            )
        if found:
            return (found[0],)
        likely = [column for column in columns if ALIASES.get(column.lower()) == "images" or column in held]
        if len(likely) > 1:
            raise ManifestError(
                f"{self._name}: the columns {', '.join(map(repr, likely))} may all hold images.",
                hint=f"Say which: --image-column {likely[0]}; repeat it where a record has several.",
            )
        return tuple(likely)

    def _check_prompt(self, columns: Sequence[str]) -> None:
        has_prompt = self._prompt in columns
        if self._template is not None:
            if has_prompt:
                raise ManifestError(
                    f"{self._name} has a column {self._prompt!r}, and {self._template.source} was given too.",
                    hint="Leave one of them out.",
                )
            self._template.check(columns)
            return
        # `system` goes with a prompt; the others are instead of one.
        foreign = [
            column
            for column in columns
            if column in DIALECT_KEYS or column in ("input", "output", "response")
        ]
        if has_prompt:
            foreign = [column for column in foreign if column in ("system", "system_prompt", "completion")]
        elif not (foreign and self._is_foreign(columns)):
            for column in columns:
                if suggestion(column) == "prompt" and column not in ALIASES:
                    raise self._misspelt(column, "prompt")
            asked = next((column for column in QUESTIONS if column in columns), None)
            flags = f"--prompt-column {asked}" if asked else "--prompt-column NAME"
            raise ManifestError(
                f"{self._name}: there is no column 'prompt'.",
                hint=f"Say which column is the prompt, {flags}, or give one for all rows, --prompt TEXT; the columns "
                f"are {', '.join(columns)}.",
            )
        self._keys |= dict.fromkeys(column for column in foreign if column not in self._images)
        if not has_prompt:
            self._keys |= dict.fromkeys(
                column for column in ("history", "videos", "video", "audios") if column in columns
            )

    @staticmethod
    def _is_foreign(columns: Sequence[str]) -> bool:
        """Whether some dialect takes lines with these keys, as far as names tell."""
        turns = [{"role": "user", "content": ""}]
        named: dict[str, Any] = dict.fromkeys(columns, "")
        for key in ("messages", "conversations", "conversation", "dialogue", "dialog"):
            if key in named:
                named[key] = turns
        if "texts" in named:
            named["texts"] = [{"user": "", "assistant": ""}]
        return dialect_of(named) is not None

    def _check_spelling(self, columns: Sequence[str]) -> None:
        for column in columns:
            if column in self._keys or column in (self._prompt, self.id, *self._images):
                continue
            meant = suggestion(column)
            if meant is None or meant in columns or column == f"{meant}s":
                continue  # somebody's own, beside the one that is meant; or several of what a record has one of
            if (meant == "images" and self._images) or (meant == "prompt" and self._has_prompt_of_its_own):
                continue
            if meant == "id" and self.id is not None:
                continue
            raise self._misspelt(column, meant)

    def _misspelt(self, column: str, meant: str) -> ManifestError:
        return ManifestError(
            f"{self._name}: unknown column {column!r}.",
            hint=f"Did you mean {meant!r}? Rename it, or prefix it if it is data of your own.",
        )

    @property
    def _has_prompt_of_its_own(self) -> bool:
        return (
            self._template is not None
            or self._naming.prompt is not None
            or bool(self._keys.keys() & DIALECT_KEYS)
        )

    def row(self, number: int, values: Mapping[str, Any], *, name: str | None = None) -> Row:
        """One row of the table.

        Args:
            number: What messages call it.
            values: Column -> value.
            name: Its id, where it has none of its own; None: its number.
        """
        line: dict[str, Any] = {}
        metadata: dict[str, Any] = {}
        try:
            for column, value in values.items():
                if (
                    value is None
                    or (self._text and value == "")
                    or (column in self._images and _is_missing(value))
                ):
                    continue
                if column == "metadata" and column in self._keys:
                    metadata = {**metadata, **self._metadata(value)}
                elif column in self._images:
                    found, paths = self._pictures(value)
                    line["images"] = [*line.get("images", ()), *found]
                    if paths:
                        metadata[f"{column}.path"] = paths
                elif (key := self._key(column)) is None:
                    metadata[column] = plain(value)
                else:
                    line[key] = self._value(key, value)
            if metadata:
                line["metadata"] = metadata
            self._check_images(line, values)
            if self._template is not None:
                line["prompt"] = self._template.fill(
                    {
                        column: plain(value)
                        for column, value in values.items()
                        if not (self._text and value == "")
                    }
                )
            return Row(number, line_of(line), None, None if "id" in line else name)
        except RecordError as error:
            known: dict[str, Any] = {key: line[key] for key in ("id", "metadata") if key in line}
            return Row(
                number, line_of(known), Problem(error.message, error.hint), None if "id" in known else name
            )

    def given(self, number: int, values: Mapping[str, Any], *, name: str | None = None) -> GivenRow:
        """A row as a table of answers has it again. Arguments as of `row`."""
        found = {column: plain(value) for column, value in values.items() if value is not None}
        own = None if self.id is None else values.get(self.id)
        if own is not None and own != "":
            with suppress(ValueError):  # an error record, under its number
                return GivenRow(check_id(_id(own)), found, True)
        return GivenRow(name or str(number), found, False)

    def _check_images(self, line: dict[str, Any], values: Mapping[str, Any]) -> None:
        """Refuses a row that would be answered without an image that it has, or that others have."""
        for column in self._images:
            value = values.get(column)
            if value is None and column in self._lists:
                continue
            if _is_missing(value) or (isinstance(value, str) and not value.strip()):
                raise RecordError(
                    f"the column {column!r} is empty.",
                    hint="Name its image; write [] for a record that has none.",
                )
        if self._images or self._naming.images == (NONE,):
            return
        others = {
            column: value
            for column, value in values.items()
            if column not in self._keys and column not in (self._prompt, self.id, "metadata")
        }
        if (key := image_key(others)) is not None and not _shows(self._template, key):
            raise RecordError(
                f"the column {key!r} seems to hold an image, and the record has none.",
                hint=f"Say --image-column {key}; or --image-column - where no column holds images.",
            )

    def _key(self, column: str) -> str | None:
        """The key of a line that a column is; None for data of somebody's own."""
        if column == self._prompt and self._template is None:
            return "prompt"
        if column == self.id:
            return "id"
        return column if column in self._keys else None

    def _value(self, key: str, value: Any) -> Any:
        if key == "prompt":
            return self._question(value)
        if key == "id":
            return _id(value)
        if key not in SETTINGS:
            return _message(value)
        # A schema is JSON text in any table: as Parquet's own structure it would gain nulls.
        is_text = self._text or (key == "response_format" and isinstance(value, str))
        return _json(value) if is_text else plain(value)

    def _question(self, value: Any) -> Any:
        """Text, or a list of messages, in a CSV cell as JSON."""
        if isinstance(value, bytes):
            return _text(value, self._prompt)
        if self._text and value.lstrip().startswith('[{"'):
            return _json(value)
        return _message(value)

    def _pictures(self, value: Any) -> tuple[Any, Any]:
        """A cell's images, and the paths of those that are given as bytes."""
        if isinstance(value, str):
            found = parsed_text(value) if value.lstrip().startswith("[") else value
            return (found if isinstance(found, list) else [value]), None
        if _is_encoded(value):
            value = bytes(value)
        items = value if isinstance(value, list) else [value]
        paths = [
            item.get("path") if isinstance(item, Mapping) and item.get("bytes") is not None else None
            for item in items
        ]
        given = paths if isinstance(value, list) else paths[0]
        return [_picture(item) for item in items], given if any(paths) else None

    def _metadata(self, value: Any) -> dict[str, Any]:
        found = _json(value) if isinstance(value, str) else plain(value)
        if not isinstance(found, dict):
            raise RecordError("metadata must be an object.", hint='Write {"name": value}, or add a column.')
        return found


def _is_missing(value: Any) -> bool:
    """Whether a cell names no image: null, NaN as pandas has it, or an object with neither bytes nor path."""
    if isinstance(value, Mapping):
        return all(_is_missing(held) or held == "" for held in value.values())
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_encoded(value: Any) -> bool:
    """Whether it is the bytes of an image as a list of numbers, as tables without a type for bytes have them."""
    return (
        isinstance(value, list)
        and len(value) > _SIGNATURE
        and all(type(item) is int and 0 <= item < 256 for item in value)
        and looks_like_image(bytes(value[:_SIGNATURE]))
    )


def _shows(template: Template | None, column: str) -> bool:
    """Whether a prompt says a column's value itself, which is then not left out."""
    return template is not None and column in template.names


def _id(value: Any) -> Any:
    """An id as JSON has it; bytes as their text or their hexadecimal digits, never as their length."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return plain(value)


def _text(value: bytes, column: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RecordError(f"the column {column!r} holds bytes that are not UTF-8 text.") from None


def _json(text: str) -> Any:
    """The value that a cell's text says, or the text itself, which the line's own checks then judge."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _picture(value: Any) -> Any:
    """One image of a cell: its path or URL, or its bytes as a data URL.

    Hugging Face's datasets keep an image as `{"bytes": ..., "path": ...}`, where either may be null. Other objects
    are read as those of a line are.
    """
    if isinstance(value, Mapping) and not value.keys() & {"bytes", "path"}:
        return _message({key: held for key, held in value.items() if held is not None})
    if isinstance(value, Mapping):
        data = value.get("bytes")
        value = data if data is not None else value.get("path")
    if isinstance(value, bytes):
        return "data:application/octet-stream;base64," + base64.b64encode(value).decode("ascii")
    return value


def _message(value: Any) -> Any:
    """A cell that holds messages, or is text: as `plain`, but images in it stay images."""
    if isinstance(value, bytes) or (isinstance(value, Mapping) and value.keys() == {"bytes", "path"}):
        return _picture(value)
    if isinstance(value, Mapping):
        return {str(key): _message(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_message(inner) for inner in value]
    return plain(value)


def plain(value: Any) -> Any:
    """A cell's value as JSON has it: no NaN, no bytes, no dates."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
