"""Boxes against the truth: precision, recall and IoU at 0.5, and mean average precision.

The first three are counted here: in each image, each box in the order of its confidence takes the true box of its
label that it overlaps most, where the two have an IoU of at least 0.5 and no other box has taken it. Average
precision is COCO's, by pycocotools. Only images that were asked about and are in the truth count; a record that
failed found nothing.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixano_vlm.errors import UsageError
from pixano_vlm.extras import import_extra
from pixano_vlm.models.region import UNNAMED, ImageSize
from pixano_vlm.records.output_line import OutputLine
from pixano_vlm.scoring.intervals import Estimate, ratio
from pixano_vlm.scoring.judge import read_lines
from pixano_vlm.scoring.region_truth import Box, RegionTruth, TrueBox

__all__ = ["FoundBox", "RegionScore", "iou", "matched", "score_regions"]

AT = 0.5
"""From which IoU on a box counts as found."""


@dataclass(frozen=True, slots=True)
class FoundBox:
    """A box that a model gave, in pixels."""

    label: str
    box: Box
    confidence: float


@dataclass(slots=True)
class LabelScore:
    """The boxes of one label."""

    precision: Estimate
    recall: Estimate
    average_precision: float
    """From an IoU of 0.5 to 0.95; NaN where the truth has none of the label."""


@dataclass(slots=True)
class RegionScore:
    """One output's boxes against the truth."""

    path: Path
    truth: str
    model: str | None
    images: int
    true_boxes: int
    found_boxes: int
    precision: Estimate
    recall: Estimate
    mean_iou: float
    """Of the boxes that count as found; NaN where there are none."""
    average_precision: float
    average_precision_50: float
    average_precision_75: float
    labels: dict[str, LabelScore]
    failed: int
    """Records that failed: they found nothing."""
    not_in_truth: int
    """Images that were asked about and that the truth does not have: left out."""
    not_asked: int
    """Images of the truth that were not asked about: left out."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON; what is not known is null."""
        return {
            "output": str(self.path), "truth": self.truth, "model": self.model, "images": self.images,
            "true_boxes": self.true_boxes, "found_boxes": self.found_boxes, "iou_from": AT,
            "precision": self.precision.to_dict(), "recall": self.recall.to_dict(),
            "mean_iou": _number(self.mean_iou),
            "mean_average_precision": _number(self.average_precision),
            "average_precision_50": _number(self.average_precision_50),
            "average_precision_75": _number(self.average_precision_75),
            "labels": {
                name: {
                    "precision": one.precision.to_dict(), "recall": one.recall.to_dict(),
                    "average_precision": _number(one.average_precision),
                }
                for name, one in self.labels.items()
            },
            "failed": self.failed, "not_in_truth": self.not_in_truth, "not_asked": self.not_asked,
        }  # fmt: skip


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(slots=True)
class _Image:
    true: list[TrueBox]
    found: list[FoundBox] = field(default_factory=list)

    def boxes(self) -> Iterator[TrueBox | FoundBox]:
        yield from self.true
        yield from self.found


def score_regions(output: Path, truth: RegionTruth) -> RegionScore:
    """Scores the boxes of an output.

    Args:
        output: What `generate --regions` wrote.
        truth: The true boxes.

    Raises:
        UsageError: When the output has no regions, or no image of it is in the truth.
        MissingPackageError: When the packages of the extra `score` are not installed.
    """
    for module in ("numpy", "scipy.stats", "pycocotools.cocoeval"):
        import_extra(module, extra="score", purpose="`pixano-vlm score` of regions")
    images: dict[str, _Image] = {}
    models: dict[str, None] = {}
    failed, unknown, has_regions = 0, set(), False
    for line in read_lines(output):
        if line.model is not None:
            models[line.model] = None
        failed += line.status != "ok"
        has_regions |= line.regions is not None
        for number in range(len(line.images)):
            name = truth.name_of(line, number)
            if name is None:
                unknown.add(line.images[number])
                continue
            size = _size(line, number)
            if name not in images:
                images[name] = _Image([_in_pixels(box, size) for box in truth.images[name]])
            images[name].found += _found(line, number)
    if not has_regions:
        raise UsageError(f"{output} has no regions.", hint="generate --regions reads them from the answers.")
    if not images:
        raise UsageError(
            f"no image of {output} is in {truth.name}.",
            hint=f"The first there is {next(iter(truth.images), '')!r}, and {next(iter(unknown), '')!r} here.",
        )
    return _scored(output, truth, images, models, (failed, len(unknown)))


def _size(line: OutputLine, image: int) -> ImageSize | None:
    sizes = line.image_sizes or []
    return sizes[image] if image < len(sizes) else None


def _in_pixels(box: TrueBox, size: ImageSize | None) -> TrueBox:
    """A true box in pixels; in shares of an image whose record failed, of which nobody knows the size."""
    label = _label(box.label)
    if not box.is_share or size is None:
        return TrueBox(label, box.box, box.is_share, box.is_crowd)
    return TrueBox(label, box.pixels(size), is_crowd=box.is_crowd)


