"""Images with several pages: all of them as images of their record, or a record for each page.

Knows lines and messages; how many pages there are, `media` says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.rows import Problem, Row, Rows, line_of
from pixano_vlm.media.page_count import count_pages
from pixano_vlm.media.sources import from_base64, is_url, local_path, with_page
from pixano_vlm.models.limits import Limits
from pixano_vlm.prompts.messages import image_sources, map_images

__all__ = ["PageRows", "Pages", "with_all_pages"]

Pages = Literal["first", "all", "each"]
"""What is read of an image with several pages that does not name one: the first, all as images of the record, or
each as a record of its own."""

Prompt = str | list[dict[str, Any]]


def with_all_pages(
    prompt: Prompt, images: Sequence[str | Path], limits: Limits
) -> tuple[Prompt, list[str | Path]]:
    """A record's prompt and images with every page of its images as an image of its own.

    Args:
        prompt: Its text or messages. A place for an image becomes as many as the image has pages.
        images: Whole paths and URLs.
        limits: What may be opened, and how many images a record may have.

    Raises:
        RecordError: When it then has too many.
    """
    groups = [_pages_of(str(source), limits) for source in images]
    found = [page for group in groups for page in group]
    total = len(found)
    if isinstance(prompt, list):
        waiting = iter(groups)
        prompt = [_message_with_all(message, waiting, limits) for message in prompt]
        total += len(image_sources(prompt))
    if total > limits.max_images:
        raise RecordError(
            f"{total:,} images, every page counted, and the limit is {limits.max_images:,}.",
            hint="Say --pages each for a record for each page.",
        )
    return prompt, found


def _pages_of(source: str, limits: Limits) -> list[str | Path]:
    count = count_pages(source, limits)
    return [source] if count == 1 else [with_page(source, page) for page in range(1, count + 1)]


def _message_with_all(
    message: dict[str, Any], waiting: Iterator[list[str | Path]], limits: Limits
) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts: list[dict[str, Any]] = []
    for part in content:
        if part.get("type") not in ("image", "image_url"):
            parts.append(part)
        elif sources := image_sources([{"content": [part]}]):
            parts += [_renamed(part, str(page)) for page in _pages_of(sources[0], limits)]
        else:
            parts += [part] * len(next(waiting, [""]))
    return {**message, "content": parts}


def _renamed(part: dict[str, Any], source: str) -> dict[str, Any]:
    (message,) = map_images([{"content": [part]}], lambda _: source)
    renamed: dict[str, Any] = message["content"][0]
    return renamed


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
        for row in self._rows.rows():
            if row.problem is not None:
                yield row
            else:
                yield from self._pages(row)

    def _pages(self, row: Row) -> Iterator[Row]:
        try:
            values = json.loads(row.text)
            sources = _sources(values)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            yield row  # it is not a usable line, which its parser says
            return
        counts = [count_pages(self._located(source), self._limits) for source in sources]
        if max(counts, default=1) == 1:
            yield row
        elif len(sources) > 1:
            problem = Problem(
                f"it has {len(sources)} images, one of {max(counts):,} pages, and each page is to be a record.",
                "Say --pages all, or name the page: scan.tif#page=2.",
            )
            yield row._replace(problem=problem)
        else:
            id = values.get("id", row.number)
            for page in range(1, counts[0] + 1):
                named = {**_with_source(values, with_page(sources[0], page)), "id": f"{id}#page={page}"}
                yield row._replace(text=line_of(named))

    def _located(self, source: str) -> str:
        source = from_base64(source)
        return source if is_url(source) else os.path.join(self.layout.folder, local_path(source))  # noqa: PTH118


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
