"""A record of a run before it is answered: a manifest's line, and the request that it asks."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from pixano_vlm.errors import VLMError
from pixano_vlm.media.stamps import FileStamp
from pixano_vlm.models.deferred import Deferred
from pixano_vlm.models.vlm import VLMInput


class Problem(NamedTuple):
    """Why something is not a usable record, and what to do about it."""

    message: str
    hint: str | None = None


class Origin(NamedTuple):
    """Which of a manifest's several files a line is in."""

    name: str
    """How messages call it."""
    folder: str
    """What relative image paths start from: a folder, its links resolved, or a URL that ends with a slash."""


class RecordKeys(NamedTuple):
    """What a record asks, as a journal keeps it; see `content_key`."""

    weak: int
    strong: bytes
    has_files: bool
    """Whether the record names local image files."""
    state: bytes
    """Stamps of these; zeros where there are none."""
    is_repeatable: bool


class Line(NamedTuple):
    """One record as bytes."""

    record: int
    """Place among the manifest's records, from 0."""
    number: int
    """Line of the manifest, from 1."""
    text: bytes
    """Without surrounding white space; of one with a problem, what is known of it."""
    raw_hash: bytes
    offset: int
    """Where the line starts in the file, in bytes; of a manifest that is not a JSONL file, the same as `record`."""
    problem: Problem | None = None
    """Why it is not a usable record, where that is known before it is decoded."""
    name: str | None = None
    """The id of a record that has none of its own; None: its number."""
    origin: Origin | None = None
    """Its file, where the manifest has several."""

    @property
    def default_id(self) -> str:
        """The id of a record that has none of its own."""
        return self.name or str(self.number)


def hash_id(id: str) -> int:
    """64 bits of an id, never 0."""
    return int.from_bytes(blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1


def place(source: str, line: int, id: str | None) -> str:
    """How messages name a record; `id` is None where the line number is all there is."""
    return f"{source}:{line}" + ("" if id is None else f" (id {id!r})")


@dataclass(slots=True)  # not frozen, which takes three times as long to make: there are millions
class Request:
    """One manifest record. Either `input` or `error` is set. It is never changed."""

    index: int
    """Place among the manifest's records, from 0."""
    line: int
    """Line of the manifest, from 1."""
    id: str
    input: VLMInput | None
    images: tuple[str, ...] = ()
    """Images as the line writes them, for the output; data URLs shortened."""
    metadata: dict[str, Any] | None = None
    error: VLMError | None = None
    """Why the line is not a usable record: a `RecordError`, `ImageError` or `PromptError`."""
    raw_hash: bytes = b""
    """BLAKE2b-128 of the line's bytes without surrounding white space."""
    files: tuple[FileStamp, ...] = ()
    """The local image files, those in the messages included, as they were when the line was read."""
    id_hash: int = 0
    """64 bits of the line's own id; 0 when it has none and `id` is the line number."""
    own_seed: bool = False
    """Whether the seed was asked for, rather than derived from the run's seed and the id."""
    source: str = ""
    """The manifest's name, for messages."""
    prompt: str | list[dict[str, Any]] | None = None
    """What was asked, where the output is to say so; `data:` URLs shortened."""
    deferred: Deferred | None = None
    """Where it is, of a request that is read by whoever answers it: nothing else of it is known here."""
    keys: RecordKeys | None = None
    """What it is known by, of a request that was read elsewhere and whose input stayed there."""

    @property
    def where(self) -> str:
        """How messages name the record: `manifest.jsonl:17`, with its id where it has one of its own."""
        return place(self.source, self.line, self.id if self.id_hash else None)
