"""From a model's logits to what a tree of labels takes of them. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pixano_vlm.batching.likelihood import LogLikelihoods
from pixano_vlm.prompts.labels import LabelScores

__all__ = ["take_logits"]


def take_logits(scores: LabelScores, places: Sequence[int], logits: Tensor) -> None:
    """Gives a tree what a model says after some of its nodes, parents before children.

    Args:
        scores: Of the tree.
        places: The nodes; -1: the prompt.
        logits: `[places, vocabulary]`, those after each.
    """
    likelihoods = LogLikelihoods(logits, logits.amax(dim=-1))
    after = [scores.tokens_after(place) for place in places]
    # All in one: row by row, starting the operations costs more than what they do.
    rows = [row for row, tokens in enumerate(after) for _ in tokens]
    logs = iter(likelihoods.of(rows, [token for tokens in after for token in tokens]))
    ended = likelihoods.of_any(scores.ends) if scores.ends else [0.0] * len(places)
    for row, place in enumerate(places):
        scores.take(place, ended[row], [next(logs) for _ in after[row]])
