"""What vLLM says of an answer's tokens, in OpenAI's form. Knows no engine."""

from __future__ import annotations

from typing import Any

__all__ = ["told"]


def told(completion: Any, count: int, first: int = 0) -> tuple[list[float], dict[str, Any] | None]:
    """The logarithms of the answer's tokens, and all that vLLM says of them in OpenAI's form; where it was asked.

    Of each token it gives a `Logprob` by id: the chosen one and the likeliest.

    Args:
        completion: What vLLM generated.
        count: How many alternatives of each token to tell.
        first: The place of the answer's first token: behind the thoughts.
    """
    steps = getattr(completion, "logprobs", None)
    if not steps:
        return [], None
    logs: list[float] = []
    content: list[dict[str, Any]] = []
    for token, found in zip(completion.token_ids[first:], steps[first:], strict=True):
        logs.append(found[token].logprob)
        # The chosen one is in there whether or not it is among the likeliest.
        others = sorted(found.values(), key=lambda one: -one.logprob)[:count]
        content.append(_entry(found[token]) | {"top_logprobs": [_entry(one) for one in others]})
    return logs, {"content": content}


def _entry(one: Any) -> dict[str, Any]:
    text = one.decoded_token or ""
    known = bool(text) and "\ufffd" not in text
    return {
        "token": text,
        "bytes": list(text.encode()) if known else None,
        "logprob": max(one.logprob, -9999.0),
    }
