"""The outcome of a request."""

from __future__ import annotations

from dataclasses import dataclass

from pixano_vlm.errors import VLMError
from pixano_vlm.models.vlm import VLMOutput
from pixano_vlm.records.request import Request

__all__ = ["Result"]


@dataclass(slots=True)  # not frozen, as Request
class Result:
    """A request and its outcome: an output, or the error instead of one. It is never changed."""

    request: Request
    output: VLMOutput | None = None
    error: VLMError | None = None
    flags: tuple[str, ...] = ()
    """Quality flags of the answer; see `runs.flags`."""
    image_flags: tuple[str, ...] = ()
    """What is out of the ordinary about its images; see `runs.image_flags`. Asking again does not help."""
    pages_not_read: int = 0
    """Pages of its image files that nobody asked for."""
    raw_confidence: float | None = None
    """The confidence before the run's calibration; None where there is none."""
    attempts: int = 1
    """How often it was asked."""

    @property
    def ok(self) -> bool:
        """Whether the model answered."""
        return self.output is not None

    @property
    def id(self) -> str:
        """The record's id."""
        return self.request.id

    @property
    def text(self) -> str | None:
        """The answer; None where the record failed."""
        return None if self.output is None else self.output.generated_text
