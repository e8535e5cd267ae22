"""A chat completion from the events of one that was streamed although nobody asked for that, as some gateways do.

Knows no connection: it is given the text of a whole response.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["read_events"]

_DATA = "data:"
_END = "[DONE]"
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def read_events(text: str) -> dict[str, Any] | None:
    """The answer that a text of server-sent events holds: whole, or an error object. None: it holds neither.

    A stream that ended in the middle has no `[DONE]` and no `finish_reason`, and is not an answer.
    """
    events = [line[len(_DATA) :].strip() for line in text.splitlines() if line.startswith(_DATA)]
    chunks = []
    for event in events:
        try:
            chunk = json.loads(event) if event != _END else None
        except (ValueError, RecursionError):
            return None
        if isinstance(chunk, dict):
            chunks.append(chunk)
    error = next((chunk for chunk in chunks if chunk.get("error")), None)
    if error is not None:
        return error
    body = _joined(chunks)
    is_whole = _END in events or (body and body["choices"][0].get("finish_reason"))
    return body if is_whole else None


def _joined(chunks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """One body of all chunks, with one choice; None where no chunk has text."""
    message: dict[str, str] = {}
    body: dict[str, Any] = {}
    choice: dict[str, Any] = {"index": 0}
    for chunk in chunks:
        body |= {name: value for name, value in chunk.items() if value is not None}
        for part in chunk.get("choices") or ():
            if not isinstance(part, dict) or part.get("index"):
                continue
            choice["finish_reason"] = part.get("finish_reason") or choice.get("finish_reason")
            said = part.get("delta") or part.get("message")
            for name in ("content", *_THOUGHTS):
                if isinstance(said, dict) and isinstance(said.get(name), str):
                    message[name] = message.get(name, "") + said[name]
    return {**body, "choices": [{**choice, "message": message}]} if message else None
