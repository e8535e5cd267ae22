"""Quality flags of an answer that can be seen in the answer alone. Knows texts and settings; no model, no file.

`cut_off`: it reached `max_new_tokens`. `empty`: it holds no visible character. `repetition`: it ends in a loop.
`only_thinking`: all its tokens went into thoughts, and the answer never came.
`invalid_json`: it was to follow a JSON schema, and does not: it was cut off, or its engine does not enforce schemas.
`wrapped_json`: its JSON follows the schema, and is in a fence or has other words around it.
`low_confidence`: the model found it less likely than the run asks for; only in runs that ask.

The rule for a loop: take the end of the text in lower case, white space collapsed, with and without what follows the
last letter or digit. It loops when some stretch of up to 1,000 characters is there four times in a row and these
are at least 60 characters in all. So a word is repeated about a dozen times before it counts, a sentence four times;
a list whose items differ in a single character does not. It needs neither words nor tokens, so it holds for any
language.
"""

from __future__ import annotations

from typing import Any

from pixano_vlm.models.vlm import VLMInput, VLMOutput
from pixano_vlm.prompts.response_format import find_json, follows, validates

__all__ = [
    "CUT_OFF", "EMPTY", "INVALID_JSON", "LOW_CONFIDENCE", "ONLY_THINKING", "REPETITION", "WRAPPED_JSON",
    "ends_in_a_loop", "flags_of", "other_settings",
]  # fmt: skip

CUT_OFF = "cut_off"
REPETITION = "repetition"
EMPTY = "empty"
ONLY_THINKING = "only_thinking"
INVALID_JSON = "invalid_json"
WRAPPED_JSON = "wrapped_json"
LOW_CONFIDENCE = "low_confidence"

TIMES = 4
"""How often a stretch is there in a row, at least."""
LEAST = 60
"""Length of all its repeats together, at least, in characters."""
LONGEST = 1_000
"""Longest stretch that is looked for, in characters."""

RETRY_PENALTY = 1.1
RETRY_TEMPERATURE = 0.7


def flags_of(
    output: VLMOutput,
    response_format: dict[str, Any] | None = None,
    least_confidence: float | None = None,
) -> tuple[str, ...]:
    """The quality flags of one answer, none for a normal one.

    Args:
        output: The answer.
        response_format: What it was to follow.
        least_confidence: An answer of less is doubted; None: none is for that.
    """
    flags = []
    if output.finish_reason == "length":
        flags.append(CUT_OFF)
    if not output.generated_text.strip():
        flags.append(EMPTY)
        if output.reasoning is not None:
            flags.append(ONLY_THINKING)
    elif ends_in_a_loop(output.generated_text):
        flags.append(REPETITION)
    if response_format is not None and not follows(output.generated_text, response_format):
        value, _ = find_json(output.generated_text)
        is_wrapped = value is not None and validates(value, response_format)
        flags.append(WRAPPED_JSON if is_wrapped else INVALID_JSON)
    if least_confidence is not None and output.confidence is not None:
        flags += [LOW_CONFIDENCE] if output.confidence < least_confidence else []
    return tuple(flags)


def ends_in_a_loop(text: str) -> bool:
    """Whether the text ends in a stretch that is repeated; see the module's docstring."""
    tail = " ".join(text[-4 * TIMES * LONGEST :].lower().split())
    if len(tail) + 1 < LEAST:  # as most answers: too short for a loop, the space below counted
        return False
    end = len(tail)
    while end and not tail[end - 1].isalnum():
        end -= 1
    # A loop of dots or dashes holds no letter, so the end is looked at as it is, too.
    # The space is what would part the last stretch from one more.
    return _loops(tail) or _loops(tail + " ") or (end < len(tail) and _loops(tail[:end]))


def _loops(tail: str) -> bool:
    # A stretch of p characters that is there four times shows its last 15 again p characters earlier.
    probe = LEAST // TIMES
    start = len(tail) - probe
    place = tail.rfind(tail[start:], 0, len(tail) - 1) if start > 0 else -1
    while place >= 0 and (period := start - place) <= LONGEST:
        length = max(TIMES * period, LEAST)
        if length <= len(tail) and tail[-length:-period] == tail[period - length :]:
            return True
        place = tail.rfind(tail[start:], 0, place + probe - 1)
    return False


def other_settings(input: VLMInput, flags: tuple[str, ...], most_new_tokens: int) -> VLMInput | None:
    """The request to try instead of one whose answer was flagged; None when no other settings help.

    A loop or an empty answer is tried with a repetition penalty of at least 1.1 and, if it is sampled, another seed;
    one that was cut off with twice as many new tokens; one that is not the JSON that was asked for, and nothing else,
    with another seed, or sampled at 0.7 where it was greedy; a sampled one of low confidence with another seed.

    Args:
        input: What was asked. It is not changed.
        flags: Those of its answer.
        most_new_tokens: The limit of a record.
    """
    changes: dict[str, object] = {}
    if REPETITION in flags or EMPTY in flags:
        changes["repetition_penalty"] = max(RETRY_PENALTY, (input.repetition_penalty or 1.0) * RETRY_PENALTY)
        if input.temperature > 0 and input.seed is not None:
            changes["seed"] = (input.seed + 1) % 2**63
    if CUT_OFF in flags:
        changes["max_new_tokens"] = min(2 * input.max_new_tokens, most_new_tokens)
    if flags == (INVALID_JSON,):
        changes["temperature"] = input.temperature or RETRY_TEMPERATURE
        changes["seed"] = 0 if input.seed is None else (input.seed + 1) % 2**63
    if flags == (LOW_CONFIDENCE,) and input.temperature > 0 and input.choices is None:
        changes["seed"] = 0 if input.seed is None else (input.seed + 1) % 2**63
    changed = input.model_copy(update=changes)
    if changed == input:
        return None
    changed.model_fields_set.intersection_update(input.model_fields_set)  # nobody asked for what is new
    return changed
