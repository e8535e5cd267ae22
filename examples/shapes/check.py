"""Compares a run's answers with the right ones, which the manifest carries in `metadata.answer`.

    python examples/shapes/check.py OUTPUT.jsonl

Prints the share of exact answers, overall and by kind of question, and fails below 95 %.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

WANTED = 0.95
MANIFEST = Path(__file__).parent / "manifest.jsonl"


def read(path: Path) -> list[dict[str, object]]:
    """The JSON objects of a file, one a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check(output: Path) -> int:
    """Prints the shares, and returns the exit code."""
    asked, answered = read(MANIFEST), read(output)
    print(f"{len(answered)} answers to {len(asked)} records, {sum(a['status'] == 'ok' for a in answered)} ok")
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for record in answered:
        metadata = record["metadata"]
        assert isinstance(metadata, dict)
        total[metadata["kind"]] += 1
        right[metadata["kind"]] += record["generated_text"] == metadata["answer"]
    for kind in sorted(total):
        print(f"  {kind:<12} {right[kind]:>3} of {total[kind]:>3} exact")
    share = right.total() / max(total.total(), 1)
    print(
        f"  {'all':<12} {right.total():>3} of {total.total():>3} exact: {share:.1%}, and {WANTED:.0%} wanted"
    )
    complete = [record["id"] for record in answered] == [record["id"] for record in asked]
    return 0 if complete and share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(check(Path(sys.argv[1])))
