"""`metadata.jsonl` of a Hugging Face image folder: what is said of each picture, found by its `file_name`.

Only where each row begins is kept, in bounded memory; a row is read again when its picture's turn comes. The format
is that of the `imagefolder` builder of the `datasets` library: one object a line, `file_name` relative to the file.
"""

from __future__ import annotations

import posixpath
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ManifestError, RecordError
from pixano_vlm.inputs.decode import decode_line
from pixano_vlm.inputs.hash_table import HashTable

__all__ = ["METADATA_NAME", "ImageMetadata"]

METADATA_NAME = "metadata.jsonl"

_MAX_LINE = 1 << 20


class ImageMetadata:
    """The rows of one `metadata.jsonl`, by picture.

    Args:
        path: The file. It is read once, to its end.

    Raises:
        ManifestError: When it cannot be read, or a line of it is no object with a `file_name`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, None] = {}
        """Every field of any row but `file_name`, in the order they first stand in."""
        self._places = HashTable(values=True)
        offset = number = 0
        try:
            with path.open("rb") as file:
                while line := file.readline(_MAX_LINE):
                    number += 1
                    if line.strip():
                        values = self._decode(line, number)
                        self.fields.update(dict.fromkeys(key for key in values if key != "file_name"))
                        self._places.insert(_hash(posixpath.normpath(values["file_name"])), offset)
                    offset += len(line)
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error

    def _decode(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            values = decode_line(line.strip().removeprefix(b"\xef\xbb\xbf"))
        except RecordError as error:
            raise ManifestError(f"{self.path}:{number}: {error.message}", hint=error.hint) from None
        if not isinstance(values.get("file_name"), str):
            raise ManifestError(
                f"{self.path}:{number}: there is no file_name.",
                hint=f'Each line of {METADATA_NAME} names its picture: {{"file_name": "a.jpg", ...}}.',
            )
        return values

    def of(self, name: str) -> dict[str, Any]:
        """What is said of a picture, without its `file_name`; empty when nothing is.

        Args:
            name: Its path relative to the file's folder, with slashes.
        """
        for offset in self._places.find(_hash(name)):
            with self.path.open("rb") as file:
                file.seek(offset)
                values = self._decode(file.readline(_MAX_LINE), 0)
            if posixpath.normpath(values.pop("file_name")) == name:  # hashes may be equal by chance
                return values
        return {}


def _hash(name: str) -> int:
    return (
        int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
        or 1
    )
