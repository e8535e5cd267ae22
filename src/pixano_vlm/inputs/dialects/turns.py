"""Messages in whatever form a tool writes them -> `role` and `content`, and parts as messages here have them.

What is in that form already stays the same object. Nothing that was given with a message is left out: an image is
taken wherever it is, and what cannot be sent is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.dialects.parts import IMAGE_KEYS, REFUSED_KEYS, as_part, as_source, image_part
from pixano_vlm.inputs.dialects.text_values import turns_in_text
from pixano_vlm.inputs.image_like import looks_like_image
from pixano_vlm.prompts.messages import ROLES

__all__ = ["MARK", "as_sources", "as_turns", "marks_in", "placed", "with_videos"]

_ROLES = {
    "human": "user", "question": "user", "instruction": "user", "gpt": "assistant", "model": "assistant",
    "bot": "assistant", "chatbot": "assistant", "ai": "assistant", "answer": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "observation": "tool", "function_response": "tool", "ipython": "tool",
}  # fmt: skip
_CONTENT_KEYS = ("content", "value", "text", "parts")
_TURN_KEYS = frozenset({"role", "from", *_CONTENT_KEYS})
_PLAIN_IMAGE_KEYS = frozenset(key.lower().replace("_", "") for key in IMAGE_KEYS)
_PAIRS = (("human", "assistant"), ("user", "assistant"), ("human", "gpt"), ("question", "answer"))

MARK = re.compile(r"<image>|<image_placeholder>|<ImageHere>|<\|image\|>|<\|?image[_ ]\d+\|?>")
"""The place of the next image in the text of training data."""
_NAMED = re.compile(r"(?:Picture \d+: ?)?<img>(.+?)</img>\n?")
"""Qwen-VL's first form: the image's path in the text."""


def as_turns(turns: Any, where: str) -> list[Any]:
    """A list of messages; an item that is none stays, for the check of messages to refuse.

    Raises:
        RecordError: When it is not a list, or holds what cannot be sent.
    """
    if isinstance(turns, str):
        turns = turns_in_text(turns, where)
    if isinstance(turns, dict):
        turns = next((turns[key] for key in ("messages", "conversations") if key in turns), [turns])
    if not isinstance(turns, list):
        raise RecordError(
            f"{where} must be a list of messages.", hint='Write [{"role": "user", "content": "..."}].'
        )
    found: list[Any] = []
    for number, turn in enumerate(turns):
        found += _turn(turn, f"{where}[{number}]")
    return found


def _turn(turn: Any, where: str) -> list[Any]:
    if isinstance(turn, str) and turn.lstrip().startswith("{"):
        turn = (turns_in_text(turn, where) or [turn])[0]
    if not isinstance(turn, dict):
        return [turn]
    if "role" not in turn and "from" not in turn:
        for question, answer in _PAIRS:
            if isinstance(turn.get(question), str):
                pair = [{"role": "user", "content": turn[question]}]
                return pair + (
                    [{"role": "assistant", "content": turn[answer]}] if turn.get(answer) is not None else []
                )
        return [turn]
    return [_message(turn, where)]


def _names_images(key: str) -> bool:
    """Whether it is a key of images, in whatever letters: `Images`, `imageUrl`, `image-path`."""
    return key in IMAGE_KEYS or key.lower().replace("_", "").replace("-", "") in _PLAIN_IMAGE_KEYS


def _message(turn: dict[str, Any], where: str) -> dict[str, Any]:
    role = _role(turn.get("role", turn.get("from")))
    content = next((turn[key] for key in _CONTENT_KEYS if turn.get(key) is not None), None)
    content = _content(content, where)
    images, videos = [], []
    for key, value in turn.items():
        if value is None or value in ([], "", {}) or key in _TURN_KEYS:
            continue
        if _names_images(key):
            images += as_sources(value, f"{where}.{key}")
        elif key in ("video", "videos"):
            videos += as_sources(value, f"{where}.{key}")
        elif key in REFUSED_KEYS:
            raise RecordError(f"{where}.{key} cannot be sent.", hint="Leave it out, or give it as images.")
        elif looks_like_image(value):
            raise RecordError(
                f"{where}.{key} seems to hold an image, which nobody would look at.",
                hint="Give it as images.",
            )
    if images or videos:
        content = _with_images(content, images, where)
        content = [*({"type": "video", "video": video} for video in videos), *_as_parts(content)]
    elif isinstance(content, str) and role != "assistant" and "<img>" in content:
        content = _with_named_images(content)
    same = role == turn.get("role") and content is turn.get("content")
    if same and not images:
        return turn
    others = {
        key: value
        for key, value in turn.items()
        if key not in _TURN_KEYS and key not in ("video", "videos") and not _names_images(key)
    }
    return {"role": role, "content": content, **others}


def _role(role: Any) -> Any:
    if not isinstance(role, str) or role in ROLES:
        return role
    plain = role.strip("<|> ").lower()
    return plain if plain in ROLES else _ROLES.get(plain, role)


def _content(content: Any, where: str) -> Any:
    if isinstance(content, str):
        return (
            turns_in_text(content, f"{where}.content")
            if '"type"' in content or "'type'" in content
            else content
        )
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return content
    parts = [as_part(part, f"{where}.content[{number}]") for number, part in enumerate(content)]
    is_same = len(parts) == len(content) and all(new is old for new, old in zip(parts, content, strict=True))
    return content if is_same else parts


def as_sources(value: Any, where: str) -> list[Any]:
    """The images that a key names, each as a path or URL."""
    if value is None or value == "":
        return []
    if isinstance(value, dict) and value and all(MARK.fullmatch(key) for key in value):
        value = list(value.values())  # MiniCPM-V: place -> path
    return [as_source(item, where) for item in (value if isinstance(value, list) else [value])]


def _as_parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content or [])


def _with_images(content: Any, images: list[Any], where: str) -> list[Any]:
    """A message's content with its own images in their places, or before its text where it has none."""
    parts = (
        _split(content)
        if isinstance(content, str) and marks_in(content) == len(images)
        else _as_parts(content)
    )
    places = [index for index, part in enumerate(parts) if part == {"type": "image"}]
    if places and len(places) != len(images):
        raise RecordError(
            f"{where} has {len(places)} places for an image and names {len(images)}.",
            hint="Name one image for each place.",
        )
    if not places:
        return [*map(image_part, images), *parts]
    for index, source in zip(places, images, strict=True):
        parts[index] = image_part(source)
    return parts


