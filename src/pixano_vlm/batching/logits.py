"""Drawing tokens for many rows at once, each row from its own probabilities, settings and random numbers.

Every setting is a least probability: of the `top_k` likeliest tokens, of those that together reach `top_p`, of
`min_p` times the likeliest one. What is at least as likely as all of them ask may be drawn, which keeps the order of
the vocabulary: no answer depends on how equal probabilities happen to be sorted, of which bfloat16 has many. The
definitions, and their order, are those of transformers' `TemperatureLogitsWarper`, `TopKLogitsWarper`,
`TopPLogitsWarper` and `MinPLogitsWarper`, which sort the vocabulary for each record and token.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.errors import GenerationError
from pixano_vlm.models.vlm import VLMInput

CANDIDATES = 256
"""So many of the likeliest tokens are looked at first for `top_p`; most rows reach it with them."""


def draw(scores: Tensor, sequences: list[Sequence]) -> list[int | Exception]:
    """A token for each row, or the error of a row whose scores are not finite numbers.

    Args:
        scores: `[rows, vocabulary]`, float32; minus infinity is never drawn. What is there is overwritten.
        sequences: The records of those rows, which all have random numbers of their own.
    """
    # On the CPU whatever the model is on: there sums of one row do not depend on the number of rows.
    reached = _weights(scores, [sequence.input for sequence in sequences]).cpu().cumsum_(dim=-1)
    whole = reached[:, -1:]
    chance = torch.stack([torch.rand(1, generator=sequence.generator) for sequence in sequences])
    # The first token that goes beyond the chance has a probability above 0, as long as there is one beyond it.
    target = torch.minimum(chance * whole, torch.nextafter(whole, torch.zeros(())))
    tokens = torch.searchsorted(reached, target, right=True)[:, 0].tolist()
    return [
        token if total > 0 else no_numbers()
        for token, total in zip(tokens, whole[:, 0].tolist(), strict=True)
    ]


def _weights(scores: Tensor, inputs: list[VLMInput]) -> Tensor:
    """What is as likely as a row's settings ask, 0 for all else, instead of its scores; no row is normalised."""
    bounded = [row for row, input in enumerate(inputs) if input.top_k or _top_p(input) < 1 or input.min_p]
    logs = None
    if bounded:
        asked = [inputs[row] for row in bounded]
        logs = log_probabilities(scores[bounded], asked)
        logs.masked_fill_(
            logs < torch.tensor(least_logs(logs, asked), device=logs.device)[:, None], -math.inf
        )
        if len(bounded) == len(inputs):
            return logs.exp_()
    # In place: for the largest vocabularies, most of the time would go into fresh memory.
    scaled = scores.sub_(scores.amax(dim=-1, keepdim=True)).div_(_temperatures(inputs, scores.device))
    if logs is not None:
        scaled[bounded] = logs
    return scaled.exp_()


def _temperatures(inputs: list[VLMInput], device: torch.device) -> Tensor:
    """`[rows, 1]`; never what float32 takes for 0, so that the smallest temperatures are greedy."""
    smallest = torch.finfo(torch.float32).tiny
    return torch.tensor([[max(input.temperature, smallest)] for input in inputs], device=device)


def log_probabilities(scores: Tensor, inputs: list[VLMInput]) -> Tensor:
    """Logarithms of the probabilities `[rows, vocabulary]` at each row's temperature."""
    # Against the likeliest, since the smallest temperatures would make infinities of other scores.
    scaled = (scores - scores.amax(dim=-1, keepdim=True)) / _temperatures(inputs, scores.device)
    return torch.log_softmax(scaled, dim=-1)


def least_logs(logs: Tensor, inputs: list[VLMInput]) -> list[float]:
    """For each row the least log probability that may be drawn; minus infinity where all may be.

    Args:
        logs: `[rows, vocabulary]`, from `log_probabilities`.
        inputs: The requests of those rows.
    """
    least = [-math.inf] * len(inputs)
    bounded = [row for row, input in enumerate(inputs) if input.top_k or _top_p(input) < 1]
    if bounded:
        count = max(inputs[row].top_k or CANDIDATES for row in bounded)
        likeliest = logs[bounded].topk(min(count, logs.shape[-1])).values.cpu().numpy()
        for row, values in zip(bounded, likeliest, strict=True):
            asked = inputs[row]
            of = values[: asked.top_k or CANDIDATES]
            # Of the `top_k` likeliest, as if there were no others.
            enough = _top_p(asked) * (float(np.exp(of).sum(dtype=np.float64)) if asked.top_k else 1.0)
            found = float(of[-1]) if _top_p(asked) >= 1 else _where_reached(of, enough)
            least[row] = _search(logs[row].cpu().numpy(), enough) if found is None else found
    relative = [row for row, input in enumerate(inputs) if input.min_p]
    for row, highest in zip(relative, logs[relative].amax(dim=-1).tolist(), strict=True):
        least[row] = max(least[row], highest + math.log(inputs[row].min_p or 1))
    return least


def _where_reached(values: NDArray[np.float32], enough: float) -> float | None:
    """The one of `values`, log probabilities in falling order, with which they reach `enough`, if they do."""
    reached = np.cumsum(np.exp(values), dtype=np.float64)
    last = int(np.searchsorted(reached, enough))
    return float(values[last]) if last < len(values) else None


def _search(values: NDArray[np.float32], enough: float) -> float:
    """The log probability with which the likeliest of many reach `enough`, by halves: without sorting them all."""
    while len(values) > CANDIDATES:
        middle = len(values) // 2
        values = np.partition(values, middle)
        reached = float(np.exp(values[middle:]).sum(dtype=np.float64))
        if reached >= enough:
            values = values[middle:]
        else:
            enough -= reached
            values = values[:middle]
    found = _where_reached(np.sort(values)[::-1], enough)
    # Where rounding leaves a little to be reached, nothing is left out.
    return -math.inf if found is None else found


def _top_p(input: VLMInput) -> float:
    return 1.0 if input.top_p is None else input.top_p


def no_numbers() -> GenerationError:
    """What a record is answered with whose scores are not finite numbers."""
    return GenerationError(
        "the model's scores for the next token are not finite numbers.",
        hint="Numbers may have become too large for the dtype: try dtype float32, or bfloat16 instead of float16.",
    )
