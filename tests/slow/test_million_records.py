"""A manifest of a million records in 200 shards, killed at 50 random moments, ends as one that ran undisturbed."""

from __future__ import annotations

import pytest
from tests.test_benchmarks import last_line


@pytest.mark.parametrize(
    ("records", "shards", "kills"),
    [
        pytest.param(20_000, 20, 8, marks=pytest.mark.slow),
        pytest.param(1_000_000, 200, 50, marks=pytest.mark.shards),
    ],
)
def test_killed_runs_over_many_shards_lose_and_repeat_nothing(records: int, shards: int, kills: int) -> None:
    arguments = f"--records {records} --shards {shards} --kills {kills}".split()
    found = last_line("-m", "benchmarks.shards", *arguments, timeout=3600)
    assert found["kills"] == kills
    assert found["lost_answers"] == 0
    assert found["all_answered"] is True
    assert found["equal"] is True
    peaks = [found[name] for name in ("peak_mib", "peak_mib_of_a_hundredth")]
    assert isinstance(peaks[0], float)
    assert isinstance(peaks[1], float)
    assert peaks[0] < peaks[1] + 64, "memory does not grow with the manifest"