def _with_named_images(text: str) -> list[Any]:
    parts: list[Any] = []
    end = 0
    for match in _NAMED.finditer(text):
        if match.start() > end:
            parts.append({"type": "text", "text": text[end : match.start()]})
        parts.append(image_part(match.group(1)))
        end = match.end()
    if end < len(text):
        parts.append({"type": "text", "text": text[end:]})
    return parts


def marks_in(content: Any) -> int:
    """How many places for an image a string content has."""
    return len(MARK.findall(content)) if isinstance(content, str) else 0


def _split(text: str) -> list[Any]:
    parts: list[Any] = []
    end = 0
    for match in MARK.finditer(text):
        if match.start() > end:
            parts.append({"type": "text", "text": text[end : match.start()]})
        parts.append({"type": "image"})
        end = match.end()
    if end < len(text):
        parts.append({"type": "text", "text": text[end:]})
    return parts


def placed(messages: list[Any], images: int) -> list[Any]:
    """Messages with a place for each image that a line lists beside them.

    Where the messages have image parts already, or not as many places as images, they stay as they are.
    """
    asking = [m for m in messages if isinstance(m, dict) and m.get("role") != "assistant"]
    contents = [message.get("content") for message in asking]
    bare = sum(
        part == {"type": "image"} for content in contents if isinstance(content, list) for part in content
    )
    if not images or bare:
        return messages
    marks = sum(map(marks_in, contents))
    if marks:
        if marks != images:
            return messages
        return [
            {**message, "content": _split(message["content"])}
            if isinstance(message, dict)
            and message.get("role") != "assistant"
            and marks_in(message.get("content"))
            else message
            for message in messages
        ]
    first = next((i for i, m in enumerate(messages) if isinstance(m, dict) and m.get("role") == "user"), None)
    if first is None or not isinstance(messages[first].get("content"), str):
        return messages
    content = [*({"type": "image"} for _ in range(images)), *_as_parts(messages[first]["content"])]
    return [*messages[:first], {**messages[first], "content": content}, *messages[first + 1 :]]


def with_videos(messages: list[Any], videos: Sequence[Any]) -> list[Any]:
    """Messages with the videos that a line lists, in the places of `<video>` or before the user's first text."""
    waiting = list(videos)
    found = list(messages)
    for index, message in enumerate(found):
        content = message.get("content") if isinstance(message, dict) else None
        if waiting and isinstance(content, str) and message.get("role") == "user":
            pieces = content.split("<video>")
            if len(pieces) == 1 and index != _first_user(found):
                continue
            if len(pieces) == 1:
                pieces = ["", content]
            parts: list[Any] = []
            for place, piece in enumerate(pieces):
                if place and waiting:
                    parts.append({"type": "video", "video": waiting.pop(0)})
                parts += _as_parts(piece)
            found[index] = {**message, "content": parts}
    if waiting:
        raise RecordError(
            f"there is no place for {len(waiting)} of the videos.", hint="Write <video> where each belongs."
        )
    return found


def _first_user(messages: list[Any]) -> int:
    return next((i for i, m in enumerate(messages) if isinstance(m, dict) and m.get("role") == "user"), -1)
