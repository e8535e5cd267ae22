"""Records given in Python -> the lines that a JSONL manifest would have, so that everything behind knows one form.

A record is a `VLMInput`, or a mapping with the keys of a manifest line. What a `VLMInput` leaves at its default is
left out of the line, so that the settings of the run and the model's own hold for it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pixano_vlm.errors import UsageError
from pixano_vlm.inputs.rows import line_of
from pixano_vlm.models.image_source import data_url, image_data_url, is_pillow_image
from pixano_vlm.models.vlm import VLMInput

__all__ = ["open_objects"]


def open_objects(records: Iterable[Any]) -> IO[bytes]:
    """The records as a stream of lines, made as they are read.

    Args:
        records: `VLMInput` objects, or mappings such as `{"prompt": "What is this?", "images": ["a.jpg"]}`.

    Raises:
        UsageError: When reading meets something else.
    """
    return io.BufferedReader(_LinesOfRecords(iter(records)), 1 << 16)


class _LinesOfRecords(io.RawIOBase):
    def __init__(self, records: Iterator[Any]) -> None:
        self._records = records
        self._number = 0
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            for record in self._records:
                self._number += 1
                self._rest = memoryview(_line(record, self._number) + b"\n")
                break
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _line(record: Any, number: int) -> bytes:
    if isinstance(record, VLMInput):
        return line_of(record.model_dump(mode="json", exclude_unset=True))
    if not isinstance(record, Mapping):
        raise UsageError(
            f"input {number} is of type {type(record).__name__}.",
            hint="Give VLMInput objects, or mappings with a prompt and images.",
        )
    values = dict(record)
    images = values.get("images")
    if images is not None:
        several = isinstance(images, (list, tuple))
        values["images"] = [_named(image) for image in images] if several else _named(images)
    return line_of(values)


def _named(image: Any) -> Any:
    """An image as a line names it: one in memory as a data URL."""
    if isinstance(image, bytes):
        return data_url(image, "application/octet-stream")
    if is_pillow_image(image):
        return image_data_url(image)
    return str(image) if isinstance(image, Path) else image
