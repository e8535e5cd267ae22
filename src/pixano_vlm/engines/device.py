"""How many tokens fit on a device beside the weights. Knows nothing of loading them."""

from __future__ import annotations

import os

import torch

MOST_TOKENS = 262_144
"""Most tokens held at a time where memory would have room for more."""

GPU_SHARE = 0.7
"""Part of a GPU's memory left by the weights that keys and values may take; the rest is for activations."""

CPU_SHARE = 0.25
"""Part of the machine's free memory that they may take; the rest is for images, other programs, and the system."""


def tokens_that_fit(device: torch.device, token_bytes: int, beside: int = 0) -> int:
    """How many tokens' keys and values there is room for now, beside the loaded weights.

    Args:
        device: Where the model is.
        token_bytes: Bytes that one token takes in all layers; 0 when that is not known.
        beside: Bytes that something else of the records in flight will take.
    """
    if token_bytes <= 0:
        return MOST_TOKENS
    return max(1, min(MOST_TOKENS, (int(_free_bytes(device)) - beside) // token_bytes))


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return GPU_SHARE * free
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return CPU_SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2.0**31
