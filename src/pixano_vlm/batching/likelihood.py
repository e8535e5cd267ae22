"""How likely a model found the tokens that it was answered with: what the confidence of an answer is made of.

Probabilities are the model's own: at temperature 1, before penalties, `top_p` and its like, and before what a
checkpoint forces or forbids. Under a schema they are those among the tokens that it allows in that place. Logarithms
are natural ones, computed in float32 whatever the model's dtype. Knows no engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Tokens
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixano_vlm.models.vlm import DECIMALS

__all__ = ["SURE", "LogLikelihoods", "geometric_mean", "written_logs"]

SURE = 1e-6
"""A token whose probability is this near to 1 has it under a schema, too, as near: no mask is needed to tell."""

_BLOCK = 2**21
"""Scores that are turned into probabilities at a time, so that what is needed for it stays small."""


class LogLikelihoods:
    """The logarithms of the probabilities of one step's tokens.

    Args:
        logits: `[rows, vocabulary]`, the model's.
        highest: `[rows]`, the largest of each row.
    """

    def __init__(self, logits: Tensor, highest: Tensor) -> None:
        self._logits = logits
        self._whole = _log_sum(logits, highest.float())
        self._highest: list[float] = (highest.float() - self._whole).tolist()

    def of_likeliest(self, row: int) -> float:
        """That of a row's likeliest token."""
        return self._highest[row]

    def of(self, rows: list[int], tokens: list[int]) -> list[float]:
        """Those of a token in each of some rows."""
        if not rows:
            return []
        logs: list[float] = (self._logits[rows, tokens].float() - self._whole[rows]).tolist()
        return logs

    def likeliest(
        self, row: int, count: int, allowed: NDArray[np.bool_] | None = None
    ) -> list[tuple[int, float]]:
        """The likeliest tokens of a row and their logarithms; of those that are `allowed`, and among them."""
        logs = self._logits[row].float() - self._whole[row]
        if allowed is not None:
            logs = logs.masked_fill_(~torch.from_numpy(allowed).to(logs.device), -math.inf)
            logs = logs - torch.logsumexp(logs, dim=-1)
        values, tokens = logs.topk(min(count, len(logs)))
        found = zip(tokens.tolist(), values.tolist(), strict=True)
        return [(token, min(0.0, log)) for token, log in found if log > -math.inf]

    def of_allowed(self, allowed: Mapping[int, NDArray[np.bool_]]) -> dict[int, float]:
        """For each of some rows, that of all the tokens together that are allowed there."""
        rows = list(allowed)
        if not rows:
            return {}
        # Blocks of a few rows: one by one each row would pay for starting every operation.
        step = max(1, _BLOCK // self._logits.shape[-1])
        logs: list[float] = []
        for some in (rows[first : first + step] for first in range(0, len(rows), step)):
            forbidden = torch.from_numpy(~np.stack([allowed[row] for row in some])).to(self._logits.device)
            among = self._logits[some].float().masked_fill_(forbidden, -math.inf)
            logs += (torch.logsumexp(among, dim=-1) - self._whole[some]).tolist()
        return {row: log if log > -math.inf else 0.0 for row, log in zip(rows, logs, strict=True)}


def _log_sum(logits: Tensor, highest: Tensor) -> Tensor:
    """The logarithm of the sum of a row's exponentials `[rows]`, given its highest score."""
    step = max(1, _BLOCK // logits.shape[-1])
    sums = [
        (logits[first : first + step].float() - highest[first : first + step, None]).exp_().sum(dim=-1)
        for first in range(0, len(logits), step)
    ]
    return highest + torch.cat(sums).log_()


LEAST = -9999.0
"""What OpenAI writes for the logarithm of nothing."""


def written_logs(
    tokens: Tokens[int],
    logs: Tokens[float],
    alternatives: Tokens[Tokens[tuple[int, float]]],
    decode: Callable[[Tokens[int]], str],
) -> dict[str, Any]:
    """Tokens with the logarithms of their probabilities, in OpenAI's form.

    Args:
        tokens: Those of an answer.
        logs: Of each.
        alternatives: Of each the likeliest tokens in its place; empty where nobody asked for them.
        decode: Tokens -> text.
    """

    def entry(token: int, log: float) -> dict[str, Any]:
        text = decode([token])
        # Part of a character has no text of its own, so that its bytes are not known either.
        known = "\ufffd" not in text
        return {
            "token": text, "bytes": list(text.encode("utf-8", "surrogatepass")) if known else None,
            "logprob": round(max(log, LEAST), DECIMALS),
        }  # fmt: skip

    places = alternatives or [[]] * len(tokens)
    return {
        "content": [
            entry(token, log) | {"top_logprobs": [entry(*other) for other in others]}
            for token, log, others in zip(tokens, logs, places, strict=True)
        ]
    }


def geometric_mean(logs: Tokens[float]) -> float | None:
    """The geometric mean of probabilities, given their logarithms; None of none."""
    if not logs:
        return None
    return round(math.exp(min(0.0, math.fsum(logs) / len(logs))), DECIMALS)
