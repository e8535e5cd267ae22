"""One record as the JSON that the page's script reads. Knows its keys, and no HTML.

Keys without a value are left out: 5,000 records are read at once when the page opens.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pixano_vlm.models.samples import ballot
from pixano_vlm.models.vlm import Sample
from pixano_vlm.report.answers import ShownLine
from pixano_vlm.report.judging import change, is_right, truth_text
from pixano_vlm.report.pairing import Pair
from pixano_vlm.report.prompts import Asked, Message
from pixano_vlm.scoring.judge import Judge, confidence_of

__all__ = ["row"]


def row(
    number: int,
    pair: Pair,
    asked: tuple[Asked | None, ...],
    images: list[int],
    judge: Judge | None = None,
) -> dict[str, Any]:
    """A record.

    Args:
        number: Its place among all records, from 1.
        pair: Its answers.
        asked: What each run asked, as far as that is known.
        images: Numbers of its images on this page.
        judge: Says which answers are right, where there is a truth.
    """
    prompts = [None if one is None else _prompt(one.prompt) for one in asked]
    first = next((prompt for prompt in prompts if prompt is not None), None)
    answers = [None if line is None else _answer(line) for line in pair.lines]
    for answer, prompt in zip(answers, prompts, strict=True):
        # Before and after a change of the prompt: the same records, asked in other words.
        if answer is not None and prompt is not None and prompt != first:
            answer["prompt"] = prompt
    truth = None
    if judge is not None:
        truth = truth_text(pair.first, judge)
        for answer, line in zip(answers, pair.lines, strict=True):
            if answer is not None and (verdict := is_right(line, judge)) is not None:
                answer["right"] = verdict
    return _present(
        {
            "number": number,
            "id": pair.id,
            "occurrence": pair.occurrence or None,
            "prompt": first,
            "images": images,
            "metadata": _exact(pair.first.metadata),
            "verdict": pair.verdict,
            "truth": truth,
            "change": None if judge is None else change(pair, judge),
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
            "thoughts": line.reasoning if isinstance(line.reasoning, str) else None,
            "thinking": line.reasoning_tokens if isinstance(line.reasoning_tokens, int) else None,
            "settings": _exact(line.generation_config),
            "model": line.model,
            "regions": [region.model_dump(exclude_none=True) for region in line.regions or ()],
            "sizes": [[size.width, size.height] for size in line.image_sizes or ()],
            "confidence": confidence_of(line),
            "raw": confidence_of(line, raw=True) if line.raw_confidence is not None else None,
            "labels": _labels(line.probabilities),
            "agreement": _share(line.agreement),
            "samples": _samples(line),
            "more": _exact(line.model_extra),
        }
    )


def _share(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None


def _labels(probabilities: Any) -> list[list[Any]]:
    """Labels with their probabilities, the likeliest first; none where an output has something else there."""
    if not isinstance(probabilities, dict):
        return []
    known = [[label, share] for label, value in probabilities.items() if (share := _share(value)) is not None]
    return sorted(known, key=lambda one: -one[1])


def _samples(line: ShownLine) -> list[dict[str, Any]]:
    """Samples, each with whether it says what the answer says."""
    if not isinstance(line.samples, list) or line.generated_text is None:
        return []
    said = ballot(line.generated_text, line.parsed)
    found = []
    for one in line.samples:
        try:
            sample = Sample.model_validate(one)
        except ValidationError:
            continue
        agrees = ballot(sample.generated_text, sample.parsed) == said
        found.append(
            _present(
                {
                    "text": sample.generated_text,
                    "agrees": agrees,
                    "confidence": _share(sample.confidence),
                    "finish": sample.finish_reason,
                }
            )
        )
    return found


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
