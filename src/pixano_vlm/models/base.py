"""What every inference model is, whatever its capability: configured, loaded once, run, unloaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pixano_vlm.models.deployment import ModelDeploymentConfig


class InferenceModel(ABC):
    """Abstract base of every model.

    Args:
        config: Name, class and parameters; kept as `self.config`.
    """

    capability_name: ClassVar[str] = ""

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
