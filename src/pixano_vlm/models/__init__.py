"""The contract: what a vision-language model is, takes and gives. Importing it imports no torch."""

from pixano_vlm.models.base import InferenceModel
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.generation import GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.registry import register_model
from pixano_vlm.models.vlm import UsageInfo, VLMInput, VLMModel, VLMOutput

__all__ = [
    "GenerationSettings",
    "InferenceModel",
    "Limits",
    "ModelDeploymentConfig",
    "UsageInfo",
    "VLMInput",
    "VLMModel",
    "VLMOutput",
    "register_model",
]
