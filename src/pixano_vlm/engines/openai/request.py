"""From a request to the body of a POST to `/v1/chat/completions`, its images inside it or named by URL.

Knows the form that OpenAI published and other servers took over; knows no connection. What a request leaves
open is left out of the body, so that the server's own default holds.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from pixano_vlm.engines.base import check_image_count, refuse_budget
from pixano_vlm.engines.openai.images import SentImage, image_as_sent
from pixano_vlm.errors import PromptError
from pixano_vlm.media.images import read_image
from pixano_vlm.models.generation import SETTINGS, named_elsewhere, settings_used
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.samples import check_samples
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.choices import NOT_SCORED
from pixano_vlm.prompts.messages import read_messages

__all__ = [
    "LIMIT", "NO_BUDGET", "SEEDS", "ChatRequest", "RequestWriter", "plain_request", "plainest_request",
    "refuse_thinking_budget",
]  # fmt: skip

LIMIT = SETTINGS["max_new_tokens"].elsewhere or ""
"""What the most new tokens are called in `ChatRequest.settings`; a server may know them by another name."""

NO_BUDGET = "cannot be held to: the server resizes images by its own settings"
"""Why no image is held to a budget of pixels."""

SEEDS = 2**31
"""Servers that keep a seed in 32 bits refuse a larger one, or cut it off in silence."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request as it is sent."""

    messages: list[dict[str, Any]]
    settings: dict[str, Any]
    """Everything of the body but `model` and `messages`."""
    used: dict[str, Any]
    """The settings under this project's names, for the output."""
    response_format: dict[str, Any] | None
    """The JSON that the answer is to be."""
    asked: frozenset[str] = frozenset()
    """Those of `settings` that somebody asked for; the others are this project's defaults."""


class RequestWriter:
    """Writes requests for one server.

    Args:
        send_urls: Whether http(s) URLs are left to the server to fetch.
        max_image_side: Longest side of an image in pixels; a larger one is made smaller. None: as it is.
        extra_body: Further entries of every body.
    """

    def __init__(self, *, send_urls: bool, max_image_side: int | None, extra_body: dict[str, Any]) -> None:
        self._send_urls = send_urls
        self._max_side = max_image_side
        self._extra_body = extra_body

    def write(self, input: VLMInput, limits: Limits) -> ChatRequest:
        """The request for one input. Opens its images, so it takes its time: call it from a thread.

        Raises:
            VLMError: When an image cannot be used, or the messages are malformed.
        """
        refuse_budget(input, NO_BUDGET)
        check_samples(input)
        if input.choices is not None:
            raise PromptError("choices: a server does not tell how likely whole labels are.", hint=NOT_SCORED)
        messages, sources = read_messages(input.prompt, input.images or ())
        check_image_count(len(sources), limits)
        waiting = iter(sources)
        for message in messages:
            message["content"] = _content(
                [
                    self._image(next(waiting), limits) if part["type"] == "image" else part
                    for part in message["content"]
                ]
            )
        used = settings_used(input, input.max_new_tokens)
        settings = self._settings(input, messages, used)
        # Whoever asks for several samples gets them from a server that does not know `n`, too: one by one.
        unasked = {SETTINGS[name].elsewhere or name for name in _unasked(input) & SETTINGS.keys()} | {"n"}
        return ChatRequest(
            messages, settings, used, input.response_format, frozenset(settings.keys() - unasked)
        )

    def _settings(
        self, input: VLMInput, messages: list[dict[str, Any]], used: dict[str, Any]
    ) -> dict[str, Any]:
        if "seed" in used and "seed" in _unasked(input):
            del used["seed"]
        elif "seed" in used:
            used["seed"] %= SEEDS
        # What greedy decoding has no use for is not in there: a server may refuse it beside temperature 0.
        settings: dict[str, Any] = {**self._extra_body, **named_elsewhere(used)}
        if "top_logprobs" in used:
            settings["logprobs"] = True
        if input.response_format is not None:
            settings["response_format"] = _named(input.response_format)
        if messages[-1]["role"] == "assistant":  # an answer already begun is continued
            settings |= {"continue_final_message": True, "add_generation_prompt": False}
        return settings

    def _image(self, source: ImageSource, limits: Limits) -> dict[str, Any]:
        url = str(source) if isinstance(source, (str, Path)) else ""
        # Only the web's: a store is read with the credentials that are here. Where no URL is allowed, opening it here
        # says so.
        is_web = url.lower().startswith(("http://", "https://"))
        fetched_there = self._send_urls and limits.allow_urls and is_web
        if not fetched_there:
            url = self._data_url(source, limits)
        return {"type": "image_url", "image_url": {"url": url}}

    def _data_url(self, source: ImageSource, limits: Limits) -> str:
        return _as_url(image_as_sent(read_image(source, limits), limits, self._max_side))


def refuse_thinking_budget(input: VLMInput) -> None:
    """For a server that is not known to end thoughts: most pass over what they do not know, without a word.

    Raises:
        PromptError: When the record has a budget for them, which would not be held to.
    """
    if input.thinking_budget is not None:
        raise PromptError(
            "thinking_budget: only vLLM's server is known to end thoughts at a budget, and this one does not say "
            "that it is vLLM.",
            hint="Leave thinking_budget out, or give what the server itself calls it in the model's `extra_body`.",
        )


def plain_request(request: ChatRequest) -> ChatRequest:
    """A request of the same form that nothing can be wrong with: its roles, its settings, as many images, but a word
    for each text and a small grey square for each image. What is refused like this is refused to every record.
    """
    square = {"type": "image_url", "image_url": {"url": _as_url(_grey_square())}}
    word = {"type": "text", "text": "Hello."}
    messages = [
        {
            **message,
            "content": "Hello."
            if isinstance(message["content"], str)
            else [square if part["type"] == "image_url" else word for part in message["content"]],
        }
        for message in request.messages
    ]
    return replace(request, messages=messages)


def plainest_request(request: ChatRequest) -> ChatRequest:
    """A request of one turn with the same settings, with one image if `request` has any: where this is answered,
    another is refused for the form of its messages, which others may not have.
    """
    contents = [part for message in request.messages for part in message["content"] if isinstance(part, dict)]
    has_image = any(part["type"] == "image_url" for part in contents)
    square = {"type": "image_url", "image_url": {"url": _as_url(_grey_square())}}
    content = [square, {"type": "text", "text": "Hello."}] if has_image else "Hello."
    return replace(request, messages=[{"role": "user", "content": content}])


def _grey_square() -> SentImage:
    buffer = BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(buffer, "JPEG")
    return SentImage(buffer.getvalue(), "image/jpeg")


def _as_url(image: SentImage) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"


def _unasked(input: VLMInput) -> set[str]:
    """Settings that nobody asked for: defaults, and the seed that a run derives for each record."""
    return set(type(input).model_fields) - input.model_fields_set


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Text alone as a string, which every server takes for every role; some take lists for users alone."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _named(response_format: dict[str, Any]) -> dict[str, Any]:
    """A schema with a name, which OpenAI's own server insists on and others pass over."""
    schema = response_format.get("json_schema")
    if not isinstance(schema, dict):
        return response_format
    return {**response_format, "json_schema": {"name": "answer", **schema}}
