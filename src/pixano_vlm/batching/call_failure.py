"""What is left of a failed call of a model: not its exception, on whose frames tensors hang."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pixano_vlm.errors import RESUME, GenerationError, RunError, VLMError, is_out_of_memory

__all__ = ["CallFailure"]

DEVICE_ERRORS = tuple(filter(None, [getattr(torch, "AcceleratorError", None)]))
"""What torch raises, since 2.8, when a kernel has failed."""


@dataclass(frozen=True, slots=True)
class CallFailure:
    """What went wrong in a call of the model, without the frames and the tensors that hang on its exception."""

    is_out_of_memory: bool
    answer: VLMError
    """What a record is answered with, when it fails alone."""

    @classmethod
    def of(cls, error: Exception) -> CallFailure:
        """Of what a call raised.

        Raises:
            RunError: When the device can do nothing more in this process.
        """
        if is_out_of_memory(error):
            answer = GenerationError(
                "memory ran out on this record alone.",
                hint="Use smaller images, fewer new tokens, or a smaller dtype.",
            )
            return cls(True, answer)
        if isinstance(error, DEVICE_ERRORS) or "CUDA error" in str(error):
            raise RunError(
                f"the device failed: {' '.join(str(error).split())[:300]}",
                hint=f"Nothing more can be computed in this process. {RESUME}",
            )
        if isinstance(error, VLMError):
            return cls(False, error)
        return cls(
            False, GenerationError(f"the model failed on this record: {type(error).__name__}: {error}")
        )