def _label(label: str | None) -> str:
    """A label as it is compared: letter case and white space aside."""
    return " ".join((label or UNNAMED).split()).casefold()


def _found(line: OutputLine, image: int) -> Iterable[FoundBox]:
    for region in line.regions or ():
        box = region.bounds
        if region.image == image and box is not None:
            given = region.confidence if region.confidence is not None else line.confidence
            yield FoundBox(_label(region.label), box, 1.0 if given is None else given)


def iou(one: Box, other: Box) -> float:
    """The area that two boxes share over the area that they cover together."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)


def matched(true: Sequence[TrueBox], found: Sequence[FoundBox]) -> list[tuple[int, int, float]]:
    """Which box found which true one, in one image.

    Returns:
        Places in `found` and `true`, and the IoU of the two.
    """
    pairs: list[tuple[int, int, float]] = []
    free = set(range(len(true)))
    for place in sorted(range(len(found)), key=lambda place: -found[place].confidence):
        own = found[place]
        best = max(
            ((iou(own.box, true[at].box), -at) for at in free if true[at].label == own.label),
            default=(0.0, 0),
        )
        if best[0] >= AT:
            pairs.append((place, -best[1], best[0]))
            free.discard(-best[1])
    return pairs


def _scored(
    output: Path,
    truth: RegionTruth,
    images: Mapping[str, _Image],
    models: Iterable[str],
    left_out: tuple[int, int],
) -> RegionScore:
    import numpy

    labels = sorted({box.label for image in images.values() for box in image.boxes()})
    counts: dict[str | None, list[tuple[int, int, int]]] = defaultdict(list)
    """By label, and under None of all: for each image how many boxes were right, found and true."""
    overlaps: list[float] = []
    for image in images.values():
        true = [box for box in image.true if not box.is_crowd]
        pairs = matched(true, image.found)
        overlaps += [overlap for _, _, overlap in pairs]
        counts[None].append((len(pairs), len(image.found), len(true)))
        for label in labels:
            right = sum(image.found[place].label == label for place, _, _ in pairs)
            own = sum(box.label == label for box in image.found)
            counts[label].append((right, own, sum(box.label == label for box in true)))
    estimates = {name: _estimates(numpy.array(rows)) for name, rows in counts.items()}
    (whole, at_50, at_75), by_label = _average_precision(images, labels)
    precision, recall = estimates[None]
    return RegionScore(
        path=output,
        truth=truth.name,
        model=", ".join(models) or None,
        images=len(images),
        true_boxes=sum(row[2] for row in counts[None]),
        found_boxes=sum(row[1] for row in counts[None]),
        precision=precision,
        recall=recall,
        mean_iou=sum(overlaps) / len(overlaps) if overlaps else math.nan,
        average_precision=whole,
        average_precision_50=at_50,
        average_precision_75=at_75,
        labels={label: LabelScore(*estimates[label], by_label[label]) for label in labels},
        failed=left_out[0],
        not_in_truth=left_out[1],
        not_asked=len(truth.images) - len(images),
    )


def _estimates(counts: Any) -> tuple[Estimate, Estimate]:
    """Precision and recall."""
    return ratio(counts[:, 0], counts[:, 1]), ratio(counts[:, 0], counts[:, 2])


def _average_precision(
    images: Mapping[str, _Image], labels: Sequence[str]
) -> tuple[tuple[float, float, float], dict[str, float]]:
    """COCO's mean average precision: from 0.5 to 0.95, at 0.5 and at 0.75; and the first by label."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = {label: number for number, label in enumerate(labels, 1)}
    true, found = COCO(), COCO()
    listed = [{"id": number} for number in range(1, len(images) + 1)]
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    annotations: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for number, image in enumerate(images.values(), 1):
        for box in image.boxes():
            x0, y0, x1, y1 = box.box
            is_true = isinstance(box, TrueBox)
            own = annotations[is_true]
            own.append({
                "id": len(own) + 1, "image_id": number, "category_id": numbers[box.label],
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0),
                "iscrowd": int(isinstance(box, TrueBox) and box.is_crowd),
                **({} if isinstance(box, TrueBox) else {"score": box.confidence}),
            })  # fmt: skip
    with contextlib.redirect_stdout(
        io.StringIO()
    ):  # it reports on standard output, which is for figures here
        for data, is_true in ((true, True), (found, False)):
            data.dataset = {"images": listed, "categories": categories, "annotations": annotations[is_true]}
            data.createIndex()
        evaluation = COCOeval(true, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # Precision by IoU, recall, label, area and most boxes of an image: of all areas, and at most 100 boxes.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    thresholds = [round(float(value), 2) for value in evaluation.params.iouThrs]

    def mean(values: Any) -> float:
        known = values[values > -1]
        return float(known.mean()) if known.size else math.nan

    at = {threshold: mean(precision[place]) for place, threshold in enumerate(thresholds)}
    by_label = {label: mean(precision[:, :, place]) for place, label in enumerate(labels)}
    return (mean(precision), at[0.5], at[0.75]), by_label
