"""Where things really are: the boxes of COCO detection data, or of a Pixano dataset as it was exported.

Boxes are `(x0, y0, x1, y1)` in pixels of the upright image. Those that Pixano keeps as shares of the image become
pixels by the size that the output says the image has.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixano_vlm.errors import UsageError
from pixano_vlm.models.region import ImageSize
from pixano_vlm.pixano_jsonl.dataset_folder import DatasetFolder
from pixano_vlm.pixano_jsonl.line import DatasetEntity, box_shares, label_of
from pixano_vlm.pixano_jsonl.origin import place_of
from pixano_vlm.records.output_line import OutputLine

__all__ = ["Box", "RegionTruth", "TrueBox", "is_coco", "read_coco", "read_dataset"]

Box = tuple[float, float, float, float]
_HEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class TrueBox:
    """One thing in an image."""

    label: str
    box: Box
    """In pixels, or in shares of the image."""
    is_share: bool = False
    is_crowd: bool = False

    def pixels(self, size: ImageSize) -> Box:
        """The box in pixels of an image of a size."""
        if not self.is_share:
            return self.box
        x0, y0, x1, y1 = self.box
        return x0 * size.width, y0 * size.height, x1 * size.width, y1 * size.height


@dataclass(slots=True)
class RegionTruth:
    """The boxes of all images."""

    name: str
    images: dict[str, list[TrueBox]] = field(default_factory=dict)
    """What an image is called -> its boxes; empty where there is nothing in it."""
    by_record: bool = False
    """Whether images are called by their record and view, as in Pixano, instead of by their file."""
    _last: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The last part of a name -> the names."""

    def __post_init__(self) -> None:
        for name in self.images:
            self._last[name.rpartition("/")[2]].append(name)

    def name_of(self, line: OutputLine, image: int) -> str | None:
        """What one of a line's images is called here; None where it is not here."""
        if self.by_record:
            place = place_of(line.metadata)
            views = [] if place is None else list(place.views)
            name = f"{place.record}/{views[image]}" if place is not None and image < len(views) else ""
            return name if name in self.images else None
        name = line.images[image] if image < len(line.images) else ""
        if name in self.images:
            return name
        same = self._last.get(name.rpartition("/")[2], [])
        return same[0] if len(same) == 1 else None


def is_coco(path: Path) -> bool:
    """Whether a file is one object with COCO's keys, by its beginning or as a whole."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        if not file.read(_HEAD).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return False
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and {"images", "annotations", "categories"} <= values.keys()


def read_coco(path: Path) -> RegionTruth:
    """The boxes of COCO detection data.

    Raises:
        UsageError: When the file is not of that form.
    """
    values = json.loads(path.read_bytes())
    try:
        names = {category["id"]: str(category["name"]) for category in values["categories"]}
        files = {image["id"]: str(image["file_name"]) for image in values["images"]}
        images: dict[str, list[TrueBox]] = {name: [] for name in files.values()}
        for entry in values["annotations"]:
            x, y, width, height = map(float, entry["bbox"])
            box = TrueBox(
                names[entry["category_id"]],
                (x, y, x + width, y + height),
                is_crowd=bool(entry.get("iscrowd")),
            )
            images[files[entry["image_id"]]].append(box)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} is not COCO detection data: {type(error).__name__}: {error}.",
            hint="Each annotation has image_id, category_id and bbox: [x, y, width, height].",
        ) from None
    return RegionTruth(path.name, images)


def read_dataset(path: Path) -> RegionTruth:
    """The boxes of a Pixano dataset's folder, by whomever they are.

    Raises:
        ManifestError: When it cannot be read.
        RecordError: When a line is not a record.
    """
    folder = DatasetFolder(path)
    images: dict[str, list[TrueBox]] = {}
    for row in folder.rows():
        line = row.read()
        views = {view: payload for view, payload in line.views.items() if folder.is_image(view, payload)}
        for view in views:
            images[f"{line.id}/{view}"] = []
        for entity in line.entities:
            for view, box in _boxes(entity, views, row.defaults):
                images[f"{line.id}/{view}"].append(TrueBox(label_of(entity), box, is_share=True))
    return RegionTruth(path.name, images, by_record=True)


def _boxes(
    entity: DatasetEntity, views: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Sequence[tuple[str, Box]]:
    found = []
    for annotation in entity.annotations:
        view = annotation.view or next(iter(views), "")
        box = box_shares(annotation, views.get(view), defaults) if view in views else None
        if box is not None:
            found.append((view, box))
    return found
