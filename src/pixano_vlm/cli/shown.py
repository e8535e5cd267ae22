"""How a run is shown, and the command that resumes it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Shown", "resume_command"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a run is shown, and how."""

    quiet: bool = False
    summary_json: Path | None = None
    """Where the summary's figures go."""
    asked: tuple[str, ...] = ()
    """Settings and parameters that were given as flags: one that the model ignores is told."""


def resume_command(args: Sequence[str]) -> str:
    """The command that resumes where this one stopped."""
    # Not --retry-failed either: what this run has retried would be tried once more.
    dropped = {"--overwrite", "--resume", "--retry-failed"}
    if any(arg.startswith("--sidecar") for arg in args):
        # With --resume, it is about the files beside the images still to be done.
        dropped.discard("--overwrite")
    kept = [arg for arg in args if arg not in dropped]
    return shlex.join(["pixano-vlm", *kept, "--resume"])
