"""The probabilities of a record's labels, all at once where the model's code allows it, else one by one.

Whether it does is found out with the first record that has labels: a few of them are computed in both ways.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pixano_vlm.batching.label_logits import take_logits
from pixano_vlm.batching.plain_scoring import probabilities_plainly
from pixano_vlm.batching.runner import ModelRunner
from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.errors import is_out_of_memory
from pixano_vlm.prompts.labels import LabelScores, LabelTree

__all__ = ["LabelScorer"]


class LabelScorer:
    """Scores labels behind prompts that are in their rows.

    Args:
        model: The transformers model, in eval mode.
        runner: Calls it on rows.
        end_ids: The model's end tokens.
        may_be_at_once: False where labels are known to need a forward call each.
    """

    def __init__(
        self, model: Any, runner: ModelRunner, end_ids: frozenset[int], *, may_be_at_once: bool
    ) -> None:
        self._model = model
        self._runner = runner
        self._end_ids = end_ids
        # Whether a model's labels may be computed all at once; None: nobody has tried yet.
        self._trees_are_exact = None if may_be_at_once else False

    def score(self, sequence: Sequence, after_prompt: Tensor) -> dict[str, float]:
        """The probability of each label of a record.

        Args:
            sequence: The record; its prompt is in its row.
            after_prompt: `[1, vocabulary]`, the scores after its prompt.

        Raises:
            Exception: What the model's code raises.
        """
        tree = sequence.prompt.labels
        assert tree is not None
        if self._trees_are_exact is None:
            # As few labels as can show it: each costs a forward pass over the whole prompt.
            few = tree.only(tree.telling())
            at_once = self._at_once(sequence, few, after_prompt)
            self._trees_are_exact = at_once is not None and are_alike(
                at_once, self._one_by_one(sequence, few), self._model.dtype
            )
        probabilities = self._at_once(sequence, tree, after_prompt) if self._trees_are_exact else None
        return self._one_by_one(sequence, tree) if probabilities is None else probabilities

    def _one_by_one(self, sequence: Sequence, tree: LabelTree) -> dict[str, float]:
        return probabilities_plainly(self._model, sequence, tree, self._end_ids)

    def _at_once(self, sequence: Sequence, tree: LabelTree, after_prompt: Tensor) -> dict[str, float] | None:
        """None where this model's code does not take a tree."""
        scores = LabelScores(tree, self._end_ids)
        take_logits(scores, [-1], after_prompt)
        try:
            self._runner.score_labels(sequence, tree, scores)
            return scores.probabilities()
        except Exception as error:
            if self._trees_are_exact or is_out_of_memory(error):
                raise
            return None  # its code takes no mask of a tree


def are_alike(some: dict[str, float], others: dict[str, float], dtype: torch.dtype) -> bool:
    """Whether two ways of scoring labels give the same, but for the rounding of a dtype."""
    allowed = 1e-4 if dtype == torch.float32 else 0.1
    return all(abs(some[label] - others[label]) <= allowed for label in others)
