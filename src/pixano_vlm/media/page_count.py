"""How many pages an image source has, by as little of it as tells. Decodes nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict

from pixano_vlm.errors import ImageError
from pixano_vlm.media.formats import Format, sniff
from pixano_vlm.media.reading import read_bytes, read_head
from pixano_vlm.media.sources import file_and_page, from_base64, is_data_url, is_url, local_path, split_page
from pixano_vlm.media.stamps import FileStamp, stamp
from pixano_vlm.models.limits import Limits

__all__ = ["count_pages"]

_HEAD = 64 * 1024


def count_pages(source: str, limits: Limits) -> int:
    """How many pages an image has that does not name one.

    Args:
        source: A whole path, or a URL.
        limits: What may be opened.

    Returns:
        The count. 1 for one that names its page; for a URL, which nobody fetches twice; and for what cannot be
        opened, which says why when its turn comes.
    """
    source = from_base64(source)
    try:
        if is_url(source):
            named = split_page(source)[1] is not None or not is_data_url(source)
            return 1 if named else _count(read_bytes(source, limits)[0], source)
        path, page = file_and_page(local_path(source))
        return _COUNTS.of(path, limits) if page is None else 1
    except (ImageError, ValueError):
        return 1


class _Counts:
    """Counts of the files looked at lately, by their state: a manifest is read more than once."""

    SIZE = 65_536

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[FileStamp, int] = OrderedDict()

    def of(self, path: str, limits: Limits) -> int:
        state = stamp(path)
        with self._lock:
            known = self._entries.get(state)
        if known is not None:
            return known
        head = read_head(path, limits, _HEAD)
        count = _count(read_bytes(path, limits)[0], path) if _may_hold_pages(head) else 1
        with self._lock:
            self._entries[state] = count
            if len(self._entries) > self.SIZE:
                self._entries.popitem(last=False)
        return count


_COUNTS = _Counts()


def _may_hold_pages(head: bytes) -> bool:
    format = sniff(head)
    if format is None or not format.holds_pages or not format.is_readable:
        return False
    marks = {"PNG": b"acTL", "JPEG": b"MPF\0", "WEBP": b"ANIM"}
    return format.name not in marks or marks[format.name] in head


def _count(data: bytes, name: str) -> int:
    format = sniff(data)
    if format is None or not format.is_readable:
        return 1
    if format.name == "PDF":
        from pixano_vlm.media.pdf import count_pdf_pages

        return count_pdf_pages(data, name)
    return _frames(format, data)


def _frames(format: Format, data: bytes) -> int:
    if not format.holds_pages:
        return 1
    from pixano_vlm.media.pages import frames_of
    from pixano_vlm.media.pillow import open_with_pillow

    try:
        return len(frames_of(open_with_pillow(format, data)))
    # Damaged data, on which decoders raise whatever their parsing runs into: it is told when the image is opened.
    except Exception:
        return 1
