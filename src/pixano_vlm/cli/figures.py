"""Figures as the tables of `score` show them: shares in percent, what is not known as a hyphen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixano_vlm.scoring.intervals import Estimate

__all__ = ["decimal", "interval", "percent", "with_interval"]


def with_interval(one: Estimate) -> str:
    """A share with its interval behind it."""
    return f"{percent(one.value)} ({interval(one)})"


def interval(one: Estimate) -> str:
    """The interval of a share."""
    return "-" if math.isnan(one.low) else f"{one.low:.1%} to {one.high:.1%}"


def percent(value: float) -> str:
    """A share."""
    return "-" if math.isnan(value) else f"{value:.1%}"


def decimal(value: float) -> str:
    """A number between 0 and 1."""
    return "-" if math.isnan(value) else f"{value:.3f}"
