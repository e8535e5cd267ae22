"""The training loss: cross-entropy in which a coordinate close to the right one is nearly right.

A plain cross-entropy tells the model nothing of 300 being closer to 320 than 900 is. Here the wanted distribution
of a coordinate is a narrow bell around it, so that its neighbours are learned with it.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch

from .questions import STEP, WHOLE

BELL_STEPS: Final = 0.75
"""The standard deviation of the bell, in steps between coordinates."""
COORDINATE_WEIGHT: Final = 1.5
"""How much a coordinate counts beside any other token: the first ones of a box decide which shape it is about."""


class AnswerLoss:
    """The loss of the answers' tokens.

    Args:
        tokenizer: Knows every coordinate as one token, both after a bracket and with a comma before it.
    """

    def __init__(self, tokenizer: Any) -> None:
        size = len(tokenizer)
        self._wanted = torch.eye(size)
        self._weights = torch.ones(size)
        for form in coordinate_tokens(tokenizer):
            for place, token in enumerate(form):
                if place == 0:
                    continue  # "0" also counts shapes, and there it has no neighbours
                bell = [math.exp(-(((other - place) / BELL_STEPS) ** 2) / 2) for other in range(len(form))]
                self._wanted[token] = 0
                self._wanted[token, form] = torch.tensor(bell) / sum(bell)
                self._weights[token] = COORDINATE_WEIGHT

    def __call__(self, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The mean loss of `tokens` `[n]` under `logits` `[n, vocabulary]`."""
        losses = -(self._wanted[tokens] * logits.float().log_softmax(-1)).sum(-1)
        weights = self._weights[tokens]
        return (losses * weights).sum() / weights.sum()


def coordinate_tokens(tokenizer: Any) -> list[list[int]]:
    """The tokens of all coordinates in rising order: the first of a place, and those with a comma before them.

    Raises:
        ValueError: a coordinate is not one token.
    """
    forms = []
    for before in ("", ","):
        tokens = [
            tokenizer(f"{before}{n}", add_special_tokens=False)["input_ids"]
            for n in range(0, WHOLE + 1, STEP)
        ]
        if any(len(each) != 1 for each in tokens):
            raise ValueError("the tokenizer does not know every coordinate as one token")
        forms.append([token for (token,) in tokens])
    return forms
