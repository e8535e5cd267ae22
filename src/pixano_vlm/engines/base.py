"""What every engine asks of its deployment first: parameters it knows, and limits it can hold to.

Knows no engine: each brings its own parameters as a Pydantic model. Imports nothing heavy.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pixano_vlm.errors import ConfigError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.vlm import VLMModel
from pixano_vlm.validation import first_problem

__all__ = ["read_parameters", "refuse_prompt_limit"]

Params = TypeVar("Params", bound=BaseModel)


def read_parameters(config: ModelDeploymentConfig, kind: type[Params]) -> Params:
    """The deployment's `model_params` as `kind`.

    Raises:
        ConfigError: When one is unknown, missing or wrong; names it and the nearest known one.
    """
    try:
        return kind(**config.model_params)
    except ValidationError as error:
        problem = first_problem(error)
        name, known = problem.key, list(kind.model_fields)
        if problem.kind == "unknown":
            raise ConfigError(
                f"model {config.name!r}: {config.model_class} has no parameter {name!r}.",
                hint=problem.hint(known),
            ) from error
        raise ConfigError(
            f"model {config.name!r}: parameter {name!r} of {config.model_class} {problem.text}.",
            hint=None if name not in known else kind.model_fields[name].description,
        ) from error


def refuse_prompt_limit(model: VLMModel, *, hint: str) -> None:
    """For an engine that learns a prompt's length from its answer alone.

    Raises:
        ConfigError: When the run limits prompts in tokens, which would not be held to.
    """
    if model.limits.max_prompt_tokens is not None:
        raise ConfigError(
            f"model {model.model_name!r}: max_prompt_tokens is a limit that {type(model).__name__} cannot hold to.",
            hint=hint,
        )
