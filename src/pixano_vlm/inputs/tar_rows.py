"""A shard of WebDataset, a tar archive -> rows: files whose names differ only behind the first dot are one record.

`a.jpg`, `a.json` and `a.txt` make the record `a`: images are its images, the object in the `.json` its keys, and the
text of a `.txt` or `.cls` a field of the prompt and of the metadata. Read from front to back, one record at a time.
"""

from __future__ import annotations

import base64
import posixpath
import tarfile
from collections.abc import Iterator
from typing import IO, Any

from pixano_vlm.errors import ManifestError, RecordError
from pixano_vlm.inputs.columns import Reading
from pixano_vlm.inputs.decode import decode_line
from pixano_vlm.inputs.file import BROKEN, InputFile
from pixano_vlm.inputs.rows import Layout, Problem, Row, Rows, line_of
from pixano_vlm.media.formats import is_image_name

__all__ = ["TarRows"]

MAX_MEMBER = 1 << 30
"""Largest file that is taken out of an archive, in bytes; what an image may have is smaller."""
_TEXTS = frozenset({"txt", "text", "caption", "cls", "cls2", "index", "id"})
_REFUSED = frozenset({"mp4", "avi", "webm", "mov", "mkv", "mp3", "wav", "flac", "ogg", "m4a", "opus", "pdf"})
"""Endings of what is given to be looked at or listened to, and cannot be."""


class TarRows(Rows):
    """A tar archive. Its rows are called by their number, and their ids are their files' common name.

    Args:
        file: The archive.
        reading: How it is to be read. `--image-column` names endings, without the dot.

    Raises:
        ManifestError: When it is not a tar archive.
    """

    def __init__(self, file: InputFile, reading: Reading | None = None) -> None:
        self.file, self._reading = file, reading or Reading()
        self.layout = Layout(file.name, file.folder)
        self._count: int | None = None
        first = next(self._samples(), None)
        if self._reading.template is not None and first is not None:
            fields = dict.fromkeys(["name", "stem", "folder", "__key__"])
            try:
                fields |= dict.fromkeys(self._known(*first)[1])
            except RecordError:
                return
            self._reading.template.check(fields)

    def rows(self) -> Iterator[Row]:
        """The records."""
        for number, (key, members) in enumerate(self._samples(), 1):
            yield self._row(number, key, members)

    def count(self) -> int | None:
        """How many records there are, from the names alone; None where the archive is far away."""
        if self._count is None and self.file.path is not None:
            self._count = sum(1 for _ in self._samples(contents=False))
        return self._count

    def _samples(self, *, contents: bool = True) -> Iterator[tuple[str, dict[str, bytes | int]]]:
        """Each record's name, and its files by what is behind the first dot: their bytes, or too large a size."""
        key: str | None = None
        members: dict[str, bytes | int] = {}
        with self.file.open() as opened:
            try:
                for name, data in self._members(opened, contents):
                    folder, _, last = name.rpartition("/")
                    stem, _, end = last.partition(".")
                    of = posixpath.join(folder, stem)
                    if key is not None and (of != key or end in members):
                        yield key, members
                        members = {}
                    key = of
                    members[end] = data
            except (tarfile.TarError, OSError, *BROKEN) as error:
                raise ManifestError(f"{self.file} cannot be read as a tar archive: {error}.") from error
        if key is not None:
            yield key, members

    @staticmethod
    def _members(opened: IO[bytes], contents: bool) -> Iterator[tuple[str, bytes | int]]:
        with tarfile.open(fileobj=opened, mode="r|") as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if not member.isfile() or posixpath.basename(name).startswith((".", "__")):
                    continue
                data: bytes | int = member.size
                if contents and member.size <= MAX_MEMBER:
                    file = archive.extractfile(member)
                    data = b"" if file is None else file.read()
                yield name, data

    def _row(self, number: int, key: str, members: dict[str, bytes | int]) -> Row:
        line: dict[str, Any] = {"id": key}
        try:
            images, known = self._known(key, members)
            line |= {name: value for name, value in known.items() if name in {"prompt", "metadata"}}
            template = self._reading.template
            if template is None:
                line |= known
            else:
                line["metadata"] = {**known, **(known.get("metadata") or {})}
                line["metadata"].pop("metadata", None)
                stem = posixpath.basename(key)
                own = {"name": stem, "stem": stem, "folder": posixpath.dirname(key), "__key__": key}
                line["prompt"] = template.fill({**own, **known})
            if images:
                line["images"] = images
            elif template is not None and not template.names:
                raise RecordError("there is no image in it.", hint="Its files have to end like images.")
            return Row(number, line_of(line))
        except RecordError as error:
            return Row(number, line_of({"id": key}), Problem(error.message, error.hint))

    def _known(self, key: str, members: dict[str, bytes | int]) -> tuple[list[str], dict[str, Any]]:
        """A record's images as data URLs, and what else is said of it."""
        naming = self._reading.naming
        images: dict[str, str] = {}
        known: dict[str, Any] = {}
        for end, data in members.items():
            kind = end.rpartition(".")[2].lower()
            if kind in _REFUSED:
                raise RecordError(f"{key}.{end} is in it, which cannot be looked at here.")
            if is_image_name("x." + end) or end in naming.images:
                if isinstance(data, int):
                    raise RecordError(f"{key}.{end} has {data:,} bytes, and the limit is {MAX_MEMBER:,}.")
                images[end] = "data:application/octet-stream;base64," + base64.b64encode(data).decode("ascii")
            elif isinstance(data, int):
                known[end] = f"{data:,} bytes"
            elif kind == "json":
                known |= _object(data, f"{key}.{end}")
            elif kind in _TEXTS:
                known[end] = _text(data, f"{key}.{end}")
            else:
                known[end] = f"{len(data):,} bytes"
        chosen = naming.images if naming.images and not naming.has_no_images else sorted(images)
        for end in chosen:
            if end not in images:
                raise RecordError(f"there is no {key}.{end} in it.", hint=f"Check --image-column {end}.")
        return [] if naming.has_no_images else [images[end] for end in chosen], naming.renamed(known)


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        values = decode_line(data)
    except RecordError as error:
        raise RecordError(f"{name}: {error.message}", hint=error.hint) from None
    values.pop("id", None)  # the record is called as its files are
    return values


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise RecordError(f"{name} is not UTF-8.", hint="Save it as UTF-8.") from None
