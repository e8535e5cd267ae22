"""`python -m tests.simulate --seeds 50000`: plays histories, and prints the seeds of those that go wrong.

`--seed N` plays one, and prints what happens in it.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from tests.simulate.history import play
from tests.simulate.world import Violation

BLOCK = 250


def block(first: int, count: int) -> tuple[int, list[str]]:
    """Plays some; how many runs they had, and what went wrong."""
    runs, wrong = 0, []
    for seed in range(first, first + count):
        try:
            runs += play(seed)
        except Violation as violation:
            wrong.append(str(violation))
    return runs, wrong


def main() -> int:
    """Plays what is asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="How many.")
    parser.add_argument("--first", type=int, default=0, help="From which on.")
    parser.add_argument("--seed", type=int, help="Only this one, with its history.")
    parser.add_argument("--jobs", type=int, default=1, help="Processes.")
    options = parser.parse_args()
    if options.seed is not None:
        try:
            play(options.seed, log=print)
        except Violation:
            traceback.print_exc()
            return 1
        return 0
    started, played, runs, wrong = time.monotonic(), 0, 0, 0
    starts = range(options.first, options.first + options.seeds, BLOCK)
    counts = [min(BLOCK, options.first + options.seeds - start) for start in starts]
    with ProcessPoolExecutor(options.jobs) as pool:
        for count, found in (
            map(block, starts, counts) if options.jobs == 1 else pool.map(block, starts, counts)
        ):
            runs += count
            wrong += len(found)
            played += BLOCK
            for text in found:
                print(text, flush=True)
            if played % 5_000 == 0:
                print(f"{played:,} seeds, {wrong} violations, {time.monotonic() - started:.0f} s", flush=True)
    seconds = time.monotonic() - started
    print(
        f"{options.seeds:,} seeds, {runs:,} runs, {wrong} violations in {seconds:.0f} s: "
        f"{60 * options.seeds / seconds:,.0f} seeds per minute"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
