"""From a request to the body of a POST to `/v1/chat/completions`, its pictures inside it or named by URL.

Knows the form that OpenAI published and other servers took over; knows no connection. What a request leaves
open is left out of the body, so that the server's own default holds.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from pixano_vlm.errors import PromptError
from pixano_vlm.media.images import read_image
from pixano_vlm.media.pixels import open_image, turn_to_upright
from pixano_vlm.models.generation import settings_used
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.messages import read_messages

__all__ = ["ChatRequest", "RequestWriter"]

WEB_FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Formats that every server reads; a picture in another one is sent as PNG."""

NOT_SENT = frozenset({"max_new_tokens", "do_sample", "response_format"})
"""Entries of `settings_used` that a body has in another form, or not at all."""

_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request as it is sent."""

    messages: list[dict[str, Any]]
    settings: dict[str, Any]
    """Everything of the body but `model` and `messages`."""
    used: dict[str, Any]
    """The settings under this project's names, for the output."""
    wants_json: bool
    """Whether the answer is to be JSON."""


class RequestWriter:
    """Writes requests for one server.

    Args:
        send_urls: Whether http(s) URLs are left to the server to fetch.
        max_image_side: Longest side of a picture in pixels; a larger one is made smaller. None: as it is.
        limit_name: What the server calls the most new tokens.
        extra_body: Further entries of every body.
    """

    def __init__(
        self, *, send_urls: bool, max_image_side: int | None, limit_name: str, extra_body: dict[str, Any]
    ) -> None:
        self._send_urls = send_urls
        self._max_side = max_image_side
        self._limit_name = limit_name
        self._extra_body = extra_body

    def write(self, input: VLMInput, limits: Limits) -> ChatRequest:
        """The request for one input. Opens its pictures, so it takes its time: call it from a thread.

        Raises:
            VLMError: When an image cannot be used, or the messages are malformed.
        """
        messages, sources = read_messages(input.prompt, input.images or ())
        if len(sources) > limits.max_images:
            raise PromptError(
                f"the record has {len(sources)} images; the limit is {limits.max_images}.",
                hint="Use fewer, or raise the limit.",
            )
        waiting = iter(sources)
        for message in messages:
            message["content"] = _content(
                [
                    self._picture(next(waiting), limits) if part["type"] == "image" else part
                    for part in message["content"]
                ]
            )
        asked = input.response_format
        wants_json = asked is not None and asked.get("type") in ("json_object", "json_schema")
        used = settings_used(input, input.max_new_tokens)
        return ChatRequest(messages, self._settings(input, messages, used), used, wants_json)

    def _settings(
        self, input: VLMInput, messages: list[dict[str, Any]], used: dict[str, Any]
    ) -> dict[str, Any]:
        settings: dict[str, Any] = {**self._extra_body, self._limit_name: input.max_new_tokens}
        # What greedy decoding has no use for is not in there: a server may refuse it beside temperature 0.
        settings |= {name: value for name, value in used.items() if name not in NOT_SENT}
        if input.response_format is not None:
            settings["response_format"] = _named(input.response_format)
        if messages[-1]["role"] == "assistant":  # an answer already begun is gone on with
            settings |= {"continue_final_message": True, "add_generation_prompt": False}
        return settings

    def _picture(self, source: ImageSource, limits: Limits) -> dict[str, Any]:
        url = str(source) if isinstance(source, (str, Path)) else ""
        # Only the web's: a store is read with the credentials that are here. Where no URL is allowed, opening it here
        # says so.
        is_web = url.lower().startswith(("http://", "https://"))
        fetched_there = self._send_urls and limits.allow_urls and is_web
        if not fetched_there:
            url = self._data_url(source, limits)
        return {"type": "image_url", "image_url": {"url": url}}

    def _data_url(self, source: ImageSource, limits: Limits) -> str:
        encoded = read_image(source, limits)
        # Decoded here although the server decodes it again: a damaged or oversized picture is this record's
        # error before it is sent, and every engine is shown the same upright RGB image.
        decoded = encoded.decode(limits)
        image, data = decoded.image, encoded.data
        kind = None if data is None or decoded.is_guessed or encoded.page else _kind_if_plain(data)
        if self._max_side is not None and max(image.size) > self._max_side:
            image.thumbnail((self._max_side, self._max_side), Image.Resampling.LANCZOS)
            data, kind = _encode(image, "JPEG" if kind == "image/jpeg" else "PNG")
        elif data is None or kind is None:
            data, kind = _encode(image, "PNG")
        return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


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


def _kind_if_plain(data: bytes) -> str | None:
    """The media type of a file that any server sees as this project does: upright, opaque, 8 bits, one frame."""
    image = open_image(data)
    plain = (
        image is not None
        and image.mode in ("RGB", "L")
        and "transparency" not in image.info
        and turn_to_upright(image) is None
        and getattr(image, "n_frames", 1) == 1
    )
    return WEB_FORMATS.get(image.format or "") if plain and image is not None else None


def _encode(image: Image.Image, format: str) -> tuple[bytes, str]:
    buffer = BytesIO()
    image.info = {}  # upright already: no EXIF goes along by which a server would turn it again
    # One that is compressed with loss already loses no more to speak of at this quality.
    options = {"quality": _JPEG_QUALITY} if format == "JPEG" else {}
    image.save(buffer, format, **options)
    return buffer.getvalue(), WEB_FORMATS[format]
