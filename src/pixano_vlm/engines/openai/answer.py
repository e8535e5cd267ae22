"""What a chat completion says: its text, its thoughts apart from it, its counts, and why it ended.

Knows no connection: it is given the JSON object of a whole answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pixano_vlm.engines.openai.failure import finish_of, is_filtered, message_of, shown
from pixano_vlm.engines.openai.request import ChatRequest
from pixano_vlm.errors import GenerationError
from pixano_vlm.models.vlm import UsageInfo, VLMOutput
from pixano_vlm.prompts.response_format import parsed_answer
from pixano_vlm.prompts.thinking import MARKS

__all__ = ["read_answer", "split_thoughts"]

_STOPPED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
_CUT_OFF = frozenset({
    "length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded",
})  # fmt: skip
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
_THOUGHT_PARTS = frozenset({"thinking", "reasoning", "redacted_thinking", "reasoning_content"})


def read_answer(body: Mapping[str, Any], request: ChatRequest, used: dict[str, Any]) -> VLMOutput:
    """The answer as this project has it.

    Args:
        body: A chat completion with at least one choice.
        request: What was asked.
        used: The settings that were sent, under this project's names.

    Raises:
        GenerationError: When it holds no text, and why.
    """
    choice = body["choices"][0]
    if is_filtered(choice):
        raise GenerationError("the server's content filter stopped this answer.")
    message = message_of(choice) or {}
    text, thoughts = _text_of(message.get("content"))
    if text is not None:
        inside, text = split_thoughts(text)
        thoughts += inside
    thoughts = thoughts or _field_thoughts(message)
    if text is None or (not text.strip() and _says_otherwise(message)):
        raise _no_text(message, choice, thoughts)
    counts = _counts(body.get("usage"))
    written, logs = _logprobs(choice)
    if written is None:  # whoever asked for them is told that they took no part
        used = {name: value for name, value in used.items() if name not in ("logprobs", "top_logprobs")}
    return VLMOutput(
        logprobs=written,
        confidence=None if not logs else round(math.exp(min(0.0, math.fsum(logs) / len(logs))), 6),
        generated_text=text,
        reasoning=thoughts.strip() or None,
        reasoning_tokens=_thought_count(body.get("usage")) or None,
        usage=UsageInfo.of(*(counts or (0, 0))),
        generation_config=used if counts else {**used, "usage": "not told by the server"},
        parsed=parsed_answer(text, request.response_format),
        finish_reason=_finish(finish_of(choice)),
    )


def split_thoughts(text: str) -> tuple[str, str]:
    """The thoughts at the beginning of a text, and the text without them.

    Thoughts that never end leave no text; where a chat template has begun them, only their end is there.
    """
    for begin, end in MARKS:  # a server leaves them in the text where it runs without a parser for them
        if text.lstrip().startswith(begin):
            thoughts, _, rest = text.lstrip()[len(begin) :].partition(end)
            return thoughts.strip(), rest.lstrip()
        if end in text and begin not in text:
            thoughts, _, rest = text.partition(end)
            return thoughts.strip(), rest.lstrip()
    return "", text


def _logprobs(choice: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[float]]:
    """What the server says of the answer's tokens, in its own words, and the logarithms in it."""
    written = choice.get("logprobs")
    content = written.get("content") if isinstance(written, dict) else None
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        return None, []
    logs = [entry.get("logprob") for entry in content]
    if not all(isinstance(log, (int, float)) and math.isfinite(log) for log in logs):
        return None, []
    return {"content": content}, [float(log) for log in logs if log is not None]


def _finish(reason: str) -> Literal["stop", "length"] | None:
    return "length" if reason in _CUT_OFF else "stop" if reason in _STOPPED else None


def _text_of(content: Any) -> tuple[str | None, str]:
    """The text of an answer's content, and the thoughts in it: a string, a part, or a list of parts."""
    if content is None or isinstance(content, str):
        return content, ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and part.get("type") in _THOUGHT_PARTS:
            thoughts.append(_deep_text(part))
        elif isinstance(part, str) or (isinstance(part, dict) and part.get("type") != "refusal"):
            text = _deep_text(part)
            if text or _has_text(part):
                texts.append(text)
    return ("".join(texts) if texts else None), "".join(thoughts)


def _has_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str))


def _deep_text(value: Any, depth: int = 4) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "".join(_deep_text(item, depth - 1) for item in value)
    if isinstance(value, dict) and depth:
        for name in ("text", "thinking", "reasoning", "reasoning_content", "summary", "content", "value"):
            if value.get(name):
                return _deep_text(value[name], depth - 1)
    return ""


def _field_thoughts(message: Mapping[str, Any]) -> str:
    return next((text for name in _THOUGHT_FIELDS if (text := _deep_text(message.get(name)).strip())), "")


def _no_text(message: Mapping[str, Any], choice: Mapping[str, Any], thoughts: str) -> GenerationError:
    refusal = _refusal(message)
    if refusal:
        return GenerationError(f"the server's answer holds no text: it refuses: {shown(refusal)}.")
    if message.get("tool_calls") or message.get("function_call"):
        return GenerationError("the server's answer holds no text: it calls a tool, and none was offered.")
    held = " but thoughts" if thoughts else ""
    return GenerationError(
        f"the server's answer holds no text{held} (finish_reason {choice.get('finish_reason')!r}).",
        hint="A model that thinks first may need more max_new_tokens.",
    )


def _says_otherwise(message: Mapping[str, Any]) -> bool:
    """Whether an empty text is beside what the message has to say."""
    return bool(_refusal(message) or message.get("tool_calls") or message.get("function_call"))


def _refusal(message: Mapping[str, Any]) -> str:
    if isinstance(message.get("refusal"), str):
        return str(message["refusal"])
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return " ".join(part["refusal"] for part in parts if isinstance(part.get("refusal"), str))


def _counts(usage: Any) -> tuple[int, int] | None:
    """Prompt and completion tokens, None where the server does not say."""
    if not isinstance(usage, dict):
        return None
    found = []
    for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        values = [count for name in names if (count := _count(usage.get(name))) is not None]
        found.append(values[0] if values else None)
    if found == [None, None]:
        return None
    return found[0] or 0, found[1] or 0


def _thought_count(usage: Any) -> int | None:
    """Tokens of thoughts among those of the completion, None where the server does not say."""
    if not isinstance(usage, dict):
        return None
    details = (usage.get("completion_tokens_details"), usage.get("output_tokens_details"), usage)
    counts = (_count(held.get("reasoning_tokens")) for held in details if isinstance(held, dict))
    return next((count for count in counts if count is not None), None)


def _count(value: Any) -> int | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if is_number and value >= 0 else None
