"""The programs whose figures the documents give still run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def last_line(*command: str) -> dict[str, object]:
    """The JSON line that a benchmark ends with."""
    ran = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    figures: dict[str, object] = json.loads(ran.stdout.splitlines()[-1])
    return figures


def test_resident_memory_over_images_that_all_differ() -> None:
    figures = last_line("benchmarks/memory.py", "--records", "60", "--every", "30")
    assert figures["records"] == 60
    resident = figures["resident_mib"]
    assert isinstance(resident, dict)
    assert list(resident) == ["30", "60"]
