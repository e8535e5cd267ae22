"""Boxes out and in again: COCO files by pycocotools, YOLO files by a reader that knows only their definition."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_vlm.models.region import UNNAMED, ImageSize, Region
from pixano_vlm.outputs.coco import coco_of
from pixano_vlm.outputs.forms import Answers
from pixano_vlm.outputs.yolo import ClassList, yolo_text
from pixano_vlm.records.output_line import OutputLine

Box = tuple[float, float, float, float]
Found = tuple[str, Box]


@st.composite
def images(draw: st.DrawFn) -> tuple[ImageSize, list[Region]]:
    """An image of any size with boxes in it, whole pixels or not, named in any way or not at all."""
    width, height = draw(st.integers(2, 5000)), draw(st.integers(2, 5000))
    regions = []
    for _ in range(draw(st.integers(0, 4))):
        x0, y0 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
        shift = draw(st.sampled_from([0.0, 0.25, 0.5]))
        label = draw(st.none() | st.sampled_from(["cat", "Katze 🐈", 'a "dog", black', "<b>x</b>"]))
        regions.append(Region(label=label, box=(x0, y0, x1 - shift, y1 - shift)))
    return ImageSize(width=width, height=height), regions


def line_of(number: int, size: ImageSize, regions: list[Region]) -> OutputLine:
    return OutputLine(
        id=str(number),
        status="ok",
        generated_text="",
        images=[f"{number}.jpg"],
        regions=regions,
        image_sizes=[size],
    )


def boxes_of(regions: list[Region]) -> list[Found]:
    return [(region.label or UNNAMED, region.box) for region in regions if region.box is not None]


def read_by_pycocotools(path: Path) -> dict[str, list[Found]]:
    """File names -> the boxes of each, in the order of their annotations."""
    coco: Any = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco.COCO(str(path))
    found: dict[str, list[Found]] = {}
    for image in data.loadImgs(data.getImgIds()):
        boxes = found.setdefault(image["file_name"], [])
        for annotation in data.loadAnns(data.getAnnIds(imgIds=[image["id"]])):
            (category,) = data.loadCats([annotation["category_id"]])
            x, y, width, height = annotation["bbox"]
            boxes.append((category["name"], (x, y, x + width, y + height)))
    return found


def read_yolo(text: str, classes: list[str], width: int, height: int) -> list[Found]:
    """As Ultralytics defines it: a line has a class's number, and centre, width and height in shares of the image."""
    found = []
    for row in text.splitlines():
        number, *shares = row.split()
        x, y, across, down = map(float, shares)
        assert all(0 <= share <= 1 for share in (x, y, across, down))
        box = (
            (x - across / 2) * width, (y - down / 2) * height, (x + across / 2) * width, (y + down / 2) * height,
        )  # fmt: skip
        found.append((classes[int(number)], box))
    return found


def assert_same(found: list[Found], wanted: list[Found], within: float) -> None:
    assert [label for label, _ in found] == [label for label, _ in wanted]
    for (_, one), (_, other) in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, abs=within)


@settings(deadline=None)
@given(st.lists(images(), min_size=1, max_size=4))
def test_pycocotools_reads_the_boxes_that_were_written(made: list[tuple[ImageSize, list[Region]]]) -> None:
    lines = [line_of(number, size, regions) for number, (size, regions) in enumerate(made)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "o.coco.json"
        coco_of(Answers(lines), path)
        found = read_by_pycocotools(path)
    assert list(found) == [line.images[0] for line in lines]
    for line, (_, regions) in zip(lines, made, strict=True):
        assert_same(found[line.images[0]], boxes_of(regions), within=0.011)


@given(st.lists(images(), min_size=1, max_size=4))
def test_a_yolo_reader_reads_the_boxes_that_were_written(made: list[tuple[ImageSize, list[Region]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classes.txt"
        classes = ClassList(path)
        texts = [
            yolo_text(line_of(number, size, regions).model_dump(), classes)
            for number, (size, regions) in enumerate(made)
        ]
        names = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for text, (size, regions) in zip(texts, made, strict=True):
        assert text is not None
        # Six decimals of each share, of which a corner has one and a half.
        within = max(size.width, size.height) * 1.5e-6
        assert_same(read_yolo(text, names, size.width, size.height), boxes_of(regions), within)


def test_a_polygon_is_read_with_its_corners_and_the_box_around_it(tmp_path: Path) -> None:
    corners = [(10.0, 10.0), (30.0, 10.0), (30.0, 30.0)]
    line = line_of(0, ImageSize(width=100, height=80), [Region(label="sail", polygon=corners)])
    coco_of(Answers([line]), tmp_path / "o.coco.json")
    assert read_by_pycocotools(tmp_path / "o.coco.json") == {"0.jpg": [("sail", (10, 10, 30, 30))]}
    coco: Any = pytest.importorskip("pycocotools.coco")
    data = coco.COCO(str(tmp_path / "o.coco.json"))
    (annotation,) = data.loadAnns(data.getAnnIds())
    assert annotation["segmentation"] == [[10, 10, 30, 10, 30, 30]]
    assert annotation["area"] == 200
