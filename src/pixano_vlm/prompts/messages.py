"""Chat messages: their form, the images and videos in them, and the one form that chat templates take.

The one walker of messages. Never changes the caller's objects; knows no chat template and opens no file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixano_vlm.errors import PromptError
from pixano_vlm.models.image_source import ImageSource, is_pillow_image
from pixano_vlm.prompts.placeholders import IMAGE, count_images, split_at_images

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})

VideoSource = str | Path | tuple[str | Path, ...]
"""A video file, or the images that are its frames."""

_IMAGE_KEYS = ("image", "url", "path")
_VIDEO_KEYS = ("video", "url", "path")
_SOURCE_KEYS = {"image": _IMAGE_KEYS, "video": _VIDEO_KEYS}


def check_messages(messages: list[Any]) -> int:
    """Checks the form of chat messages and counts the bare image placeholders in them.

    Returns:
        How many `{"type": "image"}` parts name no image of their own.

    Raises:
        ValueError: With the place and what is wrong.
    """
    if not messages:
        raise ValueError("prompt is an empty list of messages")
    return sum(check_message(message, f"prompt[{number}]") for number, message in enumerate(messages))


def check_message(message: Any, where: str) -> int:
    """As `check_messages`, for one message; `where` names it."""
    if not isinstance(message, dict):
        kind = type(message).__name__
        raise ValueError(f"{where} must be an object with role and content, not {kind}")  # noqa: TRY004 - bad data
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(
            f"{where} has the unknown role {role!r:.60}; the roles are {', '.join(sorted(ROLES))}"
        )
    content = message.get("content")
    if isinstance(content, list):
        return sum(_check_part(part, f"{where}.content[{place}]") for place, part in enumerate(content))
    if not isinstance(content, str) and not (content is None and role == "assistant"):
        raise ValueError(f"{where}.content must be a string or a list of parts, not {_kind(content)}")
    return 0


def _kind(value: object) -> str:
    return "missing" if value is None else type(value).__name__


def _check_part(part: Any, where: str) -> int:
    if not isinstance(part, dict):
        raise ValueError(f"{where} must be an object with a type, not {type(part).__name__}")  # noqa: TRY004 - bad data
    kind = part.get("type")
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise ValueError(f"{where}.text must be a string, not {_kind(part.get('text'))}")
        return 0
    if kind == "image_url":
        source = part.get("image_url")
        source = source.get("url") if isinstance(source, dict) else source
        if not isinstance(source, str) or not source.strip():
            raise ValueError(f"{where}.image_url must hold a url")
        return 0
    if kind == "image":
        named = [key for key in _IMAGE_KEYS if part.get(key) is not None]
        for key in named:
            if not (_is_source(part[key]) or _is_in_memory(part[key])):
                raise ValueError(f"{where}.{key} must be a path or URL, not {part[key]!r:.60}")
        if len(named) > 1:
            raise ValueError(f"{where} names its image twice, as {' and as '.join(named)}")
        return not named
    if kind == "video":
        _check_video(part, where)
        return 0
    raise ValueError(
        f"{where} has the unknown type {kind!r:.60}; the types are text, image, image_url and video"
    )


def _check_video(part: dict[str, Any], where: str) -> None:
    named = [key for key in _VIDEO_KEYS if part.get(key) is not None]
    if len(named) != 1:
        found = f"names its video twice, as {' and as '.join(named)}" if named else "names no video"
        raise ValueError(f'{where} {found}; write "video": "clip.mp4", or a list of its frames')
    value = part[named[0]]
    frames = value if isinstance(value, (list, tuple)) else [value]
    if not frames:
        raise ValueError(f"{where}.{named[0]} is an empty list of frames")
    for frame in frames:
        if not _is_source(frame):
            raise ValueError(
                f"{where}.{named[0]} must be a path or URL, or a list of those of its frames, not {frame!r:.60}"
            )


def _is_source(value: object) -> bool:
    """Whether a value may name a file; lines hold strings, and the library takes paths too."""
    return isinstance(value, (str, Path)) and bool(str(value).strip()) and "\0" not in str(value)


def _is_in_memory(value: object) -> bool:
    """Whether a value is an image itself, which only the library is given."""
    return (isinstance(value, bytes) and bool(value)) or is_pillow_image(value)


def map_images(messages: list[dict[str, Any]], replace: Callable[[str], str]) -> list[dict[str, Any]]:
    """The messages with the source of every image, video and frame replaced by `replace(source)`.

    What changes is copied; what does not is shared with `messages`, which stays as it is.
    """
    return [_map_message(message, replace) for message in messages]


def count_places(messages: list[dict[str, Any]], bare: int, images: int) -> int | None:
    """How many places for an image checked messages have, as far as that is known without the model.

    None where a model may find further ones: string contents may hold its own placeholder, and take images that have
    no place at all.

    Args:
        messages: As `check_messages` took them.
        bare: What it returned.
        images: How many images the record lists.
    """
    if bare >= images:
        return bare
    contents = [message.get("content") for message in messages if message["role"] != "assistant"]
    texts = [content for content in contents if isinstance(content, str)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    texts += [part["text"] for part in parts if part["type"] == "text"]
    written = sum(count_images(text) for text in texts)
    if not bare and not written and any(isinstance(content, str) for content in contents):
        return None
    return bare + written


def image_sources(messages: list[dict[str, Any]]) -> list[str]:
    """The images in the messages, in order; frames of videos are none."""
    found: list[str] = []

    def note(source: str) -> str:
        found.append(source)
        return source

    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part.get("type") != "video":
                _map_part(part, note)
    return found


def _map_message(message: dict[str, Any], replace: Callable[[str], str]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_map_part(part, replace) for part in content]}


def _map_part(part: dict[str, Any], replace: Callable[[str], str]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "image_url":
        source = part["image_url"]
        if isinstance(source, dict):
            return {**part, "image_url": {**source, "url": replace(source["url"])}}
        return {**part, "image_url": replace(source)}
    if kind in _SOURCE_KEYS:
        keys = _SOURCE_KEYS[kind]
        return {k: _map_source(v, replace) if k in keys and v is not None else v for k, v in part.items()}
    return part


def _map_source(source: Any, replace: Callable[[str], str]) -> Any:
    return [replace(frame) for frame in source] if isinstance(source, list) else replace(source)


@dataclass(frozen=True, slots=True)
class Chat:
    """Chat messages in one form: every content is a list of parts, and the parts name no source."""

    messages: list[dict[str, Any]]
    """Parts are `{"type": "text", "text": ...}`, `{"type": "image"}` and `{"type": "video"}`."""
    images: list[ImageSource]
    """In the order of their places."""
    videos: list[VideoSource]
    strings: frozenset[int] = field(default_factory=frozenset)
    """Indices of the messages whose content was a string."""


def read_chat(
    prompt: str | list[dict[str, Any]],
    images: Sequence[ImageSource],
    placeholders: Sequence[str] = (IMAGE,),
) -> Chat:
    """Copies a prompt into the one form that chat templates take; a string is one user turn.

    Images named in parts stay in their places. Image parts without a source are filled from `images` in order, and so
    are `placeholders` in the text, unless the parts alone account for every image: then a placeholder is text. Images
    for which there is no place at all come first in the first user turn.

    Args:
        prompt: A string, or chat messages.
        images: The images that no part names.
        placeholders: What in a text is the place of an image.

    Raises:
        PromptError: When a message is malformed, or places and images do not match.
    """
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not turns:
        raise PromptError("the prompt is an empty list of messages.", hint="Give at least one user message.")
    contents = [_read_parts(message, number) for number, message in enumerate(turns, start=1)]
    named = [part for content in contents for part in content if part["type"] == "image"]
    unnamed = sum(part["source"] == "" for part in named)
    if not named or unnamed < len(images):
        contents = [
            content if message["role"] == "assistant" else _split_texts(content, placeholders)
            for message, content in zip(turns, contents, strict=True)
        ]
    found, videos = _fill(turns, contents, images)
    messages = [
        {**message, "content": [_without_source(part) for part in content]}
        for message, content in zip(turns, contents, strict=True)
    ]
    strings = frozenset(i for i, message in enumerate(turns) if not isinstance(message.get("content"), list))
    return Chat(messages, found, videos, strings)


def read_messages(
    prompt: str | list[dict[str, Any]], images: Sequence[ImageSource]
) -> tuple[list[dict[str, Any]], list[ImageSource]]:
    """As `read_chat`, where images are all that is taken.

    Returns:
        The messages, and the images in the order of their places.

    Raises:
        PromptError: When a message is malformed or holds a video, or places and images do not match.
    """
    chat = read_chat(prompt, images)
    if chat.videos:
        raise PromptError(
            "videos are not taken by this way of running a model.", hint="Give frames as images."
        )
    return chat.messages, chat.images


def _read_parts(message: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """A message's parts; those of images and videos with their `source`, which is "" where a part names none."""
    content = message.get("content")
    if isinstance(content, list):
        content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
        message = {**message, "content": content}
    try:
        check_message(message, f"message {number}")
    except ValueError as error:
        raise PromptError(f"{error}.") from None
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_read_part(part) for part in content]


