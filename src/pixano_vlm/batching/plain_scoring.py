"""Labels scored by whole forward passes over prompt and label: slow, and right for every model.

For models that run in static batches, and to try whether the tree of all labels may be computed at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pixano_vlm.batching.label_logits import take_logits
from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.prompts.labels import LabelScores, LabelTree

__all__ = ["probabilities_plainly", "score_plainly"]


def probabilities_plainly(
    model: Any, sequence: Sequence, tree: LabelTree, ends: frozenset[int]
) -> dict[str, float]:
    """Those of labels after the prompt of a record, which still has its tensors."""
    scores = LabelScores(tree, ends)
    tensors = {name: _placed(model, value) for name, value in sequence.prompt.tensors.items()}
    score_plainly(model, tensors, tree, scores)
    return scores.probabilities()


def _placed(model: Any, value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(model.device, model.dtype if value.is_floating_point() else None)


@torch.inference_mode()
def score_plainly(model: Any, tensors: dict[str, Any], tree: LabelTree, scores: LabelScores) -> None:
    """Gives `scores` what it needs.

    Args:
        model: The transformers model.
        tensors: All that the processor gave for the prompt; tensors are on the model's device.
        tree: The labels.
        scores: Takes the scores.
    """
    given = {name: value for name, value in tensors.items() if value is not None}
    taken: set[int] = set()
    for leaf in tree.leaves:
        path = tree.path(leaf)
        new = torch.tensor([[tree.tokens[node] for node in path]], device=model.device)
        logits = model(**_extended(model, given, new), use_cache=False).logits[0, -len(path) - 1 :]
        rows = [row for row, place in enumerate([-1, *path]) if place not in taken]
        places = [[-1, *path][row] for row in rows]
        take_logits(scores, places, logits[rows])
        taken.update(places)


def _extended(model: Any, given: dict[str, Any], new: Tensor) -> dict[str, Any]:
    """A prompt's tensors with further tokens behind them."""
    if model.config.is_encoder_decoder:
        start = given.get("decoder_input_ids")
        if start is None:
            config = model.generation_config
            first = config.decoder_start_token_id
            first = config.bos_token_id if first is None else first
            start = torch.full((1, 1), int(first), device=new.device)
        rest = {name: value for name, value in given.items() if name != "decoder_attention_mask"}
        return {**rest, "decoder_input_ids": torch.cat([start, new], dim=1)}
    ids = given["input_ids"]
    extended: dict[str, Any] = {}
    for name, value in given.items():
        if name == "input_ids":
            extended[name] = torch.cat([ids, new], dim=1)
        elif isinstance(value, Tensor) and value.shape == ids.shape:  # a mask, or types of tokens
            fill = torch.ones_like(new) if name == "attention_mask" else torch.zeros_like(new)
            extended[name] = torch.cat([value, fill.to(value.dtype)], dim=1)
        else:
            extended[name] = value
    return extended
