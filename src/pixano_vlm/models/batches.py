"""`predict_batch`: inputs in batches of a fixed size, each answered exactly once, a bad one alone.

Knows the contract of a model class, and no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from pixano_vlm.errors import ConfigError, VLMError
from pixano_vlm.models.deployment import ModelDeploymentConfig

__all__ = ["BATCH_SIZE", "answer_in_batches", "batch_size"]

BATCH_SIZE = 8
"""Inputs that `predict_batch` is given together, where neither the config nor a flag says."""

Key = TypeVar("Key", bound=Hashable)
Input = TypeVar("Input")
Answer = TypeVar("Answer")


def batch_size(config: ModelDeploymentConfig) -> int:
    """How many inputs a class is given together: `max_batch_size` of its parameters.

    Raises:
        ConfigError: When it is not a whole number of 1 or more.
    """
    size = config.model_params.get("max_batch_size", BATCH_SIZE)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigError(
            f"model {config.name!r}: max_batch_size must be a whole number of 1 or more, not {size!r}."
        )
    return size


def answer_in_batches(
    inputs: Iterable[tuple[Key, Input]],
    size: int,
    answer: Callable[[list[Input]], Sequence[Answer] | VLMError],
) -> Iterator[tuple[Key, Answer | VLMError]]:
    """Answers inputs `size` at a time, in their order.

    Args:
        inputs: Taken lazily, at most `size` ahead.
        size: Most inputs of a batch.
        answer: Answers a batch, one answer an input; or says why none of it could be answered.
    """
    waiting = iter(inputs)
    while batch := list(islice(waiting, size)):
        keys, values = zip(*batch, strict=True)
        yield from zip(keys, _answers(list(values), answer), strict=True)


def _answers(inputs: list[Any], answer: Callable[[list[Any]], Sequence[Any] | VLMError]) -> list[Any]:
    """The answers of one batch. One that fails as a whole is halved, until what fails is a single input."""
    found = answer(inputs)
    if not isinstance(found, VLMError):
        return list(found)
    if len(inputs) == 1:
        return [found]
    half = len(inputs) // 2
    return [*_answers(inputs[:half], answer), *_answers(inputs[half:], answer)]
