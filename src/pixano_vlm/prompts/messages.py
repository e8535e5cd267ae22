"""Walks chat messages: checks their form, finds the images and videos that stand in them, replaces those without
changing the caller's objects. Knows no chat template and opens no file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})

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
    bare = 0
    for number, message in enumerate(messages):
        where = f"prompt[{number}]"
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
            bare += sum(_check_part(part, f"{where}.content[{place}]") for place, part in enumerate(content))
        elif not isinstance(content, str) and not (content is None and role == "assistant"):
            raise ValueError(f"{where}.content must be a string or a list of parts, not {_kind(content)}")
    return bare


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
            if not isinstance(part[key], str) or not part[key].strip() or "\0" in part[key]:
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
    frames = value if isinstance(value, list) else [value]
    if not frames:
        raise ValueError(f"{where}.{named[0]} is an empty list of frames")
    for frame in frames:
        if not isinstance(frame, str) or not frame.strip() or "\0" in frame:
            raise ValueError(
                f"{where}.{named[0]} must be a path or URL, or a list of those of its frames, not {frame!r:.60}"
            )


def map_images(messages: list[dict[str, Any]], replace: Callable[[str], str]) -> list[dict[str, Any]]:
    """The messages with the source of every image, video and frame replaced by `replace(source)`.

    What changes is copied; what does not is shared with `messages`, which stays as it is.
    """
    return [_map_message(message, replace) for message in messages]


def image_sources(messages: list[dict[str, Any]]) -> list[str]:
    """The images that stand in the messages, in order; frames of videos are none."""
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
