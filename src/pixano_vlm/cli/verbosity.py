"""How much of what the libraries underneath say reaches the screen.

They log, warn and draw bars on standard error by their own lights. Here they are quiet unless `-v` asks for
them; the bars of a download stay where there is a terminal to draw them on and something to download.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings

from pixano_vlm.catalog import weights_on_disk
from pixano_vlm.models.deployment import ModelDeploymentConfig

__all__ = ["hide_bars", "set_verbosity"]


def set_verbosity(*, verbose: bool, quiet: bool = False) -> None:
    """Sets it for this process. Call it before transformers is imported: it reads its level only then."""
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "info" if verbose else "error")
    if quiet or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Not basicConfig: transformers and the hub's client have handlers of their own, and would speak twice.
    logging.getLogger().setLevel(logging.INFO if verbose else logging.ERROR)
    logging.captureWarnings(True)
    # Captured warnings are logged at WARNING, which the level above hides unless -v was given.
    warnings.simplefilter("default" if verbose else "ignore")


def hide_bars(model: ModelDeploymentConfig) -> None:
    """Leaves the libraries' progress bars to downloads: hides them where the model's weights are here.

    Call it before transformers is imported.
    """
    if weights_on_disk(model) is not False:
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
