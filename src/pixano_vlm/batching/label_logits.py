"""From a model's logits to what a tree of labels takes of them. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pixano_vlm.prompts.labels import LabelScores

__all__ = ["take_logits"]


def take_logits(scores: LabelScores, places: Sequence[int], logits: Tensor) -> None:
    """Gives a tree what a model says after some of its nodes, parents before children.

    Args:
        scores: Of the tree.
        places: The nodes; -1: the prompt.
        logits: `[places, vocabulary]`, those after each.
    """
    logs = torch.log_softmax(logits.float(), dim=-1)
    ends = scores.ends
    ended = torch.logsumexp(logs[:, ends], dim=-1).tolist() if ends else [0.0] * len(places)
    for row, place in enumerate(places):
        scores.take(place, ended[row], logs[row, scores.tokens_after(place)].tolist())
