"""The boxes and points of the embedded model `shapes`: the truth, the questions, the scores and the answers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from pixano_vlm.shapes import MODEL_DIR
from pixano_vlm.shapes.build import build_model, build_tokenizer
from pixano_vlm.shapes.draw import KINDS, Scene, Thing, draw, random_scene, render
from pixano_vlm.shapes.evaluate import answer, fresh_cases, load, region_scores, region_table
from pixano_vlm.shapes.loss import AnswerLoss, coordinate_tokens
from pixano_vlm.shapes.overlap import PlacesFound, iou, matched, score_regions
from pixano_vlm.shapes.questions import (
    REGION_KINDS,
    STEP,
    WHOLE,
    Subject,
    ask,
    ask_any,
    right_answer,
)
from pixano_vlm.shapes.train import take_over

EXAMPLES = Path(__file__).parents[1] / "examples" / "shapes"

seeds = st.integers(min_value=0, max_value=2**32)
boxes = st.tuples(*[st.integers(0, 90)] * 2, *[st.integers(1, 30)] * 2).map(
    lambda corner: (corner[0], corner[1], corner[0] + corner[2], corner[1] + corner[3])
)


def drawn(*things: Thing, seed: int = 0) -> Scene:
    """The scene of these things as it is drawn."""
    return draw(Scene(things), Random(seed))[1]


def places(text: str) -> list[tuple[str, list[int]]]:
    """Label and numbers of each region of an answer."""
    return [(region["label"], region.get("bbox_2d", region.get("point_2d"))) for region in json.loads(text)]


# --- Where shapes are drawn -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(200, 160), (97, 120), (320, 320)])
def test_the_box_of_a_shape_is_that_of_its_pixels(kind: str, size: tuple[int, int]) -> None:
    picture, scene = draw(Scene((Thing("black", kind, 2),)), Random(kind), size)
    outline = scene.things[0].outline
    assert outline is not None
    left, top, right, bottom = picture.convert("L").point(lambda tone: 255 * (tone < 60)).getbbox() or (
        0,
        0,
        0,
        0,
    )
    seen = (left / size[0], top / size[1], right / size[0], bottom / size[1])
    assert outline.box == pytest.approx(seen, abs=1.5 / min(size))


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_is_inside_a_shape_where_its_pixels_are_and_nowhere_else(kind: str) -> None:
    size = (160, 160)
    picture, scene = draw(Scene((Thing("black", kind, 1),)), Random(kind), size)
    outline = scene.things[0].outline
    assert outline is not None
    mask = picture.convert("L").point(lambda tone: 255 * (tone < 60))
    wrong = [
        (x, y)
        for x in range(size[0])
        for y in range(size[1])
        if outline.contains((x + 0.5) / size[0], (y + 0.5) / size[1]) != bool(mask.getpixel((x, y)))
    ]
    # Pillow decides pixels on the outline in its own way; there are no others.
    edge = Image.new("1", size)
    pen = ImageDraw.Draw(edge)
    if outline.corners:
        corners = [(x * size[0], y * size[1]) for x, y in (*outline.corners, outline.corners[0])]
        pen.line(corners, fill=1, width=3)
    else:
        left, top, right, bottom = (share * size[0] for share in outline.box)
        pen.ellipse((left - 1, top - 1, right + 1, bottom + 1), outline=1, width=3)
    assert all(edge.getpixel(pixel) for pixel in wrong)
    assert outline.contains(*outline.centre)


@given(seeds)
def test_the_scene_as_drawn_is_the_scene_and_draws_the_same_picture(seed: int) -> None:
    scene = random_scene(Random(seed))
    picture, as_drawn = draw(scene, Random(seed))
    assert as_drawn == scene
    assert all(thing.outline is not None for thing in as_drawn.things)
    assert picture.tobytes() == render(scene, Random(seed)).tobytes()


# --- Questions --------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from(REGION_KINDS))
def test_the_right_answer_lies_on_what_it_names_as_closely_as_its_steps_allow(seed: int, kind: str) -> None:
    rng = Random(seed)
    scene = draw(random_scene(rng), rng)[1]
    question = ask_any(scene, rng, {kind: 1.0, "detect": 1e-9})
    asked = [thing for thing in scene.things if question.subject.matches(thing)]
    score = score_regions(question.kind, asked, question.answer)
    assert all(score.labels)
    assert len(score.labels) == len(asked)
    assert all(score.hits)
    assert all(overlap > 0.85 for overlap in score.overlaps)
    numbers = [number for _, place in places(question.answer) for number in place]
    assert all(0 <= number <= WHOLE and number % STEP == 0 for number in numbers)


def test_everything_that_is_asked_for_is_in_the_answer_in_reading_order_and_nothing_else() -> None:
    scene = drawn(Thing("red", "star", 0), Thing("blue", "circle", 1), Thing("green", "star", 3))
    assert [label for label, _ in places(right_answer("detect", Subject(kind="star"), scene))] == [
        "red star",
        "green star",
    ]
    assert right_answer("detect", Subject(kind="square"), scene) == "[]"
    ((label, (left, top, right, bottom)),) = places(right_answer("box", Subject("blue"), scene))
    assert label == "blue circle"
    assert 500 <= left < right <= 1000
    assert 0 <= top < bottom <= 500
    ((_, (x, y)),) = places(right_answer("point", Subject("blue"), scene))
    assert left < x < right
    assert top < y < bottom


def test_no_region_can_be_asked_of_what_is_ambiguous_or_not_drawn() -> None:
    with pytest.raises(ValueError, match="'box' about 'star' is ambiguous: 2 things match"):
        right_answer("box", Subject(kind="star"), drawn(Thing("red", "star", 0), Thing("blue", "star", 1)))
    with pytest.raises(ValueError, match="the red star is not drawn"):
        ask("point", Scene((Thing("red", "star", 0),)), Random(0))


# --- Answers ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes() -> tuple[Any, Any]:
    """The shipped model and its processor."""
    return load(MODEL_DIR)


def test_the_models_regions_lie_on_fresh_pictures(shapes: tuple[Any, Any]) -> None:
    model, processor = shapes
    cases = list(fresh_cases(96, 12345, REGION_KINDS))
    scores = region_scores(cases, answer(model, processor, cases))
    table = region_table(scores)
    assert scores["all"].mean_iou >= 0.7, table
    assert scores["all"].inside >= 0.85, table
    assert scores["all"].named >= 0.9, table


def test_generate_gives_regions_in_pixels_of_images_as_viewers_show_them(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    """The second example is stored on its side."""
    output = tmp_path / "found.jsonl"
    command = (
        "generate",
        EXAMPLES / "regions.jsonl",
        "--model",
        "shapes",
        "-o",
        output,
        "-o",
        tmp_path / "found.coco.json",
    )
    ran = cli(*command)
    assert ran.code == 0, ran.err
    lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [line["metadata"]["kind"] for line in lines] == [*REGION_KINDS] * 2
    right = []
    for line in lines:
        (size,) = line["image_sizes"]
        with Image.open(EXAMPLES / line["images"][0]) as stored:
            assert (size["width"], size["height"]) == ImageOps.exif_transpose(stored).size
        assert line["flags"] == []
        wanted = places(line["metadata"]["answer"])
        if [region["label"] for region in line["regions"]] == [label for label, _ in wanted]:
            right.append(line["id"])
            for region, (_, numbers) in zip(line["regions"], wanted, strict=True):
                scale = (size["width"] / WHOLE, size["height"] / WHOLE) * 2
                place = [number * each for number, each in zip(numbers, scale, strict=False)]
                if region.get("box"):
                    assert iou(region["box"], place) > 0.6
                else:
                    assert region["point"] == pytest.approx(place, abs=0.06 * size["width"])
    assert "002-point" in right
    assert len(right) >= 5
    boxes = [region["box"] for line in lines for region in line["regions"] if region.get("box")]
    assert len(json.loads((tmp_path / "found.coco.json").read_text("utf-8"))["annotations"]) == len(boxes) > 0
    check = [sys.executable, str(EXAMPLES / "check.py"), str(output)]
    said = subprocess.run(check, check=False, capture_output=True, text=True).stdout
    assert re.search(r"all +[56] of +6 right", said), said


def test_the_guides_command_finds_what_the_examples_show(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLES.parent)
    monkeypatch.chdir(tmp_path)
    guide = (EXAMPLES.parents[1] / "docs" / "guides" / "find-things.md").read_text("utf-8")
    (command,) = [line for line in guide.splitlines() if "generate" in line and "--model shapes" in line]
    ran = cli(*shlex.split(command)[1:])
    assert ran.code == 0, ran.err
    found = [json.loads(line) for line in Path("shapes.jsonl").read_text("utf-8").splitlines()]
    rows = map(json.loads, (EXAMPLES / "manifest.jsonl").read_text("utf-8").splitlines())
    described = {
        Path(row["images"][0]).name: re.findall(r"an? (\w+ \w+)", row["metadata"]["answer"])
        for row in rows
        if row["metadata"]["kind"] == "describe"
    }
    labels = {Path(line["images"][0]).name: [region["label"] for region in line["regions"]] for line in found}
    assert sum(labels[name] == shapes for name, shapes in described.items()) >= 0.9 * len(described)
    coco = json.loads(Path("shapes.coco.json").read_text("utf-8"))
    assert len(coco["images"]) == 24
    assert {category["name"] for category in coco["categories"]} == {
        label for names in labels.values() for label in names
    }
    assert len(coco["annotations"]) == sum(map(len, labels.values()))


def test_the_schema_of_a_list_of_boxes_changes_no_answer(cli: Callable[..., Any], tmp_path: Path) -> None:
    schema = {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "bbox_2d": {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 4},
                "label": {"type": "string"},
            },
            "required": ["bbox_2d", "label"],
            "additionalProperties": False,
        },
    }
    (tmp_path / "boxes.json").write_text(json.dumps(schema))
    prompt = "Detect every shape. Answer with a JSON list of bbox_2d and label."
    regions = []
    for name, options in (("free", ()), ("held", ("--json-schema", tmp_path / "boxes.json"))):
        images = [EXAMPLES / "images" / f"00{number}.jpg" for number in (1, 2, 3)]
        output = tmp_path / f"{name}.jsonl"
        ran = cli(
            "generate", *images, "-m", "shapes", "--regions", "--prompt", prompt, *options, "-o", output
        )
        assert ran.code == 0, ran.err
        regions.append([json.loads(line)["regions"] for line in output.read_text("utf-8").splitlines()])
    assert regions[0] == regions[1]
    assert all(regions[0])


# --- Scores -----------------------------------------------------------------------------------------------


@given(boxes, boxes)
def test_iou_is_what_counting_cells_gives(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    def cells(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    assert iou(a, b) == pytest.approx(len(cells(a) & cells(b)) / len(cells(a) | cells(b)))


@given(st.lists(boxes, max_size=4), st.randoms(use_true_random=False))
def test_boxes_are_paired_whatever_their_order(truth: list[tuple[int, ...]], rng: Random) -> None:
    found = rng.sample(truth, len(truth))
    pairs = matched(truth, found)
    assert sorted(i for i, _ in pairs) == sorted(j for _, j in pairs) == list(range(len(truth)))
    assert all(truth[i] == found[j] for i, j in pairs)


def test_a_missing_an_invented_and_a_misnamed_box_are_counted() -> None:
    scene = drawn(Thing("red", "star", 0), Thing("blue", "circle", 3))
    both = right_answer("detect", Subject(), scene)
    perfect = score_regions("detect", scene.things, both)
    assert perfect.mean_iou > 0.85
    assert perfect.named == 1
    first, second = json.loads(both)
    missing = score_regions("detect", scene.things, json.dumps([second]))
    assert missing.overlaps[1:] == (0.0,)
    invented = score_regions("detect", scene.things[:1], both)
    assert len(invented.overlaps) == 2
    assert invented.overlaps[1:] == (0.0,)
    misnamed = score_regions("detect", scene.things, json.dumps([{**first, "label": "red circle"}, second]))
    assert misnamed.overlaps == perfect.overlaps
    assert misnamed.named == 0.5
    assert score_regions("detect", (), "[]").overlaps == ()
    assert (perfect + missing).asked == 2
    assert len((perfect + missing).overlaps) == 4


def test_a_point_beside_its_shape_is_a_miss_and_so_is_none() -> None:
    scene = drawn(Thing("red", "star", 0))
    assert score_regions("point", scene.things, right_answer("point", Subject("red"), scene)).inside == 1
    assert score_regions("point", scene.things, '[{"point_2d": [900, 900], "label": "red star"}]').inside == 0
    assert score_regions("point", scene.things, "[]") == PlacesFound(1, hits=(False,))


@pytest.mark.parametrize(
    "text",
    ["", "a red star", "[1, 2]", "{}", '[{"bbox_2d": [1, 2, 3]}]', '[{"bbox_2d": [1, 2, 3, true]}]', "[NaN]"],
)
def test_an_answer_that_is_not_a_list_of_boxes_has_none(text: str) -> None:
    things = drawn(Thing("red", "star", 0)).things
    assert score_regions("box", things, text) == PlacesFound(1, overlaps=(0.0,))


# --- Training ---------------------------------------------------------------------------------------------


def test_a_coordinate_close_to_the_right_one_costs_less_than_one_far_away() -> None:
    tokenizer = build_tokenizer()
    loss = AnswerLoss(tokenizer)
    for form in coordinate_tokens(tokenizer):
        right = torch.tensor([form[20]])

        def cost(step: int, form: list[int] = form, right: torch.Tensor = right) -> float:
            logits = torch.zeros(1, len(tokenizer))
            logits[0, form[step]] = 5.0
            return float(loss(logits, right))

        assert cost(20) < cost(21) < cost(23)
        assert cost(19) == pytest.approx(cost(21))
        assert cost(23) == pytest.approx(cost(40), abs=0.01)


def test_words_and_counts_are_right_or_wrong() -> None:
    tokenizer = build_tokenizer()
    loss = AnswerLoss(tokenizer)
    for text in (" star", "0", "2", "yes"):
        (token,) = tokenizer(text, add_special_tokens=False)["input_ids"]
        logits = torch.randn(1, len(tokenizer), generator=torch.Generator().manual_seed(0))
        plain = torch.nn.functional.cross_entropy(logits, torch.tensor([token]))
        assert float(loss(logits, torch.tensor([token]))) == pytest.approx(float(plain), rel=1e-5)


def test_training_can_begin_with_weights_whose_tokenizer_knows_fewer_words(shapes: tuple[Any, Any]) -> None:
    known, processor = shapes
    rows = processor.tokenizer.get_vocab()
    new = {token for token in rows if token.endswith("80")}
    fewer = {token: row for token, row in rows.items() if token not in new}
    torch.manual_seed(0)
    model = build_model(processor)
    take_over(model, processor.tokenizer, known, fewer)
    for name, weight in model.state_dict().items():
        if "embed_tokens" in name or "lm_head" in name:
            same = (weight == known.state_dict()[name]).all(1)
            assert {token for token, row in rows.items() if not same[row]} == new
            assert weight.isfinite().all()
        else:
            assert torch.equal(weight, known.state_dict()[name]), name
