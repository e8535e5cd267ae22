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

_FEW = 8192
"""Tokens up to which those of a row are picked out, not masked."""

_BLOCK = 2**18
"""Scores that are turned into probabilities at a time: what is needed for it stays in a processor's own cache, and is
not taken from the operating system afresh at every step, which cost three times as much as the computing itself."""


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

    def of_any(self, tokens: list[int]) -> list[float]:
        """Those of any of some tokens, in each row."""
        logs: list[float] = (torch.logsumexp(self._logits[:, tokens].float(), dim=-1) - self._whole).tolist()
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
        if not allowed:
            return {}
        counts = {row: int(np.count_nonzero(mask)) for row, mask in allowed.items()}
        whole = dict(zip(allowed, self._whole[list(allowed)].tolist(), strict=True))
        # Outside of strings a schema allows a handful of tokens, within them nearly all: the fewer are picked out.
        few = {row: np.flatnonzero(allowed[row]) for row, count in counts.items() if count <= _FEW}
        missing = {
            row: np.flatnonzero(~allowed[row])
            for row, count in counts.items()
            if row not in few and len(allowed[row]) - count <= _FEW
        }
        logs = {row: log - whole[row] for row, log in self._of_few(few).items()}
        for row, log in self._of_few(missing).items():
            share = math.exp(min(0.0, log - whole[row]))
            if share < 0.5:  # above that too little of a float32's digits would be left
                logs[row] = math.log1p(-share)
        others = [row for row in allowed if row not in logs]
        # Blocks of a few rows: one by one each row would pay for starting every operation.
        step = max(1, _BLOCK // self._logits.shape[-1])
        for some in (others[first : first + step] for first in range(0, len(others), step)):
            forbidden = torch.from_numpy(~np.stack([allowed[row] for row in some])).to(self._logits.device)
            among = self._logits[some].float().masked_fill_(forbidden, -math.inf)
            sums = torch.logsumexp(among, dim=-1).tolist()
            logs |= {row: log - whole[row] for row, log in zip(some, sums, strict=True)}
        return {row: log if log > -math.inf else 0.0 for row, log in logs.items()}

    def _of_few(self, tokens: Mapping[int, NDArray[np.intp]]) -> dict[int, float]:
        """The logarithm of the sum of the exponentials of a few tokens' scores, for each of some rows."""
        if not tokens:
            return {}
        rows = list(tokens)
        widest = max(1, *(len(some) for some in tokens.values()))
        columns = np.zeros((len(rows), widest), dtype=np.int64)
        missing = np.ones((len(rows), widest), dtype=np.bool_)
        for place, some in enumerate(tokens.values()):
            columns[place, : len(some)] = some
            missing[place, : len(some)] = False
        device = self._logits.device
        scores = self._logits[
            torch.tensor(rows, device=device)[:, None], torch.from_numpy(columns).to(device)
        ]
        among = scores.float().masked_fill_(torch.from_numpy(missing).to(device), -math.inf)
        return dict(zip(rows, torch.logsumexp(among, dim=-1).tolist(), strict=True))


def _log_sum(logits: Tensor, highest: Tensor) -> Tensor:
    """The logarithm of the sum of a row's exponentials `[rows]`, given its highest score."""
    step = max(1, _BLOCK // logits.shape[-1])
    # One piece of memory for all blocks.
    memory = torch.empty(
        (min(step, len(logits)), logits.shape[-1]), dtype=torch.float32, device=logits.device
    )
    sums = []
    for first in range(0, len(logits), step):
        some = logits[first : first + step]
        scores = memory[: len(some)].copy_(some)
        sums.append(scores.sub_(highest[first : first + step, None]).exp_().sum(dim=-1))
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
