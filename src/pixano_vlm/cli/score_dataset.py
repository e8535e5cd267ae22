"""`score` against a dataset: what reviewers made of answers, and boxes against true boxes, as tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixano_vlm.cli.figures import decimal, interval, percent, with_interval
from pixano_vlm.cli.tables import print_facts, print_table
from pixano_vlm.errors import RecordError, UsageError

if TYPE_CHECKING:
    from pixano_vlm.scoring.corrections import Corrections, Reviewed
    from pixano_vlm.scoring.regions import RegionScore

__all__ = ["is_dataset", "score_dataset"]

MOST_ROWS = 30


def is_dataset(truth: str) -> bool:
    """Whether a truth is COCO detection data or the folder of a Pixano dataset."""
    from pixano_vlm.pixano_jsonl.dataset_folder import is_dataset_folder
    from pixano_vlm.scoring.region_truth import is_coco

    return is_dataset_folder(Path(truth)) or is_coco(Path(truth))


def score_dataset(outputs: list[Path], truth: Path, flags: Mapping[str, Any], *, as_json: bool) -> None:
    """Scores outputs against a dataset, and prints what was found.

    Args:
        outputs: What `generate` wrote.
        truth: COCO detection data, or the folder of an exported Pixano dataset.
        flags: The flags of `score` that do not go with it, each with its value; None: not given.
        as_json: Print JSON instead of tables.

    Raises:
        UsageError: When such a flag was given, or nothing of the outputs is in the truth.
    """
    for flag, value in flags.items():
        if value is not None:
            raise UsageError(f"{flag} does not go with a dataset as the truth.", hint="Leave it out.")
    corrections, regions = _scored(outputs, truth)
    if as_json:
        found: dict[str, Any] = {} if corrections is None else {"corrections": corrections.to_dict()}
        if regions:
            found["regions"] = [one.to_dict() for one in regions]
        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
        return
    if corrections is not None:
        _print_corrections(corrections)
    for place, one in enumerate(regions):
        if place or corrections is not None:
            sys.stdout.write("\n")
        _print_regions(one)


def _scored(outputs: list[Path], truth: Path) -> tuple[Corrections | None, list[RegionScore]]:
    from pixano_vlm.scoring.corrections import review
    from pixano_vlm.scoring.judge import read_lines
    from pixano_vlm.scoring.region_truth import read_coco, read_dataset
    from pixano_vlm.scoring.regions import score_regions

    if truth.is_file():
        boxes = read_coco(truth)
        return None, [score_regions(output, boxes) for output in outputs]
    corrections = review(tuple(outputs), truth)
    with_regions = [
        output for output in outputs if any(line.regions is not None for line in read_lines(output))
    ]
    if not with_regions:
        return corrections, []
    try:
        boxes = read_dataset(truth)
    except RecordError as error:
        raise UsageError(error.message, hint=error.hint) from None
    return corrections, [score_regions(output, boxes) for output in with_regions]


def _print_corrections(found: Corrections) -> None:
    facts: dict[str, object] = {"reviewed in": found.truth}
    if found.not_there:
        facts["not in the export (left out)"] = found.not_there
    if found.failed:
        facts["failed (left out)"] = found.failed
    print_facts(facts)
    sys.stdout.write("\n")
    columns = ("accepted", "95 % interval", "corrected", "rejected", "pending", "answers")
    print_table(("model", *columns), [(model, *_review(one)) for model, one in found.by_model.items()])
    rows = sorted(found.by_question.items(), key=lambda item: -sum(item[1].counts.values()))
    sys.stdout.write("\n")
    shown = [(_short(question), model, *_review(one)) for (question, model), one in rows[:MOST_ROWS]]
    print_table(("question", "model", *columns), shown)
    if len(rows) > MOST_ROWS:
        sys.stdout.write(f"and {len(rows) - MOST_ROWS:,} more; --json has them all\n")


def _review(one: Reviewed) -> Iterator[str]:
    yield percent(one.accepted.value)
    yield interval(one.accepted)
    yield from (f"{one.counts[status]:,}" for status in ("corrected", "rejected", "pending"))
    yield f"{sum(one.counts.values()):,}"


def _print_regions(one: RegionScore) -> None:
    facts: dict[str, object] = {
        "output": str(one.path), "model": one.model, "truth": one.truth, "images": one.images,
        "true boxes": one.true_boxes, "boxes found": one.found_boxes,
        "precision at IoU 0.5": with_interval(one.precision), "recall at IoU 0.5": with_interval(one.recall),
        "mean IoU of those": decimal(one.mean_iou), "mean average precision": decimal(one.average_precision),
        "at IoU 0.5": decimal(one.average_precision_50), "at IoU 0.75": decimal(one.average_precision_75),
    }  # fmt: skip
    others = {
        "records that failed (found nothing)": one.failed,
        "images without a truth (left out)": one.not_in_truth,
        "images not asked about (left out)": one.not_asked,
    }
    facts |= {name: count for name, count in others.items() if count}
    print_facts(facts)
    sys.stdout.write("\n")
    labels = sorted(one.labels.items(), key=lambda item: -item[1].recall.n)
    print_table(
        ("label", "precision", "recall", "average precision", "true boxes"),
        [
            (
                _short(label), percent(own.precision.value), percent(own.recall.value),
                decimal(own.average_precision), f"{own.recall.n:,}",
            )
            for label, own in labels[:MOST_ROWS]
        ],
    )  # fmt: skip
    if len(labels) > MOST_ROWS:
        sys.stdout.write(f"and {len(labels) - MOST_ROWS:,} more labels; --json has them all\n")


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 60 else plain[:57] + "..."
