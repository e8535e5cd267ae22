"""How many tokens fit on a device beside the weights. Knows nothing of loading them."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

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
    return CPU_SHARE * min(_available(), _left_in_group())


def _available() -> float:
    """Bytes that programs may still take on this machine, file caches counted in."""
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    if "SC_PHYS_PAGES" in os.sysconf_names:  # not Linux: half of what the machine has
        return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2.0**33


def _left_in_group(group: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes left to this process's control group, a container's for one; infinite where it has no limit."""
    with suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        used = int((group / "memory.current").read_text(encoding="ascii"))
        return float(limit - used + int(stat.get("inactive_file", 0)))
    return math.inf
