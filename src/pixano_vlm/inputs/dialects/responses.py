"""The body of a request to OpenAI's Responses API -> the record that it asks for."""

from __future__ import annotations

from typing import Any

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.dialects.dialect import Values

__all__ = ["responses_body"]

_TAKEN = {
    "max_output_tokens": "max_new_tokens", "temperature": "temperature", "top_p": "top_p", "metadata": "metadata",
    "id": "id",
}  # fmt: skip
_IGNORED = frozenset(
    {"model", "user", "store", "stream", "stream_options", "service_tier", "safety_identifier", "prompt_cache_key",
     "parallel_tool_calls", "background", "include", "truncation", "top_logprobs"}
)  # fmt: skip
_OWN = frozenset({"input", "instructions", "text"})


def responses_body(body: Values) -> Values:
    """The record, without an id where the body has none.

    Raises:
        RecordError: When it asks for what cannot be done.
    """
    record: Values = {"prompt": _messages(body.get("input"), body.get("instructions"))}
    asked = (body.get("text") or {}).get("format") if isinstance(body.get("text"), dict) else None
    if isinstance(asked, dict) and asked.get("type") == "json_schema":
        record["response_format"] = {
            "type": "json_schema",
            "json_schema": {key: value for key, value in asked.items() if key != "type"},
        }
    elif asked is not None:
        record["response_format"] = asked
    for key, value in body.items():
        if key in _OWN or key in _IGNORED or value is None or value in ([], {}, "auto", "none"):
            continue
        if key not in _TAKEN:
            raise RecordError(f"body.{key} cannot be done here.", hint="Leave it out.")
        record[_TAKEN[key]] = value
    return record


def _messages(given: Any, instructions: Any) -> list[Any]:
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list):
        raise RecordError("input must be a string or a list of messages.", hint='Write "input": [...].')
    for item in items:
        kind = item.get("type", "message") if isinstance(item, dict) else "message"
        if kind != "message":
            raise RecordError(
                f"an item of input is a {kind}, which cannot be sent here.", hint="Keep messages only."
            )
    messages = [
        {key: value for key, value in item.items() if key not in ("type", "id", "status")}
        if isinstance(item, dict)
        else item
        for item in items
    ]
    return [{"role": "system", "content": instructions}, *messages] if instructions else messages
