"""A record for each page: the rows of another source, and those with an image of several pages once for each.

Knows lines as they are written; how many pages there are, `media` says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pixano_vlm.errors import UsageError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.open import Source
from pixano_vlm.inputs.rows import Layout, Problem, Row, Rows, line_of
from pixano_vlm.media.page_count import count_pages
from pixano_vlm.media.sources import from_base64, is_url, local_path, with_page
from pixano_vlm.media.stores import is_store_url
from pixano_vlm.models.limits import Limits
from pixano_vlm.prompts.messages import image_sources, map_images

__all__ = ["PageRows", "page_rows"]


def page_rows(source: Source, limits: Limits) -> Rows:
    """The rows of a source, one for each page.

    Raises:
        UsageError: When it can be read only once.
    """
    if source.rows is not None:
        return PageRows(source.rows, limits)
    if source.path is None:
        raise UsageError(
            "--pages each does not go with inputs that can be read only once.", hint="Name files."
        )
    return PageRows(_LineRows(source.path), limits)


class _LineRows(Rows):
    """The lines of a JSONL file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.layout = Layout(path.name, path.parent)

    def rows(self) -> Iterator[Row]:
        manifest = Manifest(self._path)
        try:
            for line in manifest.lines():
                yield Row(line.number, line.text, line.problem)
        finally:
            manifest.close()


class PageRows(Rows):
    """The rows of another source, with a row for each page of their image.

    Args:
        rows: The other source.
        limits: What may be opened.
    """

    def __init__(self, rows: Rows, limits: Limits) -> None:
        self._rows, self._limits = rows, limits
        self.layout = rows.layout

    def rows(self) -> Iterator[Row]:
        """The rows. A record's id is that of its row and its page: `scan.tif#page=2`."""
        for whole in self._rows.rows():
            row = whole._replace(state=None)  # pages are told apart by their text
            if row.problem is not None:
                yield row
            else:
                yield from self._pages(row)

    def passed_over(self) -> Mapping[str, int]:
        """As the other source has it."""
        return self._rows.passed_over()

    def _pages(self, row: Row) -> Iterator[Row]:
        try:
            values = json.loads(row.text)
            sources = _sources(values)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            yield row  # it is not a usable line, which its parser says
            return
        folder = self.layout.folder if row.origin is None else row.origin.folder
        counts = [count_pages(_located(source, folder), self._limits) for source in sources]
        if max(counts, default=1) == 1:
            yield row
        elif len(sources) > 1:
            problem = Problem(
                f"it has {len(sources)} images, one of {max(counts):,} pages, and each page is to be a record.",
                "Say --pages all, or name the page: scan.tif#page=2.",
            )
            yield row._replace(problem=problem)
        else:
            id = values.get("id", row.name or row.number)
            for page in range(1, counts[0] + 1):
                named = {**_with_source(values, with_page(sources[0], page)), "id": f"{id}#page={page}"}
                yield row._replace(text=line_of(named))


def _located(source: str, folder: Path | str) -> str:
    source = from_base64(source)
    if not is_url(source) and isinstance(folder, str) and is_store_url(folder):
        return folder + source
    return source if is_url(source) else os.path.join(folder, local_path(source))  # noqa: PTH118


def _sources(values: dict[str, Any]) -> list[str]:
    """The images of a line as it is written."""
    images = values.get("images")
    listed = [images] if isinstance(images, str) else list(images or ())
    prompt = values.get("prompt")
    return listed + (image_sources(prompt) if isinstance(prompt, list) else [])


def _with_source(values: dict[str, Any], source: str) -> dict[str, Any]:
    if values.get("images"):
        return {**values, "images": [source]}
    return {**values, "prompt": map_images(values["prompt"], lambda _: source)}
