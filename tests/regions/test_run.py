"""Regions through a whole run: images with EXIF turns in, output lines, COCO and YOLO files out."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixano_vlm import generate
from pixano_vlm.errors import UsageError
from pixano_vlm.models import ModelDeploymentConfig, UsageInfo, VLMInput, VLMModel, VLMOutput
from pixano_vlm.outputs.yolo import CLASSES

Box = tuple[int, int, int, int]

TURNED = (5, 6, 7, 8)
"""EXIF orientations with which width and height change places."""


class Pointing(VLMModel):
    """Writes the answers that its script has for each prompt."""

    def __init__(self, script: dict[str, str], regions: str | None = "0-1000") -> None:
        super().__init__(ModelDeploymentConfig(name="pointing", model_class="Pointing", regions=regions))  # type: ignore[arg-type]  # a name, as in a config file
        self.script = script
        self.asked = 0

    def load_model(self) -> None:
        pass

    def predict(self, input: VLMInput) -> VLMOutput:
        self.asked += 1
        return VLMOutput(generated_text=self.script[str(input.prompt)], usage=UsageInfo.of(1, 1))


def turned_images(folder: Path, count: int) -> list[dict[str, Any]]:
    """Images of odd sizes with every EXIF turn, and a box in each as people see it."""
    draw = random.Random(3)
    made = []
    for number in range(count):
        stored = (draw.randrange(30, 400), draw.randrange(30, 400))
        exif = Image.Exif()
        exif[0x0112] = orientation = number % 8 + 1
        name = f"{number}.jpg"
        Image.new("RGB", stored, (number * 5, 90, 120)).save(folder / name, exif=exif)
        width, height = reversed(stored) if orientation in TURNED else stored
        x0, y0 = draw.randrange(0, width - 20), draw.randrange(0, height - 20)
        box = (x0, y0, draw.randrange(x0 + 9, width), draw.randrange(y0 + 9, height))
        made.append({"name": name, "size": (width, height), "box": box, "label": ["cat", "dog"][number % 2]})
    return made


def answer(image: dict[str, Any]) -> str:
    width, height = image["size"]
    x0, y0, x1, y1 = image["box"]
    numbers = [
        round(x0 / width * 1000), round(y0 / height * 1000), round(x1 / width * 1000), round(y1 / height * 1000),
    ]  # fmt: skip
    return json.dumps([{"bbox_2d": numbers, "label": image["label"]}])


@pytest.fixture
def images(tmp_path: Path) -> list[dict[str, Any]]:
    return turned_images(tmp_path, 40)


@pytest.fixture
def manifest(tmp_path: Path, images: list[dict[str, Any]]) -> Path:
    path = tmp_path / "m.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": image["name"], "images": [image["name"]]}) + "\n" for image in images)
    )
    return path


def model_for(images: list[dict[str, Any]]) -> Pointing:
    return Pointing({image["name"]: answer(image) for image in images})


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def near(found: Any, wanted: Any) -> bool:
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= 1


def test_boxes_are_in_pixels_of_the_upright_image_whatever_the_exif_turn(
    tmp_path: Path, manifest: Path, images: list[dict[str, Any]]
) -> None:
    generate(manifest, model_for(images), output=tmp_path / "o.jsonl", regions=True).finish()
    for line, image in zip(lines_of(tmp_path / "o.jsonl"), images, strict=True):
        assert line["image_sizes"] == [{"width": image["size"][0], "height": image["size"][1]}]
        (region,) = line["regions"]
        assert near(region["box"], image["box"])
        assert region["label"] == image["label"]
        assert set(region) == {"label", "box", "image"}


def test_without_being_asked_for_lines_have_no_regions(
    tmp_path: Path, manifest: Path, images: list[dict[str, Any]]
) -> None:
    generate(manifest, model_for(images), output=tmp_path / "o.jsonl").finish()
    assert not any({"regions", "image_sizes"} & line.keys() for line in lines_of(tmp_path / "o.jsonl"))


def test_a_record_asks_for_regions_by_itself(tmp_path: Path, images: list[dict[str, Any]]) -> None:
    name = images[0]["name"]
    rows = [{"prompt": name, "images": [name], "regions": regions} for regions in (True, False)]
    results = list(generate([{**row, "images": [str(tmp_path / name)]} for row in rows], model_for(images)))
    assert [result.output is not None and result.output.regions is not None for result in results] == [
        True,
        False,
    ]


def test_asking_for_regions_later_asks_the_model_again(
    tmp_path: Path, manifest: Path, images: list[dict[str, Any]]
) -> None:
    output = tmp_path / "o.jsonl"
    generate(manifest, model_for(images), output=output, limit=2).finish()
    model = model_for(images)
    generate(manifest, model, output=output, limit=2, resume=True, force=True, regions=True).finish()
    assert model.asked == 2
    again = model_for(images)
    generate(manifest, again, output=output, limit=2, resume=True, regions=True).finish()
    assert again.asked == 0


def test_a_model_whose_convention_nobody_knows_is_refused_before_it_is_asked(
    tmp_path: Path, manifest: Path, images: list[dict[str, Any]]
) -> None:
    unknown = Pointing({}, regions=None)
    with pytest.raises(UsageError, match="how model 'pointing' writes coordinates is not known"):
        generate(manifest, unknown, regions=True)
    record = {"prompt": "a", "images": [str(tmp_path / images[0]["name"])], "regions": True}
    for result in generate([record, record], unknown):
        assert "writes coordinates is not known" in str(result.error)


def test_a_record_without_an_image_is_an_error_of_its_own() -> None:
    (result,) = generate([{"prompt": "a", "regions": True}], Pointing({"a": "[1, 2, 3, 4]"}))
    assert "has no image" in str(result.error)


def test_a_table_has_regions_as_the_output_line_has_them(
    tmp_path: Path, manifest: Path, images: list[dict[str, Any]]
) -> None:
    outputs = [tmp_path / "o.jsonl", tmp_path / "o.csv"]
    generate(manifest, model_for(images), output=outputs, regions=True, limit=3).finish()
    with outputs[1].open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, line in zip(rows, lines_of(outputs[0]), strict=True):
        assert json.loads(row["regions"]) == line["regions"]
        assert json.loads(row["image_sizes"]) == line["image_sizes"]


def test_coco_has_the_boxes_and_reads_back(
    tmp_path: Path, manifest: Path, images: list[dict[str, Any]]
) -> None:
    outputs = [tmp_path / "o.jsonl", tmp_path / "o.coco.json"]
    generate(manifest, model_for(images), output=outputs, regions=True).finish()
    data = json.loads(outputs[1].read_text())
    names = {category["id"]: category["name"] for category in data["categories"]}
    assert list(names.values()) == ["cat", "dog"]
    by_image = {entry["id"]: entry for entry in data["images"]}
    assert [entry["file_name"] for entry in data["images"]] == [image["name"] for image in images]
    assert [(entry["width"], entry["height"]) for entry in data["images"]] == [
        image["size"] for image in images
    ]
    for annotation, image in zip(data["annotations"], images, strict=True):
        x, y, width, height = annotation["bbox"]
        assert near((x, y, x + width, y + height), image["box"])
        assert annotation["area"] == pytest.approx(width * height, abs=0.01)
        assert by_image[annotation["image_id"]]["file_name"] == image["name"]
        assert names[annotation["category_id"]] == image["label"]


def test_yolo_files_beside_the_images_have_the_boxes_and_the_classes(
    tmp_path: Path, manifest: Path, images: list[dict[str, Any]]
) -> None:
    (tmp_path / CLASSES).write_text("dog")
    generate(manifest, model_for(images), output=tmp_path / "o.jsonl", regions=True, sidecar="yolo").finish()
    assert (tmp_path / CLASSES).read_text() == "dog\ncat\n"
    for image in images:
        (row,) = (tmp_path / image["name"]).with_suffix(".txt").read_text().splitlines()
        number, *shares = row.split()
        x, y, width, height = map(float, shares)
        across, down = image["size"]
        box = (
            (x - width / 2) * across, (y - height / 2) * down, (x + width / 2) * across, (y + height / 2) * down,
        )  # fmt: skip
        assert near(box, image["box"])
        assert ["dog", "cat"][int(number)] == image["label"]


def test_an_image_on_which_nothing_was_found_has_an_empty_yolo_file(
    tmp_path: Path, manifest: Path, images: list[dict[str, Any]]
) -> None:
    model = Pointing({image["name"]: "[]" for image in images})
    generate(manifest, model, output=tmp_path / "o.jsonl", regions=True, sidecar="yolo", limit=1).finish()
    assert (tmp_path / "0.txt").read_text() == ""


def test_yolo_files_are_refused_where_no_regions_are_asked_for(manifest: Path) -> None:
    with pytest.raises(UsageError, match="none are asked for"):
        generate(manifest, Pointing({}), sidecar="yolo")


def test_pycocotools_reads_the_coco_file(
    tmp_path: Path, manifest: Path, images: list[dict[str, Any]]
) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    outputs = [tmp_path / "o.jsonl", tmp_path / "o.coco.json"]
    generate(manifest, model_for(images), output=outputs, regions=True).finish()
    data = coco.COCO(str(outputs[1]))
    (cats,) = data.getCatIds(catNms=["cat"])
    assert len(data.getImgIds()) == len(images)
    assert len(data.getAnnIds(catIds=[cats])) == len(images) // 2
    for entry, image in zip(data.loadImgs(data.getImgIds()), images, strict=True):
        (annotation,) = data.loadAnns(data.getAnnIds(imgIds=[entry["id"]]))
        x, y, width, height = annotation["bbox"]
        assert near((x, y, x + width, y + height), image["box"])
