"""What the records were asked: prompts and images, read from the manifest again, whatever form it has.

The outputs hold neither prompts nor data URLs, so the manifest is looked into for them, by id. Knows its
lines only as far as that needs: a line that was refused still shows what it asked, where that can be made out.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.decode import decode_line
from pixano_vlm.inputs.dialects.known import dialect_of
from pixano_vlm.inputs.fields import check_id, check_images
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.naming import Naming
from pixano_vlm.inputs.open import Source
from pixano_vlm.prompts.messages import check_messages
from pixano_vlm.report.offsets import Offsets

__all__ = ["Asked", "Message", "Prompts"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    parts: tuple[str | int, ...]
    """Text, and images by their place among the record's, from 0."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one record asked."""

    prompt: str | tuple[Message, ...] | None
    images: tuple[str, ...]
    """Paths and URLs as the manifest writes them, data URLs whole, in the order the prompt has them."""


class Prompts:
    """The prompts of a manifest, by id.

    Args:
        source: Read from the start, once. Standard input cannot be read again.

    Raises:
        ManifestError: When it cannot be read.
    """

    def __init__(self, source: Source) -> None:
        manifest = Manifest(source.path, rows=source.rows)
        self._naming = source.naming
        self.folder = Path(manifest.rules.base_dir)
        """Where relative paths start."""
        self._offsets = Offsets()
        # Rows of a table or a folder cannot be read from the middle: their lines are put by, as JSONL.
        put_by = None if source.rows is None else tempfile.TemporaryFile(prefix="pixano-vlm-")  # noqa: SIM115 - close
        offset = 0
        for line in manifest.lines():
            text = line.text or b""
            self._offsets.add(
                _id(_values(text, self._naming)) or line.default_id, line.offset if put_by is None else offset
            )
            if put_by is not None:
                offset += put_by.write(text + b"\n")
        self._file: IO[bytes] = put_by or manifest.source.open("rb")  # type: ignore[union-attr]  # not standard input

    def find(self, id: str, occurrence: int) -> Asked | None:
        """What a record asked; `None` where the manifest does not have it. Arguments as of `Offsets.find`."""
        offset = self._offsets.find(id, occurrence)
        if offset is None:
            return None
        self._file.seek(offset)
        values = _values(self._file.readline().strip().removeprefix(b"\xef\xbb\xbf"), self._naming)
        return _asked(values) if values else None

    def close(self) -> None:
        """Closes the manifest."""
        self._file.close()


def _values(text: bytes, naming: Naming) -> dict[str, Any]:
    try:
        values = naming.renamed(decode_line(text))
    except RecordError:
        return {}
    dialect = dialect_of(values)
    if dialect is None:
        return values
    try:
        return dialect.record(values)
    except RecordError:
        body = values.get("body")
        return {
            "id": values.get(dialect.id_key),
            "prompt": body.get("messages") if isinstance(body, dict) else None,
        }


def _id(values: dict[str, Any]) -> str | None:
    try:
        return None if values.get("id") is None else check_id(values["id"])
    except ValueError:
        return None


def _asked(values: dict[str, Any]) -> Asked:
    prompt = values.get("prompt")
    try:
        images = check_images(values.get("images") or [])
    except ValueError:
        images = []
    if not isinstance(prompt, list):
        return Asked(prompt if isinstance(prompt, str) else None, tuple(images))
    try:
        check_messages(prompt)
    except ValueError:
        return Asked(str(prompt), tuple(images))
    return _conversation(prompt, images)


def _conversation(messages: list[dict[str, Any]], listed: list[str]) -> Asked:
    """Checked messages as text and places of images. `listed` fill the bare placeholders, in order."""
    waiting, images = iter(listed), list[str]()
    shown = []
    for message in messages:
        content = message.get("content") or ""
        parts: list[str | int] = []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                parts.append(part["text"])
                continue
            if part["type"] == "video":
                parts.append(_video(part))
                continue
            source = _source(part) or next(waiting, None)
            if source is not None:  # a placeholder without its image is why the record was refused
                parts.append(len(images))
                images.append(source)
        shown.append(Message(message["role"], tuple(parts)))
    return Asked(tuple(shown), (*images, *waiting))


def _video(part: dict[str, Any]) -> str:
    """A video by its name: the page shows images."""
    source = next(part[key] for key in ("video", "url", "path") if part.get(key) is not None)
    name = f"{len(source)} frames from {source[0]}" if isinstance(source, list) else source
    return f"[video: {name}]"


def _source(part: dict[str, Any]) -> str | None:
    if part["type"] == "image_url":
        url = part["image_url"]
        return str(url["url"] if isinstance(url, dict) else url)
    return next((part[key] for key in ("image", "url", "path") if part.get(key) is not None), None)
