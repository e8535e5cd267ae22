"""A finished output's boxes in the form of COCO's detection data: `{"images", "categories", "annotations"}`.

The form is that of cocodataset.org: `bbox` is `[x, y, width, height]` in pixels, ids are whole numbers from 1, and a
polygon is `segmentation`, a list with its corners one after another. A box with a confidence has it as `score`. Each
image of an answered record with regions is an entry of `images`, even where nothing was found on it; one that several
records ask about is one. Points have no place in that form, and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pixano_vlm.models.region import UNNAMED, Region
from pixano_vlm.outputs.forms import Answers
from pixano_vlm.records.output_line import OutputLine

__all__ = ["coco_of", "coco_rows", "labels_of"]


def coco_of(answers: Answers, path: Path) -> None:
    """A finished output as COCO detection JSON."""
    labels = labels_of(line for line, _ in answers.rows())
    numbers = {label: number for number, label in enumerate(labels, 1)}
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for line, _ in answers.rows():
        for index, size in enumerate(line.image_sizes or () if line.regions is not None else ()):
            name = line.images[index] if index < len(line.images) else f"{line.id}#{index}"
            image = images.setdefault(
                name, {"id": len(images) + 1, "file_name": name, "width": size.width, "height": size.height}
            )
            for region in line.regions or ():
                if region.image == index and (annotation := _annotation(region)) is not None:
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": image["id"],
                            "category_id": numbers[region.label or UNNAMED],
                            **annotation,
                        }
                    )
    data = {
        "images": list(images.values()),
        "categories": [{"id": number, "name": label} for label, number in numbers.items()],
        "annotations": annotations,
    }
    path.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace")


def coco_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Each image's file name, and its size and annotations as JSON, with categories by name and without ids.

    Raises:
        ValueError: When it is not detection data in COCO's form.
    """
    data = json.loads(path.read_bytes())
    try:
        names = {category["id"]: category["name"] for category in data["categories"]}
        found: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
        for entry in data["annotations"]:
            own = {key: value for key, value in entry.items() if key not in ("id", "image_id", "category_id")}
            found[entry["image_id"]].append({**own, "category": names[entry["category_id"]]})
        rows = [
            (str(image["file_name"]), [image["width"], image["height"], found[image["id"]]])
            for image in data["images"]
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"it is not COCO detection data: {error}") from error
    return ((name, json.dumps(row, sort_keys=True)) for name, row in rows)


def labels_of(lines: Iterable[OutputLine]) -> list[str]:
    """The labels of all boxes and polygons, sorted: their places are what classes are numbered by."""
    return sorted(
        {
            region.label or UNNAMED
            for line in lines
            for region in line.regions or ()
            if region.bounds is not None
        }
    )


def _annotation(region: Region) -> dict[str, Any] | None:
    box = region.bounds
    if box is None:
        return None
    x0, y0, x1, y1 = box
    width, height = round(x1 - x0, 2), round(y1 - y0, 2)
    corners = region.polygon
    return {
        "bbox": [x0, y0, width, height],
        "area": round(width * height if corners is None else _area(corners), 2),
        "segmentation": [] if corners is None else [[number for corner in corners for number in corner]],
        "iscrowd": 0,
        **({} if region.confidence is None else {"score": region.confidence}),
    }


def _area(corners: list[tuple[float, float]]) -> float:
    following = [*corners[1:], corners[0]]
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, following, strict=True))) / 2
