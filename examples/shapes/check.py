"""Compares a run's answers with the right ones, which the manifests carry in `metadata.answer`.

    python examples/shapes/check.py OUTPUT.jsonl

Prints the share of right answers, overall and by kind of question, and fails below 95 %. An answer is right if it is
the same text, or its regions have the same labels, boxes that overlap the right ones by half, and points near them.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

WANTED = 0.95
MIN_IOU = 0.5
MAX_DISTANCE = 50
"""Of a point from the centre of its shape, in thousandths of the image: the smallest shape reaches further."""
MANIFEST = Path(__file__).parent / "manifest.jsonl"
REGIONS = Path(__file__).parent / "regions.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def is_right(record: dict[str, Any]) -> bool:
    """Whether an output line has the answer that its manifest's line names."""
    text, answer = record["generated_text"], record["metadata"]["answer"]
    if text == answer or "regions" not in record:
        return bool(text == answer)
    try:
        found, wanted = json.loads(text), json.loads(answer)
        return len(found) == len(wanted) and all(map(is_same_region, found, wanted))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False


def is_same_region(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether two items of answers name the same thing and mean nearly the same place."""
    if found["label"] != wanted["label"]:
        return False
    if "point_2d" in wanted:
        return math.dist(found["point_2d"], wanted["point_2d"]) <= MAX_DISTANCE
    return iou(found["bbox_2d"], wanted["bbox_2d"]) >= MIN_IOU


def iou(a: list[float], b: list[float]) -> float:
    """Intersection over union of two boxes, `[x0, y0, x1, y1]`."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(across, 0) * max(down, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def check(output: Path) -> int:
    """Prints the shares, and returns the exit code."""
    answered = read(output)
    ids = [record["id"] for record in answered]
    regions = read(REGIONS)
    # Only models whose convention is known can be asked for regions, so their manifest may have been left out.
    asked = read(MANIFEST) + (regions if any(record["id"] in ids for record in regions) else [])
    print(f"{len(answered)} answers to {len(asked)} records, {sum(a['status'] == 'ok' for a in answered)} ok")
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for record in answered:
        kind = record["metadata"]["kind"]
        total[kind] += 1
        right[kind] += is_right(record)
    for kind in sorted(total):
        print(f"  {kind:<12} {right[kind]:>3} of {total[kind]:>3} right")
    share = right.total() / max(total.total(), 1)
    print(
        f"  {'all':<12} {right.total():>3} of {total.total():>3} right: {share:.1%}, and {WANTED:.0%} wanted"
    )
    complete = ids == [record["id"] for record in asked]
    return 0 if complete and share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(check(Path(sys.argv[1])))
