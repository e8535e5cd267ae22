"""What a run reports while it works: the seam between a run and whoever shows it."""

from __future__ import annotations

from pixano_vlm.models.vlm import VLMModel

__all__ = ["RunEvents"]


class RunEvents:
    """What a run reports while it works. Every method does nothing here; override what is of interest."""

    def opened(self, count: int | None, notice: str | None) -> None:
        """The output is open: how many records are to be done (None: unknown), and what holds no longer."""

    def passed_over(self, line: str) -> None:
        """Files of the folder are not read: how many of each kind, in one line."""

    def loading(self, model: str) -> None:
        """The model is about to be loaded."""

    def loaded(self, model: VLMModel) -> None:
        """The model is loaded and answers from now on."""
