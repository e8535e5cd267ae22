"""A calibration: what a confidence is worth, as measured on answers whose truth was known; and its file.

`pixano-vlm score --calibrate FILE` writes it, `generate --calibration FILE` applies it. Plain JSON, which needs
none of the packages that fitted it.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pixano_vlm.errors import UsageError
from pixano_vlm.validation import first_problem

__all__ = ["Calibration", "log_odds", "read_calibration"]

NEAREST = 1e-9
"""How near to 0 and 1 a confidence counts: its log-odds are finite."""


def log_odds(confidence: float) -> float:
    """The natural logarithm of p / (1 - p), p held within 1e-9 and 1 - 1e-9."""
    p = min(max(confidence, NEAREST), 1 - NEAREST)
    return math.log(p) - math.log1p(-p)


class Calibration(BaseModel):
    """Calibrated confidence = 1 / (1 + exp(-(slope · log-odds + intercept)))."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calibration: Literal[1] = Field(default=1, description="Version of this form.")
    method: Literal["platt"] = Field(default="platt", description="How it was fitted.")
    slope: float = Field(gt=0, allow_inf_nan=False, description="Above 0: the order of confidences stays.")
    intercept: float = Field(allow_inf_nan=False, description="Added to the log-odds times the slope.")
    n: int = Field(ge=1, description="Answers that it was fitted on.")
    right: int = Field(ge=0, description="How many of them were right.")
    model: str | None = Field(default=None, description="Whose answers they were.")
    metric: str | None = Field(default=None, description="By which metric they were right.")

    def apply(self, confidence: float) -> float:
        """The calibrated confidence, between 0 and 1."""
        value = self.slope * log_odds(confidence) + self.intercept
        return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))

    @property
    def digest(self) -> str:
        """The same for calibrations that do the same."""
        asked = repr((self.method, self.slope, self.intercept))
        return blake2b(asked.encode(), digest_size=8).hexdigest()


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file.

    Raises:
        UsageError: When there is none, or it is something else.
    """
    hint = "pixano-vlm score OUTPUT --truth KEY --calibrate FILE writes one."
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"calibration {path} cannot be read: {error.strerror or error}.", hint=hint
        ) from error
    except ValidationError as error:
        raise UsageError(
            f"{path} is not a calibration: {first_problem(error).message()}", hint=hint
        ) from error
