"""One record as the JSON that the page's script reads. Knows its keys, and no HTML.

Keys without a value are left out: 5,000 records are read at once when the page opens.
"""

from __future__ import annotations

from typing import Any

from pixano_vlm.report.answers import ShownLine
from pixano_vlm.report.pairing import Pair
from pixano_vlm.report.prompts import Asked, Message

__all__ = ["row"]


def row(number: int, pair: Pair, asked: tuple[Asked | None, ...], images: list[int]) -> dict[str, Any]:
    """A record.

    Args:
        number: Its place among all records, from 1.
        pair: Its answers.
        asked: What each run asked, as far as that is known.
        images: Numbers of its images on this page.
    """
    prompts = [None if one is None else _prompt(one.prompt) for one in asked]
    first = next((prompt for prompt in prompts if prompt is not None), None)
    answers = [None if line is None else _answer(line) for line in pair.lines]
    for answer, prompt in zip(answers, prompts, strict=True):
        # Before and after a change of the prompt: the same records, asked in other words.
        if answer is not None and prompt is not None and prompt != first:
            answer["prompt"] = prompt
    return _present(
        {
            "number": number,
            "id": pair.id,
            "occurrence": pair.occurrence or None,
            "prompt": first,
            "images": images,
            "metadata": _exact(pair.first.metadata),
            "verdict": pair.verdict,
            "answers": answers,
        }
    )


def _prompt(prompt: str | tuple[Message, ...] | None) -> str | list[Any] | None:
    if isinstance(prompt, tuple):
        return [{"role": message.role, "parts": message.parts} for message in prompt]
    return prompt


def _answer(line: ShownLine) -> dict[str, Any]:
    usage = line.usage
    return _present(
        {
            "status": line.status,
            "text": line.generated_text,
            "error": None if line.error is None else [line.error.type, line.error.message],
            "json": line.parsed is not None or None,
            "finish": line.finish_reason,
            "attempts": line.attempts if line.attempts > 1 else None,
            "flags": line.flags,
            "input": None if usage is None else usage.prompt_tokens,
            "output": None if usage is None else usage.completion_tokens,
            "settings": _exact(line.generation_config),
            "model": line.model,
            "regions": [region.model_dump(exclude_none=True) for region in line.regions or ()],
            "sizes": [[size.width, size.height] for size in line.image_sizes or ()],
            "more": _exact(line.model_extra),
        }
    )


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value not in ([], {})}


MOST_EXACT = 2**53
"""Whole numbers beyond it are rounded by JavaScript: seeds are, and ids in metadata."""


def _exact(value: Any) -> Any:
    """A JSON value with the whole numbers that JavaScript would round as text."""
    if isinstance(value, dict):
        return {key: _exact(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_exact(inner) for inner in value]
    return str(value) if isinstance(value, int) and abs(value) > MOST_EXACT else value
