"""What transformers calls the argument that takes the cache. The one place that spells its names.

Releases before 5.24 say `past_key_values`, later ones `cache`. Which of them a callable takes is read from its
signature, so that a model class written for the one works where transformers itself has the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["CACHE_NAMES", "cache_argument", "pass_cache"]

CACHE_NAMES = ("cache", "past_key_values")
"""The newest first."""


def cache_argument(function: Callable[..., Any]) -> str | None:
    """The name by which a callable takes the cache, or None where it takes none."""
    parameters = inspect.signature(function).parameters
    return next((name for name in CACHE_NAMES if name in parameters), None)


def pass_cache(inputs: dict[str, Any], name: str) -> dict[str, Any]:
    """A forward call's inputs with the cache under the name that the model's `forward` takes.

    `prepare_inputs_for_generation` returns it under transformers' own name, and a model's class may have the other.
    """
    given = next((known for known in CACHE_NAMES if known in inputs), name)
    return inputs if given == name else {name if key == given else key: inputs[key] for key in inputs}
