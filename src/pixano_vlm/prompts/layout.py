"""From a request to the text that the model's processor takes, its images and videos in the order of their places.

The layout is the model's own: its chat template where it has one, else the plain prompt. Knows nothing of
pixels or tokens; never changes the caller's messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixano_vlm.errors import PromptError
from pixano_vlm.models.image_source import ImageSource, is_pillow_image
from pixano_vlm.models.vlm import VLMInput

ROLES = ("system", "developer", "user", "assistant", "tool")

VideoSource = str | Path | tuple[str | Path, ...]
"""A video file, or the images that are its frames."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A prompt laid out: the text for the processor, and the images and videos in order."""

    text: str
    images: tuple[ImageSource, ...]
    from_template: bool
    videos: tuple[VideoSource, ...] = ()


@dataclass(frozen=True, slots=True)
class Chat:
    """Chat messages in the one form that templates take, and what stands in their places."""

    messages: list[dict[str, Any]]
    images: list[ImageSource]
    videos: list[VideoSource]


class PromptWriter:
    """Lays out prompts for one model.

    Args:
        processor: The model's processor.
        prepends_images: For a model without a chat template, whether the prompt must name its images itself,
            or the processor (or nobody) puts them in.
    """

    def __init__(self, processor: Any, *, prepends_images: bool) -> None:
        self._processor = processor
        self.prepends_images = prepends_images
        token = getattr(processor, "image_token", None)
        self.image_token: str | None = None if token is None else str(token)

    @property
    def has_template(self) -> bool:
        """Whether the model brings a chat template."""
        return bool(getattr(self._processor, "chat_template", None))

    def lay_out(self, input: VLMInput) -> Layout:
        """Lays out one request.

        Raises:
            PromptError: When messages are malformed, or placeholders and images do not match.
        """
        images = tuple(input.images or ())
        if isinstance(input.prompt, str):
            return self._lay_out_text(input.prompt, images)
        chat = read_chat(input.prompt, images)
        if chat.videos:
            self._check_takes_video()
        if not self.has_template:
            return self._lay_out_text(_only_text(chat.messages), tuple(chat.images))
        text = self._render(chat.messages)
        self._check_video_places(text, len(chat.videos))
        return Layout(text, tuple(chat.images), from_template=True, videos=tuple(chat.videos))

    def _check_takes_video(self) -> None:
        if getattr(self._processor, "video_processor", None) is None:
            raise PromptError(
                "this model takes no video: its processor has no part for them.",
                hint="Give frames as images, or use a model that takes video.",
            )
        if not self.has_template:
            raise PromptError("this model has no chat template, and videos stand in chat messages.")

    def _check_video_places(self, text: str, videos: int) -> None:
        token = getattr(self._processor, "video_token", None)
        if videos and token is not None and str(token) not in text:
            raise PromptError(
                "this model's chat template has no place for a video.",
                hint="Give frames as images, or use a model that takes video.",
            )

    def _lay_out_text(self, prompt: str, images: tuple[ImageSource, ...]) -> Layout:
        if self.image_token and self.image_token in prompt:
            places = prompt.count(self.image_token)
            if places != len(images):
                raise PromptError(
                    f"the prompt holds {self.image_token!r} {places} times but the record has {len(images)} images.",
                    hint="Give as many images as the prompt has places, or leave the places out.",
                )
            return Layout(prompt, images, from_template=False)
        if self.has_template:
            content = [*({"type": "image"} for _ in images), {"type": "text", "text": prompt}]
            return Layout(self._render([{"role": "user", "content": content}]), images, from_template=True)
        if self.prepends_images and self.image_token and images:
            prompt = self.image_token * len(images) + prompt
        return Layout(prompt, images, from_template=False)

    def _render(self, messages: list[dict[str, Any]]) -> str:
        from jinja2 import TemplateError

        answered = messages[-1]["role"] == "assistant"  # an answer already begun is gone on with
        options = {
            "tokenize": False,
            "add_generation_prompt": not answered,
            "continue_final_message": answered,
        }
        try:
            text: str = self._processor.apply_chat_template(messages, **options)
        except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            raise PromptError(f"the model's chat template refuses these messages: {error}.") from error
        return text


def read_messages(
    prompt: list[dict[str, Any]], images: Sequence[ImageSource]
) -> tuple[list[dict[str, Any]], list[ImageSource]]:
    """As `read_chat`, where images are all that is taken.

    Returns:
        The messages, and the images in the order of their places.

    Raises:
        PromptError: When a message is malformed or holds a video, or placeholders and images do not match.
    """
    chat = read_chat(prompt, images)
    if chat.videos:
        raise PromptError(
            "videos are not taken by this way of running a model.", hint="Give frames as images."
        )
    return chat.messages, chat.images


