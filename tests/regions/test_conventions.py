"""Boxes and points that a model writes by its convention come out in pixels of the upright image."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from pixano_vlm.models.region import CONVENTIONS, ImageSize, Region
from pixano_vlm.models.vlm import UsageInfo, VLMOutput
from pixano_vlm.regions.find import find_regions

Box = tuple[float, float, float, float]
Writer = Callable[[Box, ImageSize], str]


def output(text: str, **fields: Any) -> VLMOutput:
    return VLMOutput(generated_text=text, usage=UsageInfo.of(1, 1), **fields)


def scaled(box: Box, size: ImageSize, whole: float) -> list[int]:
    x0, y0, x1, y1 = box
    return [
        round(x0 / size.width * whole), round(y0 / size.height * whole),
        round(x1 / size.width * whole), round(y1 / size.height * whole),
    ]  # fmt: skip


def resized(box: Box, size: ImageSize) -> list[int]:
    assert size.model_width is not None
    assert size.model_height is not None
    across, down = size.model_width / size.width, size.model_height / size.height
    x0, y0, x1, y1 = box
    return [round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down)]


def qwen_json(box: Box, size: ImageSize, whole: float | None) -> str:
    numbers = resized(box, size) if whole is None else scaled(box, size, whole)
    return f'```json\n[\n\t{{"bbox_2d": {numbers}, "label": "a cat"}}\n]\n```'


def qwen2(box: Box, size: ImageSize) -> str:
    x0, y0, x1, y1 = scaled(box, size, 1000)
    start, end = "<|object_ref_start|>a cat<|object_ref_end|>", "<|box_end|>"
    return f"{start}<|box_start|>({x0},{y0}),({x1},{y1}){end}"


def gemma(box: Box, size: ImageSize) -> str:
    x0, y0, x1, y1 = scaled(box, size, 1000)
    return f'Here it is:\n```json\n[{{"box_2d": [{y0}, {x0}, {y1}, {x1}], "label": "a cat"}}]\n```'


def paligemma(box: Box, size: ImageSize) -> str:
    x0, y0, x1, y1 = scaled(box, size, 1024)
    return "".join(f"<loc{n:04}>" for n in (y0, x0, y1, x1)) + " a cat"


def fractions(box: Box, size: ImageSize) -> str:
    x0, y0, x1, y1 = box
    numbers = [round(x0 / size.width, 4), round(y0 / size.height, 4), x1 / size.width, y1 / size.height]
    return f'[{{"label": "a cat", "bbox": {numbers}}}]'


BOXES: list[tuple[str, str, Writer]] = [
    ("pixels", "pixels", lambda box, size: f"a cat at {list(map(round, box))}"),
    ("qwen2-vl", "0-1000", qwen2),
    ("qwen2.5-vl", "pixels-of-resized", lambda box, size: qwen_json(box, size, None)),
    ("qwen3-vl", "0-1000", lambda box, size: qwen_json(box, size, 1000)),
    (
        "internvl",
        "0-1000",
        lambda box, size: f"<ref>a cat</ref><box>[{scaled(box, size, 1000)}]</box>",
    ),
    (
        "glm",
        "0-1000",
        lambda box, size: f"It is at <|begin_of_box|>[{scaled(box, size, 1000)}]<|end_of_box|>.",
    ),
    (
        "deepseek-vl2",
        "0-999",
        lambda box, size: f"<|ref|>a cat<|/ref|><|det|>[{scaled(box, size, 999)}]<|/det|>",
    ),
    ("gemma", "0-1000-yx", gemma),
    ("location tokens", "location-tokens", paligemma),
    ("lfm2", "0-1", fractions),
]
"""Name, convention, and how a model writes a box of an image."""

POINTS: list[tuple[str, str, Callable[[float, float, ImageSize], str]]] = [
    (
        "molmo",
        "0-100",
        lambda x, y, size: (
            f'<point x="{x / size.width * 100:.1f}" y="{y / size.height * 100:.1f}" alt="a cat">a cat</point>'
        ),
    ),
    (
        "molmo, several",
        "0-100",
        lambda x, y, size: (
            f'<points x1="{x / size.width * 100:.1f}" y1="{y / size.height * 100:.1f}" x2="1" y2="2" '
            'alt="a cat">a cat</points>'
        ),
    ),
    (
        "molmo2",
        "0-1000",
        lambda x, y, size: (
            f'<points coords="1 1 {x / size.width * 1000:03.0f} {y / size.height * 1000:03.0f} '
            '2 001 002">a cat</points>'
        ),
    ),
    (
        "qwen3-vl",
        "0-1000",
        lambda x, y, size: (
            f'[{{"point_2d": [{x / size.width * 1000:.0f}, {y / size.height * 1000:.0f}], "label": "a cat"}}]'
        ),
    ),
    ("words", "pixels", lambda x, y, size: f"The cat is at ({x:.0f}, {y:.0f})."),
]


def images() -> list[tuple[ImageSize, Box]]:
    """Forty images of odd sizes, what a model looked at of each, and a box in it."""
    draw = random.Random(7)
    made = []
    for _ in range(40):
        width, height = draw.randrange(33, 960), draw.randrange(33, 960)
        seen = [28 * max(1, round(side * 1.3 / 28)) for side in (width, height)]
        size = ImageSize(width=width, height=height, model_width=seen[0], model_height=seen[1])
        x0, y0 = draw.randrange(0, width - 20), draw.randrange(0, height - 20)
        x1, y1 = draw.randrange(x0 + 10, width + 1), draw.randrange(y0 + 10, height + 1)
        made.append((size, (float(x0), float(y0), float(x1), float(y1))))
    return made


@pytest.mark.parametrize(("name", "convention", "write"), BOXES, ids=[row[0] for row in BOXES])
def test_a_box_comes_out_within_a_pixel_in_images_of_any_size(
    name: str, convention: str, write: Writer
) -> None:
    for size, box in images():
        regions, flags = find_regions(output(write(box, size)), CONVENTIONS[convention], [size])
        assert len(regions) == 1, (name, size, box)
        found = regions[0].box
        assert found is not None
        assert max(abs(a - b) for a, b in zip(found, box, strict=True)) <= 1, (name, size, box, found)
        assert flags == ()
        if name not in ("pixels", "glm"):
            assert regions[0].label == "a cat"


@pytest.mark.parametrize(("name", "convention", "write"), POINTS, ids=[row[0] for row in POINTS])
def test_a_point_comes_out_within_a_pixel_in_images_of_any_size(
    name: str, convention: str, write: Callable[[float, float, ImageSize], str]
) -> None:
    for size, (x0, y0, _, _) in images():
        regions, flags = find_regions(output(write(x0, y0, size)), CONVENTIONS[convention], [size])
        point = regions[0].point
        assert point is not None
        assert max(abs(point[0] - x0), abs(point[1] - y0)) <= 1, (name, size, point)
        assert flags == ()
        if name != "words":
            assert regions[0].label == "a cat"


SIZE = ImageSize(width=200, height=100)


def found(text: str, convention: str = "pixels", sizes: list[ImageSize] | None = None) -> Any:
    return find_regions(output(text), CONVENTIONS[convention], sizes or [SIZE])


def box(text: str, convention: str = "pixels") -> Any:
    regions, flags = found(text, convention)
    return [region.box for region in regions], flags


def test_a_reversed_box_is_put_right_and_flagged() -> None:
    assert box("[90, 80, 10, 20]") == ([(10, 20, 90, 80)], ("regions_mended",))


def test_a_box_that_reaches_outside_is_clipped_and_flagged() -> None:
    assert box("[150, 50, 260, 140]") == ([(150, 50, 200, 100)], ("regions_mended",))


def test_rounding_by_a_pixel_is_clipped_without_a_flag() -> None:
    assert box("[150, 50, 201, 101]") == ([(150, 50, 200, 100)], ())


@pytest.mark.parametrize(
    "text",
    ["[210, 10, 260, 40]", "[10, 10, 10, 40]", "<box>[[1, 2, 3]]</box>", '{"bbox_2d": [1, 2, "x", 4]}'],
)
def test_what_is_outside_empty_or_unreadable_is_left_out_and_flagged(text: str) -> None:
    assert box(text) == ([], ("regions_dropped",))


def test_a_point_outside_is_left_out_and_flagged() -> None:
    assert found("It is at (250, 20).") == ([], ("regions_dropped",))


def test_an_answer_without_places_is_flagged_unless_it_is_an_empty_list() -> None:
    assert found("There is no cat here.") == ([], ("no_regions",))
    assert found("```json\n[]\n```") == ([], ())
    assert found("") == ([], ())


def test_of_a_list_that_is_cut_off_the_whole_boxes_count() -> None:
    text = '```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "a {cat}"}, {"bbox_2d": [5, 6, 7'
    assert box(text) == ([(1, 2, 30, 40)], ())


def test_several_boxes_share_the_label_before_them() -> None:
    regions, _ = found(
        "<ref>cats</ref><box>[[1, 2, 30, 40], [50, 10, 90, 60]]</box> and <box>[[1,1,9,9]]</box>"
    )
    assert [(region.label, region.box) for region in regions] == [
        ("cats", (1, 2, 30, 40)), ("cats", (50, 10, 90, 60)), (None, (1, 1, 9, 9)),
    ]  # fmt: skip


def test_a_polygon_keeps_its_corners() -> None:
    regions, _ = found("<|quad_start|>(10,10),(90,12),(88,40),(9,38)<|quad_end|>")
    assert regions[0].polygon == [(10, 10), (90, 12), (88, 40), (9, 38)]


def test_a_region_says_which_image_it_is_in() -> None:
    other = ImageSize(width=1000, height=1000)
    regions, flags = found('<points coords="1 1 500 500\t2 1 100 200">cats</points>', "0-1000", [SIZE, other])
    assert [(region.image, region.point) for region in regions] == [(0, (100, 50)), (1, (100, 200))]
    regions, flags = found('{"bbox_2d": [1, 2, 3, 4], "image": 3}')
    assert (regions, flags) == ([], ("regions_dropped",))


def test_confidence_is_kept() -> None:
    regions, _ = found('[{"bbox": [1, 2, 30, 40], "label": "cat", "score": 0.75}]')
    assert regions == [Region(label="cat", box=(1, 2, 30, 40), confidence=0.75)]


def test_pixels_of_the_resized_image_need_its_size() -> None:
    with pytest.raises(Exception, match="is not known here"):
        found("[1, 2, 30, 40]", "pixels-of-resized")


def test_what_florence2s_processor_parsed_becomes_regions() -> None:
    parsed = {
        "<OPEN_VOCABULARY_DETECTION>": {
            "bboxes": [[10, 20, 30, 40]], "bboxes_labels": ["cat"],
            "polygons": [[[10.0, 10.0, 60.0, 12.0, 30.0, 50.0]]], "polygons_labels": ["dog"],
        }
    }  # fmt: skip
    regions, flags = find_regions(output("", parsed=parsed), CONVENTIONS["processor-tasks"], [SIZE])
    assert [(r.label, r.box, r.polygon) for r in regions] == [
        ("cat", (10, 20, 30, 40), None), ("dog", None, [(10, 10), (60, 12), (30, 50)]),
    ]  # fmt: skip
    assert flags == ()


def test_what_kosmos2s_processor_parsed_becomes_regions() -> None:
    parsed = ["a cat and a dog", [["a cat", [0, 5], [[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 1.0, 1.0]]]]]
    regions, _ = find_regions(output("", parsed=parsed), CONVENTIONS["processor-phrases"], [SIZE])
    assert [(r.label, r.box) for r in regions] == [
        ("a cat", (20, 20, 100, 60)),
        ("a cat", (100, 50, 200, 100)),
    ]


def test_regions_of_a_model_class_are_checked_like_any_other() -> None:
    own = [Region(label="cat", box=(150, 50, 260, 140)), Region(label="dog", point=(5, 5))]
    regions, flags = find_regions(output("", regions=own), CONVENTIONS["own"], [SIZE])
    assert [(r.box, r.point) for r in regions] == [((150, 50, 200, 100), None), (None, (5, 5))]
    assert flags == ("regions_mended",)


@pytest.mark.parametrize(
    "text", ["[" * 20_000, '{"' * 20_000, "<box>" * 20_000, "<point x=" * 10_000, "(1," * 9_000]
)
def test_hostile_text_is_read_in_little_time(text: str) -> None:
    for convention in ("0-1000", "location-tokens"):
        regions, _ = found(text[:30_000], convention)
        assert regions == []
