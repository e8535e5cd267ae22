"""A line of an OpenAI Batch file -> the record that it asks for.

The form: `{"custom_id", "method": "POST", "url": "/v1/chat/completions", "body": {...}}`, the body being what is
posted to chat completions. `model` is not followed: a run has one model, that of `--model`. What the body asks for
and no model here can do is refused, rather than left out silently.
"""

from __future__ import annotations

from typing import Any

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.fields import FIELDS
from pixano_vlm.models.generation import SETTINGS
from pixano_vlm.nearest import did_you_mean

__all__ = ["from_batch_request", "is_batch_request"]

URL = "/v1/chat/completions"

_TAKEN = {
    "messages": "prompt",
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "metadata": "metadata",
    "response_format": "response_format",
} | {name: name for name in SETTINGS if name != "max_new_tokens"}
_IGNORED = frozenset(
    {"model", "user", "store", "service_tier", "stream", "stream_options", "safety_identifier", "prompt_cache_key",
     "parallel_tool_calls", "top_logprobs"}
)  # fmt: skip
"""What does not change the answer."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "logprobs": (False,), "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},),
    "tools": ([],), "modalities": (["text"],), "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
}  # fmt: skip
"""What may stand in a body as long as it asks for nothing."""


def is_batch_request(values: dict[str, Any]) -> bool:
    """Whether a line is one of an OpenAI Batch file, and not a record of our own."""
    return "custom_id" in values and "body" in values


def from_batch_request(values: dict[str, Any]) -> dict[str, Any]:
    """The record: its `custom_id` is the id, the body's messages the prompt.

    Raises:
        RecordError: When the line is not of that form, or asks for what cannot be done.
    """
    body, url = values["body"], values.get("url", URL)
    if not isinstance(body, dict):
        raise RecordError("body must be an object.", hint='Write "body": {"messages": [...]}.')
    if url != URL or values.get("method", "POST") != "POST":
        raise RecordError(
            f"{values.get('method', 'POST')} {url} cannot be answered here.", hint=f"Only POST {URL} can."
        )
    record: dict[str, Any] = {"id": values["custom_id"]}
    for key, value in body.items():
        if value is None or key in _IGNORED or value in _NEUTRAL.get(key, ()):
            continue
        name = _TAKEN.get(key)
        if name is None or name not in FIELDS:
            raise RecordError(
                f"body.{key} cannot be done here.",
                hint=did_you_mean(key, _TAKEN) or "Leave it out.",
            )
        if name in record:
            raise RecordError(
                "max_tokens and max_completion_tokens both stand in the body.", hint="Keep one."
            )
        record[name] = value
    if "prompt" not in record:
        raise RecordError("the body has no messages.", hint='Add "messages": [...].')
    return record