def read_chat(prompt: list[dict[str, Any]], images: Sequence[ImageSource]) -> Chat:
    """Copies chat messages into the one form that chat templates take.

    Contents become lists of parts; every image part becomes `{"type": "image"}` and every video part
    `{"type": "video"}`. Images named in the parts stay in their places; bare placeholders are filled from
    `images` in order; images for which there is no place at all come first in the first user turn.

    Raises:
        PromptError: When a message is malformed, or placeholders and images do not match.
    """
    if not prompt:
        raise PromptError("the prompt is an empty list of messages.", hint="Give at least one user message.")
    waiting = list(images)
    found: list[ImageSource] = []
    videos: list[VideoSource] = []
    messages: list[dict[str, Any]] = []
    places = 0
    for number, message in enumerate(prompt, start=1):
        copied: list[dict[str, Any]] = []
        for part in _parts_of(message, number):
            video = _video_source(part, number)
            if video is not None:
                videos.append(video)
                copied.append({"type": "video"})
                continue
            source = _image_source(part, number)
            if source is None:
                copied.append(_text_part(part, number))
                continue
            places += 1
            if source == "":
                if not waiting:
                    raise PromptError(
                        f"the messages have more image placeholders than the record's {len(images)} images.",
                        hint="List an image for each placeholder in `images`, or name it in the part.",
                    )
                source = waiting.pop(0)
            found.append(source)
            copied.append({"type": "image"})
        messages.append({**message, "content": copied})
    if waiting and not places:
        first_user = next((m for m in messages if m["role"] == "user"), None)
        if first_user is None:
            raise PromptError("the record has images but no user message to put them in.")
        first_user["content"] = [*({"type": "image"} for _ in waiting), *first_user["content"]]
        found, waiting = waiting, []
    if waiting:
        raise PromptError(
            f"the record has {len(images)} images but the messages leave {len(waiting)} of them without a place.",
            hint='Add {"type": "image"} parts, or remove the images.',
        )
    return Chat(messages, found, videos)


def _parts_of(message: dict[str, Any], number: int) -> list[Any]:
    role = message.get("role")
    if role not in ROLES:
        raise PromptError(f"message {number} has the role {role!r}.", hint=f"Roles are {', '.join(ROLES)}.")
    parts = message.get("content")
    if isinstance(parts, str):
        return [{"type": "text", "text": parts}]
    if not isinstance(parts, list):
        raise PromptError(f"message {number} has no content.", hint="Give a string or a list of parts.")
    return parts


def _image_source(part: Any, number: int) -> ImageSource | None:
    """The image a part names; "" for a bare placeholder; None for a part that is no image."""
    if not isinstance(part, dict):
        return None
    kind = part.get("type")
    if kind == "image_url":
        named = part.get("image_url")
        url = named.get("url") if isinstance(named, dict) else named
        if not isinstance(url, str) or not url:
            raise PromptError(
                f"message {number} has an image_url part without a url.",
                hint='The form is {"type": "image_url", "image_url": {"url": "..."}}.',
            )
        return url
    if kind == "image":
        for name in ("image", "url", "path"):
            named = part.get(name)
            if isinstance(named, (str, Path, bytes)) and named not in ("", b""):
                return named
            if is_pillow_image(named):
                return named
            if named is not None:
                raise PromptError(f"message {number} has an image part whose {name!r} is not a path or URL.")
        return ""
    return None


def _video_source(part: Any, number: int) -> VideoSource | None:
    """The video a part names; None for a part that is none."""
    if not isinstance(part, dict) or part.get("type") != "video":
        return None
    named = [part[name] for name in ("video", "url", "path") if part.get(name) is not None]
    if len(named) == 1:
        frames = named[0] if isinstance(named[0], (list, tuple)) else [named[0]]
        if frames and all(isinstance(frame, (str, Path)) and str(frame) for frame in frames):
            return tuple(frames) if isinstance(named[0], (list, tuple)) else named[0]
    raise PromptError(
        f"message {number} has a video part that names no video.",
        hint='The form is {"type": "video", "video": "clip.mp4"}, or a list of the paths of its frames.',
    )


def _text_part(part: Any, number: int) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    raise PromptError(
        f"message {number} has a part that is neither text nor image nor video: {str(part)[:60]!r}.",
        hint='Parts are {"type": "text", "text": ...}, {"type": "image", ...}, {"type": "image_url", ...} '
        'or {"type": "video", ...}.',
    )


def _only_text(messages: list[dict[str, Any]]) -> str:
    """The text of a conversation for a model that knows no conversations: one user turn, as it stands."""
    if len(messages) > 1:
        raise PromptError(
            "this model has no chat template, so it takes one user turn, not a conversation.",
            hint="Give the prompt as a string.",
        )
    return "".join(part["text"] for part in messages[0]["content"] if part["type"] == "text")
