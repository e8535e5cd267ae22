"""From a request to the text that the model's processor takes, and the images in the order of their places.

The layout is the model's own: its chat template where it has one, else the plain prompt. Knows nothing of
pixels or tokens; never changes the caller's messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixano_vlm.errors import PromptError
from pixano_vlm.models.vlm import VLMInput

ROLES = ("system", "developer", "user", "assistant", "tool")

ImageSource = str | Path


@dataclass(frozen=True, slots=True)
class Layout:
    """A prompt laid out: the text for the processor, and the images in order."""

    text: str
    images: tuple[ImageSource, ...]
    from_template: bool


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
        messages, found = read_messages(input.prompt, images)
        if not self.has_template:
            return self._lay_out_text(_only_text(messages), tuple(found))
        return Layout(self._render(messages), tuple(found), from_template=True)

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
    """Copies chat messages into the one form that chat templates take.

    Contents become lists of parts; every image part becomes `{"type": "image"}`. Images named in the parts
    stay in their places; bare placeholders are filled from `images` in order; images for which there is no
    place at all come first in the first user turn.

    Returns:
        The messages, and the images in the order of their places.

    Raises:
        PromptError: When a message is malformed, or placeholders and images do not match.
    """
    if not prompt:
        raise PromptError("the prompt is an empty list of messages.", hint="Give at least one user message.")
    waiting = list(images)
    found: list[ImageSource] = []
    messages: list[dict[str, Any]] = []
    places = 0
    for number, message in enumerate(prompt, start=1):
        role = message.get("role")
        if role not in ROLES:
            raise PromptError(
                f"message {number} has the role {role!r}.", hint=f"Roles are {', '.join(ROLES)}."
            )
        parts = message.get("content")
        if isinstance(parts, str):
            parts = [{"type": "text", "text": parts}]
        if not isinstance(parts, list):
            raise PromptError(f"message {number} has no content.", hint="Give a string or a list of parts.")
        copied: list[dict[str, Any]] = []
        for part in parts:
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
    return messages, found


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
            if isinstance(named, (str, Path)) and str(named):
                return named
            if named is not None:
                raise PromptError(f"message {number} has an image part whose {name!r} is not a path or URL.")
        return ""
    return None


def _text_part(part: Any, number: int) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    raise PromptError(
        f"message {number} has a part that is neither text nor image: {str(part)[:60]!r}.",
        hint='Parts are {"type": "text", "text": ...}, {"type": "image", ...} or {"type": "image_url", ...}.',
    )


def _only_text(messages: list[dict[str, Any]]) -> str:
    """The text of a conversation for a model that knows no conversations: one user turn, as it stands."""
    if len(messages) > 1:
        raise PromptError(
            "this model has no chat template, so it takes one user turn, not a conversation.",
            hint="Give the prompt as a string.",
        )
    return "".join(part["text"] for part in messages[0]["content"] if part["type"] == "text")
