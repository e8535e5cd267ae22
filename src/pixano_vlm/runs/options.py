"""What a run is asked to do, as one plain record. Knows no flag and does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pixano_vlm.inputs.open import Source
from pixano_vlm.inputs.pages import Pages
from pixano_vlm.models.generation import GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMModel
from pixano_vlm.records.calibration import Calibration
from pixano_vlm.runs.open import OpenOptions, Sidecars

__all__ = ["RunOptions"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """A run: what goes in, through which model, and where it goes."""

    source: Source
    model: VLMModel
    output: Path | TextIO | None = None
    """A file, which can be resumed; a text stream; None: results are only handed out."""
    opening: OpenOptions = field(default_factory=OpenOptions)
    """What may be done with an output that exists."""
    exports: tuple[Path, ...] = ()
    """Other forms to write the output in when the run is complete."""
    shard_size: int | None = None
    """How many records each file has of a form that is in several; None: 100,000."""
    sidecars: Sidecars | None = None
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    """Settings of the run over the model's own; a record's own values win."""
    system: str | None = None
    """A system turn for every record that has none of its own."""
    with_prompt: bool = False
    """Whether the output's lines also say what was asked."""
    least_confidence: float | None = None
    """Answers of less confidence are flagged; None: none are for that."""
    run_seed: int | None = None
    """Seeds of sampled records that give none are derived from it."""
    limits: Limits = field(default_factory=Limits)
    pages: Pages = "first"
    """What is read of an image with several pages that does not name one."""
    calibration: Calibration | None = None
    """What confidences are worth; None: they are written as the engine gives them."""
    command: tuple[str, ...] = ()
    """The command line, for the run file."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What was named as the inputs and how they are read, for the run file and for explaining what changed."""
