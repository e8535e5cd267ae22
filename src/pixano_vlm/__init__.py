"""Batch vision-language generation. The public names; importing them imports no torch."""

from pixano_vlm.errors import PixanoVLMError, VLMError
from pixano_vlm.models import (
    GenerationSettings,
    InferenceModel,
    Limits,
    ModelDeploymentConfig,
    UsageInfo,
    VLMInput,
    VLMModel,
    VLMOutput,
    register_model,
)

__version__ = "0.1.0"

__all__ = [
    "GenerationSettings",
    "InferenceModel",
    "Limits",
    "ModelDeploymentConfig",
    "PixanoVLMError",
    "UsageInfo",
    "VLMError",
    "VLMInput",
    "VLMModel",
    "VLMOutput",
    "__version__",
    "register_model",
]