def _read_part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part["type"]
    if kind == "text":
        return {"type": "text", "text": part["text"]}
    if kind == "image_url":
        source = part["image_url"]
        return {"type": "image", "source": source["url"] if isinstance(source, dict) else source}
    named = [part[key] for key in _SOURCE_KEYS[kind] if part.get(key) is not None]
    source = named[0] if named else ""
    return {"type": kind, "source": tuple(source) if isinstance(source, (list, tuple)) else source}


def _split_texts(content: list[dict[str, Any]], placeholders: Sequence[str]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in content:
        if part["type"] != "text":
            parts.append(part)
            continue
        parts += [
            {"type": "image", "source": ""} if text is None else {"type": "text", "text": text}
            for text in split_at_images(part["text"], placeholders)
        ]
    return parts


def _fill(
    turns: list[dict[str, Any]], contents: list[list[dict[str, Any]]], images: Sequence[ImageSource]
) -> tuple[list[ImageSource], list[VideoSource]]:
    """Gives each image part without a source the next image; all images and videos in their order."""
    places = [part for content in contents for part in content if part["type"] == "image"]
    open_places = sum(part["source"] == "" for part in places)
    if images and not places:
        first = next((i for i, message in enumerate(turns) if message["role"] == "user"), None)
        if first is None:
            raise PromptError("the record has images but no user message to put them in.")
        contents[first][:0] = [{"type": "image", "source": ""} for _ in images]
    elif open_places != len(images):
        raise PromptError(
            f"the prompt has {_count(open_places, 'place')} for an image, and the record lists "
            f"{_count(len(images), 'image')}.",
            hint='Give one image per {"type": "image"} part or `<image>` in the text, or leave the places out.',
        )
    waiting = iter(images)
    found: list[ImageSource] = []
    videos: list[VideoSource] = []
    for part in (part for content in contents for part in content):
        if part["type"] == "video":
            videos.append(part["source"])
        elif part["type"] == "image":
            found.append(part["source"] or next(waiting))
    return found, videos


def _without_source(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "source"}


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'s' * (number != 1)}"
