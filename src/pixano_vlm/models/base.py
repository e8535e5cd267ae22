"""What every inference model is, whatever its capability: configured, loaded once, run, unloaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from pixano_vlm.models.deployment import ModelDeploymentConfig


class InferenceModel(ABC):
    """Abstract base of every model.

    Args:
        config: Name, class and parameters; kept as `self.config`.
    """

    capability_name: ClassVar[str] = ""

    is_loaded: bool = False
    """Whether `load_model` was called, by whomever, and `unload` was not since."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Has `load_model` and `unload` of every class note that they were called."""
        super().__init_subclass__(**options)
        for name, value in (("load_model", True), ("unload", False)):
            if name in cls.__dict__:
                setattr(cls, name, _noted(cls.__dict__[name], value))

    def __init__(self, config: ModelDeploymentConfig) -> None:
        self.config = config

    @property
    def model_name(self) -> str:
        """The name the model is registered under."""
        return self.config.name

    @property
    def metadata(self) -> dict[str, Any]:
        """`model_name`, `capability` and `model_class`, for whoever serves or lists the model."""
        return {
            "model_name": self.model_name,
            "capability": self.capability_name or self.config.capability,
            "model_class": self.config.model_class,
        }

    @abstractmethod
    def load_model(self) -> None:
        """Loads the weights. Called once, before the first `predict`.

        Raises:
            ModelLoadError: When they cannot be loaded.
        """

    @abstractmethod
    def predict(self, input: Any) -> Any:
        """Runs one input."""

    def unload(self) -> None:
        """Frees what `load_model` took.

        The default forgets `self.model`, where the documented example keeps its weights; a subclass that
        keeps more overrides this.
        """
        self.__dict__.pop("model", None)
        self.is_loaded = False


def _noted(method: Callable[[Any], None], value: bool) -> Callable[[Any], None]:
    @wraps(method)
    def call(self: InferenceModel) -> None:
        method(self)
        self.is_loaded = value

    return call
