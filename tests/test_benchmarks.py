"""The programs whose figures the documents give still run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.soak import Sample, growth

ROOT = Path(__file__).parents[1]


def last_line(*command: str, timeout: float = 300) -> dict[str, object]:
    """The JSON line that a benchmark ends with."""
    ran = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
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


def test_a_soak_edits_kills_resumes_and_compares_and_says_whether_something_grew() -> None:
    figures = last_line("-m", "benchmarks.soak", "--minutes", "0.01", "--records", "10", "--instant-only")
    assert figures["rounds"] == 3
    assert figures["grew"] == []


@pytest.mark.parametrize(
    ("leak", "grew"),
    [
        ({}, []),
        ({"resident_mib": 5.0}, ["resident_mib"]),
        ({"files": 1}, ["files"]),
        ({"threads": 1}, ["threads"]),
    ],
)
def test_a_soak_notices_what_grows(leak: dict[str, Any], grew: list[str]) -> None:
    holds = {"resident_mib": 400.0, "files": 8, "threads": 1}
    samples = [
        Sample(60.0 * n, n, **{name: value + n * leak.get(name, 0) for name, value in holds.items()})
        for n in range(12)
    ]
    samples[4] = Sample(240.0, 4, 900.0, 80, 9)  # a moment at which much is open is not growth
    assert [line.split()[0] for line in growth(samples)] == grew
