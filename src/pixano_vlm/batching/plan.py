"""In which ways a model is batched, and within which budgets. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model may be run in flight, and with what budgets."""

    max_rows: int
    max_tokens: int
    prefill_tokens: int
    image_bytes: int
    prefix_bytes: int
    shared_prefill: bool
    """Whether prompts may be prefilled together and from a shared prefix; else each alone and whole."""
    image_features: bool
    """Whether images are encoded apart from the prompts, each once; else with every prompt."""
    context: int | None
    """Most tokens, prompt and answer, or None."""
