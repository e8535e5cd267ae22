"""The labels that a record's answer is one of: what a list of them must be. Knows no model."""

from __future__ import annotations

from typing import Any

__all__ = ["MOST", "NOT_SCORED", "check_choices"]

MOST = 1_000
"""Most labels of a record."""


NOT_SCORED = (
    "Models that run in this process, vLLM's too, score labels; a JSON schema with an enum is followed here, without "
    "probabilities."
)


def check_choices(value: Any) -> list[str]:
    """Labels as a list.

    Raises:
        ValueError: When it is not a list of different texts that can be seen; says which one is wrong.
    """
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise ValueError('must be a list of labels, such as ["cat", "dog", "neither"]')
    if not value:
        raise ValueError("must name at least one label, not none")
    if len(value) > MOST:
        raise ValueError(f"may name at most {MOST:,} labels, not {len(value):,}")
    seen: dict[str, str] = {}
    for label in value:
        text = label.strip()
        if not text:
            raise ValueError("must not name an empty label")
        if text in seen:
            raise ValueError(f"names {label!r} twice")
        seen[text] = label
    return value
