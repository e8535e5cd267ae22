"""The probabilities of tokens that a model's own `generate` chooses, heard from its forward calls.

`generate` shows its processors scores that others have changed already, and keeps the model's own only for all steps
at once, which is gigabytes. Here one step's scores are held, until its tokens are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from pixano_vlm.batching.likelihood import LogLikelihoods

__all__ = ["Listener"]


class Listener(LogitsProcessor):
    """Notes how likely the tokens were that `generate` chose; one of its processors.

    Args:
        count: How many of the likeliest tokens to note in the place of each.
    """

    def __init__(self, count: int = 0) -> None:
        self._count = count
        self._alternatives: list[list[list[tuple[int, float]]]] = []
        self.scores: Tensor | None = None
        """Those of the last call `[rows, vocabulary]`, as the model gave them."""
        self._before: LogLikelihoods | None = None
        self._steps: list[list[float]] = []

    @contextmanager
    def listening(self, model: Any) -> Iterator[None]:
        """While entered, hears what the model's calls give."""
        handle = model.register_forward_hook(self._hear)
        try:
            yield
        finally:
            handle.remove()

    def _hear(self, module: Any, given: Any, output: Any) -> None:
        scores = getattr(output, "logits", None)
        self.scores = scores[:, -1] if isinstance(scores, Tensor) and scores.ndim == 3 else None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Leaves the scores as they are."""
        self._note(input_ids[:, -1])
        heard, self.scores = self.scores, None
        if heard is not None and len(heard) == len(input_ids):
            self._before = LogLikelihoods(heard, heard.amax(dim=-1))
        return scores

    def _note(self, tokens: Tensor) -> None:
        if self._before is not None:
            self._steps.append(self._before.of(list(range(len(tokens))), tokens.tolist()))
            if self._count:
                rows = range(len(tokens))
                self._alternatives.append([self._before.likeliest(row, self._count) for row in rows])
            self._before = None

    def alternatives(self, row: int) -> list[list[tuple[int, float]]]:
        """The likeliest tokens in each place of a row; see `LogLikelihoods.likeliest`."""
        return [step[row] for step in self._alternatives]

    def logs(self, rows: list[list[int]]) -> list[list[float]]:
        """The logarithms for each row's tokens; empty lists where the model's calls were not heard.

        Args:
            rows: Each row's new tokens, all as many.
        """
        count = len(rows[0]) if rows else 0
        if self._before is not None and len(self._steps) == count - 1:
            self._note(torch.tensor([row[-1] for row in rows]))
        if len(self._steps) != count:
            return [[] for _ in rows]
        return [[min(0.0, log) for log in logs] for logs in zip(*self._steps, strict=True)]
