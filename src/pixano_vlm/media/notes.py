"""What was noticed of an image while it was opened, for whoever reports the answer about it later.

An engine opens images in threads of its own and answers with text alone; the run that reports the answer asks here,
by the image's source. Only what is out of the ordinary is kept, of the images opened lately, in this process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from pixano_vlm.media.stamps import image_digest
from pixano_vlm.models.image_source import ImageSource, is_pillow_image

__all__ = ["NOTES", "FreshNotes", "Note", "Notes"]


@dataclass(frozen=True, slots=True)
class Note:
    """What is out of the ordinary about one image."""

    pages_not_read: int = 0
    """Pages of its file that nobody asked for."""
    is_guessed: bool = False
    """Whether its file leaves open what its samples mean."""


FreshNotes = dict[str | bytes, Note]
"""Notes as they cross to another process."""


class Notes:
    """Notes by source, the oldest forgotten first. Safe from many threads."""

    SIZE = 65_536

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[str | bytes, Note] = OrderedDict()
        self._fresh: FreshNotes = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def put(self, source: ImageSource, note: Note) -> None:
        """Keeps what was noticed, instead of what was before."""
        key = _key(source)
        if key is None:
            return
        with self._lock:
            self._keep(key, note)
            if note != _NOTHING and len(self._fresh) < self.SIZE:
                self._fresh[key] = note

    def _keep(self, key: str | bytes, note: Note) -> None:
        self._entries.pop(key, None)
        if note != _NOTHING:
            self._entries[key] = note
            if len(self._entries) > self.SIZE:
                self._entries.popitem(last=False)

    def take_fresh(self) -> FreshNotes:
        """What was noticed since the last call: for another process, which adds it to its own."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        return fresh

    def add(self, fresh: FreshNotes) -> None:
        """Keeps what another process has noticed."""
        with self._lock:
            for key, note in fresh.items():
                self._keep(key, note)

    def of(self, source: ImageSource) -> Note:
        """What was noticed when the image was opened last; nothing, where it was not."""
        if not self._entries:
            return _NOTHING
        key = _key(source)
        with self._lock:
            return _NOTHING if key is None else self._entries.get(key, _NOTHING)


_NOTHING = Note()
_LONGEST_KEY = 4_096


def _key(source: ImageSource) -> str | bytes | None:
    if is_pillow_image(source):
        return None
    if isinstance(source, bytes):
        return image_digest(source)
    name = str(source)
    return name if len(name) <= _LONGEST_KEY else image_digest(name.encode("utf-8", "surrogatepass"))


NOTES = Notes()
"""Those of this process."""
