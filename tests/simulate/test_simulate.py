"""Whole histories in a simulated world: whatever goes wrong, nothing is lost, nothing is done twice.

`make simulate SEEDS=50000` plays more of them, and `python -m tests.simulate --seed N` shows one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.simulate.bugs import BUGS
from tests.simulate.history import play
from tests.simulate.world import Violation

SEEDS = 300
MOST = 2_000
"""By so many seeds each planted bug is found."""


def test_histories_in_trouble_end_as_undisturbed_ones() -> None:
    assert sum(play(seed) for seed in range(SEEDS)) > 2 * SEEDS


def test_a_seed_replays_exactly() -> None:
    for seed in range(12):
        first, second = list[str](), list[str]()
        play(seed, first.append)
        play(seed, second.append)
        assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(Violation):
        sum(play(seed) for seed in range(MOST))
