"""Which of a request's settings took part in its answer: what `generation_config` of an output says.

Knows no engine, and no setting that a model brings itself.
"""

from __future__ import annotations

from typing import Any

from pixano_vlm.models.vlm import VLMInput

__all__ = ["settings_used"]


def settings_used(input: VLMInput, max_new_tokens: int) -> dict[str, Any]:
    """The settings that took part, and no others.

    Args:
        input: The request.
        max_new_tokens: Most new tokens it could have had: what it asked for, or the room that the context left.
    """
    sample = input.temperature > 0
    used: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "do_sample": sample,
        "temperature": input.temperature,
    }
    if sample:
        names = ("top_p", "top_k", "min_p", "seed")
        used |= {name: value for name in names if (value := getattr(input, name)) is not None}
    if input.repetition_penalty is not None:
        used["repetition_penalty"] = input.repetition_penalty
    if input.response_format is not None:
        used["response_format"] = input.response_format.get("type")
    if input.stop:
        used["stop"] = list(input.stop)
    return used
