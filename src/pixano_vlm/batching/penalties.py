"""Presence and frequency penalties over the tokens that a record was answered with so far, as OpenAI defines them.

From the score of a token that came `n` times, `frequency_penalty * n` is taken, and `presence_penalty` once if
`n > 0` (https://platform.openai.com/docs/api-reference/chat/create). The prompt does not count. Knows no batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from pixano_vlm.models.generation import GenerationFields

__all__ = ["Penalties", "processors_of"]


class Penalties(LogitsProcessor):
    """Lowers the scores of tokens that came already.

    Args:
        presence: Taken once from each that came.
        frequency: Taken once for each time that it came.
        start: Tokens before the first new one; None: as many as the first call sees.
    """

    def __init__(self, presence: float, frequency: float, start: int | None = None) -> None:
        self._presence, self._frequency, self._start = presence, frequency, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores `[rows, vocabulary]` after the penalties; `input_ids` is `[rows, length]`."""
        if self._start is None:
            self._start = input_ids.shape[1]
        new = input_ids[:, self._start :]
        if not new.shape[1]:
            return scores
        counts = torch.zeros_like(scores).scatter_add_(1, new, torch.ones_like(new, dtype=scores.dtype))
        return scores - self._frequency * counts - self._presence * (counts > 0)


def processors_of(input: GenerationFields, start: int | None = None) -> list[LogitsProcessor]:
    """What a record asks for beyond transformers' own processors; `start` as of `Penalties`."""
    presence, frequency = input.presence_penalty or 0.0, input.frequency_penalty or 0.0
    return [Penalties(presence, frequency, start)] if presence or frequency else []
