"""`score` of boxes: figures that were worked out by hand, against COCO and Pixano truth."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pixano_vlm.cli import app

pytest.importorskip("pycocotools")
from pixano_vlm.errors import UsageError
from pixano_vlm.scoring.region_truth import TrueBox, is_coco, read_coco, read_dataset
from pixano_vlm.scoring.regions import FoundBox, RegionScore, iou, matched, score_regions

Values = dict[str, Any]
Named = tuple[str, tuple[float, float, float, float]]


def line(
    id: str, *regions: tuple[str, tuple[float, ...], float | None], status: str = "ok", **more: Any
) -> Values:
    """An output line of the image of that name, 100 pixels wide and 80 high."""
    return {
        "id": id,
        "status": status,
        "generated_text": "found" if status == "ok" else None,
        "images": [f"photos/{id}"],
        "model": "m",
        "regions": [
            {"label": label, "box": box, "image": 0, **({} if sure is None else {"confidence": sure})}
            for label, box, sure in regions
        ],
        "image_sizes": [{"width": 100, "height": 80}],
        **more,
    }


def output(folder: Path, *lines: Values) -> Path:
    path = folder / "o.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def coco(folder: Path, images: dict[str, list[Named]]) -> Path:
    labels = sorted({label for boxes in images.values() for label, _ in boxes})
    names = list(images)
    data = {
        "images": [{"id": place, "file_name": name} for place, name in enumerate(names)],
        "categories": [{"id": 10 + place, "name": label} for place, label in enumerate(labels)],
        "annotations": [
            {
                "id": place,
                "image_id": names.index(name),
                "category_id": 10 + labels.index(label),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
            }
            for place, (name, (label, (x0, y0, x1, y1))) in enumerate(
                (name, one) for name, boxes in images.items() for one in boxes
            )
        ],
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(data))
    return path


def scored(folder: Path, images: dict[str, list[Named]], *lines: Values) -> RegionScore:
    truth = coco(folder, images)
    assert is_coco(truth)
    return score_regions(output(folder, *lines), read_coco(truth))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (0, 0, 10, 5), 1 / 2),
        ((0, 0, 10, 10), (2, 2, 4, 4), 4 / 100),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (20, 20, 30, 30), 0.0),
    ],
)
def test_iou_is_what_two_boxes_share(one: Any, other: Any, expected: float) -> None:
    assert iou(one, other) == pytest.approx(expected)
    assert iou(other, one) == pytest.approx(expected)


def test_the_surest_box_takes_the_true_one_and_another_of_it_is_wrong() -> None:
    true = [TrueBox("cat", (0, 0, 10, 10)), TrueBox("dog", (0, 0, 10, 10))]
    found = [
        FoundBox("cat", (0, 0, 10, 10), 0.5),
        FoundBox("cat", (0, 0, 10, 8), 0.9),
        FoundBox("dog", (0, 0, 10, 4), 0.9),
    ]
    assert matched(true, found) == [(1, 0, pytest.approx(0.8))]


CAT, DOG = (10, 10, 30, 30), (50, 20, 90, 60)


def test_precision_recall_and_iou_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    """Image a: the cat exactly, the dog with an IoU of 3/4, and a cat that is not there. Image b: nothing of one cat.

    2 of 3 boxes are right, 2 of 3 true boxes are found; the IoU of those is (1 + 3/4) / 2.
    """
    one = scored(
        tmp_path,
        {"a": [("cat", CAT), ("dog", DOG)], "b": [("cat", CAT)]},
        line("a", ("Cat", CAT, 0.9), ("dog", (50, 20, 90, 50), 0.8), ("cat", (60, 60, 80, 80), 0.7)),
        line("b"),
    )
    assert (one.images, one.true_boxes, one.found_boxes) == (2, 3, 3)
    assert one.precision.value == pytest.approx(2 / 3)
    assert one.recall.value == pytest.approx(2 / 3)
    assert one.mean_iou == pytest.approx(0.875)
    cat, dog = one.labels["cat"], one.labels["dog"]
    assert (cat.precision.value, cat.recall.value) == (0.5, 0.5)
    assert (dog.precision.value, dog.recall.value) == (1.0, 1.0)


def test_average_precision_is_that_worked_out_by_hand(tmp_path: Path) -> None:
    """Of two cats one is found exactly: precision 1 up to a recall of 1/2, which 51 of COCO's 101 steps reach.

    The dog's IoU is 3/4: found from 0.5 to 0.75, which are 6 of the 10 thresholds, and not from 0.8 on.
    """
    one = scored(
        tmp_path,
        {"a": [("cat", CAT), ("dog", DOG)], "b": [("cat", CAT)]},
        line("a", ("cat", CAT, 0.9), ("dog", (50, 20, 90, 50), 0.8), ("cat", (60, 60, 80, 80), 0.7)),
        line("b"),
    )
    cat, dog = 51 / 101, 6 / 10
    assert one.labels["cat"].average_precision == pytest.approx(cat)
    assert one.labels["dog"].average_precision == pytest.approx(dog)
    assert one.average_precision == pytest.approx((cat + dog) / 2)
    assert one.average_precision_50 == pytest.approx((cat + 1) / 2)
    assert one.average_precision_75 == pytest.approx((cat + 1) / 2)


def test_a_surer_wrong_box_costs_average_precision_and_a_less_sure_one_does_not(tmp_path: Path) -> None:
    found = {}
    for name, sure in (("before", 0.95), ("behind", 0.1)):
        wrong = ("cat", (60, 60, 80, 80), sure)
        found[name] = scored(
            tmp_path, {"a": [("cat", CAT)]}, line("a", ("cat", CAT, 0.9), wrong)
        ).average_precision
    assert found == {"before": pytest.approx(0.5), "behind": pytest.approx(1.0)}


def test_perfect_boxes_are_perfect_and_none_are_nothing(tmp_path: Path) -> None:
    truth: dict[str, list[Named]] = {"a": [("cat", CAT)], "b": [("dog", DOG)]}
    one = scored(tmp_path, truth, line("a", ("cat", CAT, None)), line("b", ("dog", DOG, None)))
    assert (one.precision.value, one.recall.value, one.mean_iou, one.average_precision) == (
        1,
        1,
        1,
        pytest.approx(1),
    )
    assert one.recall.low == pytest.approx(0.3424, abs=1e-4)  # Wilson's for 2 of 2
    none = scored(tmp_path, truth, line("a"), line("b"))
    assert math.isnan(none.precision.value)
    assert (none.recall.value, none.average_precision) == (0, 0)
    assert math.isnan(none.mean_iou)


def test_a_failed_record_found_nothing_and_other_images_are_left_out(tmp_path: Path) -> None:
    one = scored(
        tmp_path,
        {"a": [("cat", CAT)], "b": [("cat", CAT)], "c": [("cat", CAT)]},
        line("a", ("cat", CAT, None)),
        line("b", status="error", regions=None, image_sizes=None),
        line("other", ("cat", CAT, None)),
    )
    assert (one.failed, one.not_in_truth, one.not_asked, one.images) == (1, 1, 1, 2)
    assert (one.precision.value, one.recall.value) == (1.0, 0.5)


def test_what_cannot_be_scored_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no regions"):
        scored(tmp_path, {"a": []}, line("a", regions=None))
    with pytest.raises(UsageError, match=r"no image of .* is in truth\.json"):
        scored(tmp_path, {"z": []}, line("a"))
    (tmp_path / "truth.json").write_text(json.dumps({"images": [{}], "annotations": [], "categories": []}))
    with pytest.raises(UsageError, match="not COCO detection data"):
        read_coco(tmp_path / "truth.json")


def test_a_pixano_dataset_is_a_truth_in_whatever_form_its_boxes_are(tmp_path: Path) -> None:
    def entity(label: str, **box: Any) -> Values:
        return {"id": label, "attrs": {"category": label}, "annotations": [{"kind": "bbox", **box}]}

    record = {
        "id": "rec",
        "views": {"image": {"uri": "a.png", "width": 200, "height": 160}},
        "entities": [
            entity("cat", coords=[0.1, 0.125, 0.3, 0.375], format="xyxy", is_normalized=True),
            entity("dog", coords=[100, 40, 80, 80], format="xywh", is_normalized=False),
        ],
    }
    folder = tmp_path / "reviewed" / "train"
    folder.mkdir(parents=True)
    (folder / "metadata.jsonl").write_text('{"$pixano": "jsonl/2"}\n' + json.dumps(record) + "\n")
    place = {"record": "rec", "split": "train", "views": {"image": "v"}}
    own = line("a", ("cat", CAT, None), ("dog", DOG, None), metadata={"pixano": place})
    one = score_regions(output(tmp_path, own), read_dataset(tmp_path / "reviewed"))
    assert (one.precision.value, one.recall.value, one.mean_iou) == (1.0, 1.0, pytest.approx(1.0))


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    truth = coco(tmp_path, {"a": [("cat", CAT)]})
    path = output(tmp_path, line("a", ("cat", CAT, 0.5)))
    shown = CliRunner().invoke(app, ["score", str(path), "--truth", str(truth)])
    assert shown.exit_code == 0, shown.output
    for words in ("precision at IoU 0.5", "mean average precision", "100.0%", "cat"):
        assert words in shown.stdout
    found = CliRunner().invoke(app, ["score", str(path), "--truth", str(truth), "--json"])
    assert json.loads(found.stdout)["regions"][0]["recall"]["value"] == 1.0
    refused = CliRunner().invoke(app, ["score", str(path), "--truth", str(truth), "--accept", "0.9"])
    assert isinstance(refused.exception, UsageError)
    assert "--accept does not go with a dataset" in str(refused.exception)
