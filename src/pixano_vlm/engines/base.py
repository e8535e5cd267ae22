"""What the engines have in common: one input is a stream of one, and what a deployment may ask is checked first.

Knows no engine: each brings its own parameters as a Pydantic model. Imports nothing heavy.
"""

from __future__ import annotations

import threading
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ValidationError

from pixano_vlm.errors import ConfigError, ModelLoadError, PromptError, VLMError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMInput, VLMModel, VLMOutput
from pixano_vlm.validation import first_problem

__all__ = [
    "EngineModel", "check_image_count", "read_parameters", "refuse_budget", "refuse_prompt_limit",
]  # fmt: skip

Params = TypeVar("Params", bound=BaseModel)


class EngineModel(VLMModel):
    """Base of a model class that answers many inputs at a time: it implements `stream` and `load_model`."""

    takes_turns: ClassVar[bool] = False
    """Whether calls of `predict` wait for each other, because the engine answers one stream at a time."""

    def __init__(self, config: ModelDeploymentConfig) -> None:
        super().__init__(config)
        self._turn = threading.Lock()

    def predict(self, input: VLMInput) -> VLMOutput:
        """Answers one input, by the same path as a stream of one. Safe to call from many threads."""
        if self.takes_turns:
            with self._turn:
                return self._only_answer(input)
        return self._only_answer(input)

    def _only_answer(self, input: VLMInput) -> VLMOutput:
        ((_, answer),) = self.stream([(0, input)])
        if isinstance(answer, VLMError):
            raise answer
        return answer

    def _not_loaded(self) -> ModelLoadError:
        return ModelLoadError(f"model {self.model_name!r} is not loaded.", hint="Call load_model() first.")


def check_image_count(count: int, limits: Limits) -> None:
    """Checks how many images a record has.

    Raises:
        PromptError: When it has more than the run admits.
    """
    if count > limits.max_images:
        raise PromptError(
            f"the record has {count} images; the limit is {limits.max_images}.",
            hint="Use fewer, or raise the limit.",
        )


def refuse_budget(input: VLMInput, why: str) -> None:
    """For an engine that does not resize images itself.

    Args:
        input: The request.
        why: As of `VLMModel.cannot_budget_images`.

    Raises:
        PromptError: When it asks for a budget of pixels, which would not be held to.
    """
    for asked in (name for name in ("max_pixels", "min_pixels") if getattr(input, name) is not None):
        raise PromptError(f"{asked} {why}.", hint=f"Leave {asked} out.")


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
