"""Images with several pages: all of them as images of their record.

Knows prompts and messages; how many pages there are, `media` says. `page_rows` makes a record of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pixano_vlm.errors import RecordError
from pixano_vlm.media.page_count import count_pages
from pixano_vlm.media.sources import with_page
from pixano_vlm.models.limits import Limits
from pixano_vlm.prompts.messages import image_sources, map_images
from pixano_vlm.prompts.placeholders import IMAGE, count_images, split_at_images

__all__ = ["Pages", "with_all_pages"]

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
    if isinstance(prompt, str):
        prompt = _text_with_all(prompt, groups)
    else:
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


def _text_with_all(text: str, groups: list[list[str | Path]]) -> str:
    """A text that names the places of its images, with a place for each page."""
    if count_images(text) != len(groups):
        return text
    waiting = iter(groups)
    return "".join(IMAGE * len(next(waiting)) if piece is None else piece for piece in split_at_images(text))


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
