"""Batch vision-language generation. The public names; importing them imports no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from pixano_vlm.media.images import load_image
    from pixano_vlm.records.result import Result
    from pixano_vlm.runs.events import RunEvents
    from pixano_vlm.runs.generate import generate, load_model
    from pixano_vlm.runs.run import Run
    from pixano_vlm.runs.summary import Summary

__version__ = "0.1.0"

__all__ = [
    "GenerationSettings",
    "InferenceModel",
    "Limits",
    "ModelDeploymentConfig",
    "PixanoVLMError",
    "Result",
    "Run",
    "RunEvents",
    "Summary",
    "UsageInfo",
    "VLMError",
    "VLMInput",
    "VLMModel",
    "VLMOutput",
    "__version__",
    "generate",
    "load_image",
    "load_model",
    "register_model",
]

_LAZY = {
    "Result": "pixano_vlm.records.result",
    "Run": "pixano_vlm.runs.run",
    "RunEvents": "pixano_vlm.runs.events",
    "Summary": "pixano_vlm.runs.summary",
    "generate": "pixano_vlm.runs.generate",
    "load_image": "pixano_vlm.media.images",
    "load_model": "pixano_vlm.runs.generate",
}
"""Public names whose modules import more than a model's contract needs, Pillow for instance."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
