"""The images of one page: small, upright, as data URLs, each distinct one once.

An image that cannot be shown is listed with the reason. Knows no record: it is given sources and gives numbers.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, features

from pixano_vlm.errors import ImageError
from pixano_vlm.media.images import load_image
from pixano_vlm.media.sources import is_url, local_path, shortened, split_page, with_page
from pixano_vlm.models.limits import Limits

__all__ = ["PageImage", "PageImages"]

WORKERS = 4
"""Threads that decode: images are decoded outside Python's lock."""


@dataclass(frozen=True, slots=True)
class PageImage:
    """One image as the page has it."""

    name: str
    """Its path or URL as it is written, data URLs shortened."""
    thumbnail: int | None = None
    """Place among the page's thumbnails; `None` when there is none."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the original in pixels, upright."""
    missing: str | None = None
    """Why there is no thumbnail."""
    link: str | None = None
    """Where the original is: a path relative to the page, or an `http(s)` URL."""

    def to_dict(self) -> dict[str, Any]:
        """As the page reads it."""
        values = {"name": self.name, "thumbnail": self.thumbnail, "missing": self.missing, "link": self.link}
        shown = {key: value for key, value in values.items() if value is not None}
        return shown if self.thumbnail is None else {**shown, "size": list(self.size)}


Loaded = tuple[bytes, tuple[int, int], str] | ImageError
"""An image's digest, its size and its thumbnail as a data URL, or why there is none."""


class PageImages:
    """Collects the images of one page and makes their thumbnails.

    Args:
        size: Longest edge of a thumbnail, in pixels.
        page: The file that shows them; links to originals start from its folder.
        fetch_urls: Whether `http(s)` images are fetched.
    """

    def __init__(self, size: int, page: Path, *, fetch_urls: bool = False) -> None:
        self._size, self._page_folder = size, page.resolve().parent
        self._limits = Limits(allow_urls=fetch_urls)
        self._places: dict[str, int] = {}
        self._names: list[str] = []
        self._made: dict[str, Loaded] = {}
        """What was made of data URLs, which are too long to be kept until all are read."""

    def add(self, source: str, folder: Path) -> int:
        """The number of an image, new or known.

        Args:
            source: A path, URL or data URL.
            folder: Where a relative path starts.
        """
        where = _resolved(source, folder)
        key = _short_key(where) if _is_data(where) else where
        if key not in self._places:
            self._places[key] = len(self._names)
            self._names.append(shortened(source))
            if key != where:
                self._made[key] = self._load(where)
        return self._places[key]

    def load(self) -> tuple[list[PageImage], list[str]]:
        """Reads them all: the images in the order of their numbers, and the thumbnails as data URLs."""
        numbers: dict[bytes, int] = {}
        images: list[PageImage] = []
        thumbnails: list[str] = []
        for (where, place), loaded in zip(self._places.items(), self._all(), strict=True):
            name, link = self._names[place], self._link(where)
            if isinstance(loaded, ImageError):
                images.append(PageImage(name, missing=_reason(loaded, where, name), link=link))
                continue
            digest, size, thumbnail = loaded
            if digest not in numbers:
                numbers[digest] = len(thumbnails)
                thumbnails.append(thumbnail)
            images.append(PageImage(name, numbers[digest], size, link=link))
        return images, thumbnails

    def _all(self) -> Iterator[Loaded]:
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="thumbnails") as pool:
            files = pool.map(self._load, [where for where in self._places if where not in self._made])
            for where in self._places:
                yield self._made[where] if where in self._made else next(files)

    def _load(self, where: str) -> Loaded:
        if not self._limits.allow_urls and is_url(where) and not _is_data(where):
            return ImageError("it is on the web and was not fetched.", hint="--fetch-urls fetches it.")
        try:
            loaded = load_image(where, self._limits)
            return loaded.digest, loaded.size, data_url(loaded.image, self._size)
        except ImageError as error:
            return error

    def _link(self, where: str) -> str | None:
        if where[:7].lower() == "http://" or where[:8].lower() == "https://":
            return where
        if is_url(where):
            return None
        try:
            path = os.path.relpath(where, self._page_folder)
        except ValueError:  # on another drive
            return None
        path, page = split_page(path)
        # It begins with a dot, so that no part of a file's name is taken for a scheme.
        link = quote(f"./{Path(path).as_posix()}", safe="/", errors="surrogateescape")
        return link if page is None else with_page(link, page)


def data_url(image: Image.Image, size: int) -> str:
    """An RGB image, shrunk to fit into `size` x `size` pixels, as a data URL."""
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    kind, options = (
        ("webp", {"quality": 80, "method": 2}) if features.check("webp") else ("jpeg", {"quality": 85})
    )
    file = BytesIO()
    small.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _resolved(source: str, folder: Path) -> str:
    if is_url(source):
        return source
    try:
        return os.path.normpath(folder / local_path(source))
    except ValueError:  # a file: URL of another host, which reading will say
        return source


def _short_key(url: str) -> str:
    return "data:" + blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _is_data(source: str) -> bool:
    return source[:5].lower() == "data:"


def _reason(error: ImageError, where: str, name: str) -> str:
    """Why an image is missing, by the name that the manifest has for it: a page may go to other people."""
    text = error.message.replace(where, name).removeprefix(name).lstrip(": ")
    return text[:1].upper() + text[1:] + (f" {error.hint}" if "fetch" in str(error.hint) else "")
