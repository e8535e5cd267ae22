"""Regions of architectures with real processors: the size that is used is the processor's own."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from tests.tiny import ARCHITECTURES

from pixano_vlm.batching.image_size import image_sizes
from pixano_vlm.batching.postprocessor import Postprocessor
from pixano_vlm.catalog import load_catalog, resolve_model
from pixano_vlm.models import UsageInfo, VLMOutput
from pixano_vlm.models.region import CONVENTIONS, ImageSize, RegionConvention
from pixano_vlm.regions.find import find_regions

Box = tuple[int, int, int, int]

REGISTERED = {
    "qwen2_5_vl": "qwen2.5-vl-3b-instruct",
    "qwen3_vl": "qwen3-vl-2b-instruct",
    "paligemma": "paligemma-3b-mix-224",
    "florence2": "florence-2-base",
    "kosmos-2": "kosmos-2",
    "internvl": "internvl3-1b",
}
"""Architecture -> a registered model of it, whose config says how it writes coordinates."""


def convention(name: str) -> RegionConvention:
    config = load_catalog().get(REGISTERED[name])
    assert config is not None
    assert config.regions is not None
    return config.regions


def processor_of(name: str) -> Any:
    if missing := ARCHITECTURES[name].missing:
        pytest.skip(f"needs {', '.join(missing)}")
    return ARCHITECTURES[name].parts().processor


def images() -> list[tuple[Image.Image, Box]]:
    draw = random.Random(11)
    made = []
    for _ in range(40):
        width, height = draw.randrange(40, 400), draw.randrange(40, 400)
        x0, y0 = draw.randrange(0, width - 30), draw.randrange(0, height - 30)
        box = (x0, y0, draw.randrange(x0 + 15, width), draw.randrange(y0 + 15, height))
        made.append((Image.new("RGB", (width, height), (90, 20, 160)), box))
    return made


def known_size(processor: Any, image: Image.Image) -> ImageSize:
    """What the engine finds out, of what the image processor makes of an image."""
    features = dict(processor.image_processor([image], return_tensors="pt"))
    ids: Any = [0]
    return image_sizes([image.size], [features], processor.image_processor, ids, None)[0]


def found(name: str, text: str, size: ImageSize, parsed: Any = None) -> tuple[Any, Any]:
    output = VLMOutput(generated_text=text, usage=UsageInfo.of(1, 1), parsed=parsed)
    (region,), flags = find_regions(output, convention(name), [size])
    assert flags == ()
    return region.label, region.box


def within(pixels: float, box: Any, wanted: Box) -> bool:
    return max(abs(a - b) for a, b in zip(box, wanted, strict=True)) <= pixels


def scaled(box: Box, size: tuple[int, int], across: float, down: float) -> list[float]:
    (x0, y0, x1, y1), (width, height) = box, size
    return [x0 / width * across, y0 / height * down, x1 / width * across, y1 / height * down]


def test_qwen2_5_vls_pixels_are_those_of_the_grid_that_its_processor_makes() -> None:
    processor = processor_of("qwen2_5_vl")
    for image, box in images():
        size = known_size(processor, image)
        (_, rows, columns) = processor.image_processor([image], return_tensors="pt")["image_grid_thw"][
            0
        ].tolist()
        patch = processor.image_processor.patch_size
        assert (size.model_width, size.model_height) == (columns * patch, rows * patch)
        numbers = [round(number, 2) for number in scaled(box, image.size, columns * patch, rows * patch)]
        label, region = found(
            "qwen2_5_vl", f'```json\n[{{"bbox_2d": {numbers}, "label": "a cat"}}]\n```', size
        )
        assert label == "a cat"
        assert within(1, region, box)


Write = Callable[[list[int]], str]

THOUSANDTHS: list[tuple[str, Write]] = [
    ("qwen3_vl", lambda numbers: f'[{{"bbox_2d": {numbers}, "label": "a cat"}}]'),
    ("internvl", lambda numbers: f"<ref>a cat</ref><box>[{numbers}]</box>"),
]


@pytest.mark.parametrize(("name", "write"), THOUSANDTHS, ids=[row[0] for row in THOUSANDTHS])
def test_thousandths_need_no_size_but_the_images(name: str, write: Write) -> None:
    processor = processor_of(name)
    for image, box in images():
        numbers = [round(number) for number in scaled(box, image.size, 1000, 1000)]
        label, region = found(name, write(numbers), known_size(processor, image))
        assert label == "a cat"
        assert within(1, region, box)


def test_paligemmas_location_tokens_come_out_within_a_pixel() -> None:
    processor = processor_of("paligemma")
    square = processor.image_processor.size["height"]
    for image, box in images():
        size = known_size(processor, image)
        assert (size.model_width, size.model_height) == (square, square)
        x0, y0, x1, y1 = (round(number) for number in scaled(box, image.size, 1024, 1024))
        text = "".join(f"<loc{number:04}>" for number in (y0, x0, y1, x1)) + " a cat"
        assert found("paligemma", text, size)[0] == "a cat"
        assert within(1, found("paligemma", text, size)[1], box)


def test_florence2s_own_parser_finds_the_box() -> None:
    processor = processor_of("florence2")
    # As published checkpoints have it in their processor's config.
    processor.post_processor.parse_task_config = {"description_with_bboxes": {}}
    parser = Postprocessor(processor)
    for image, box in images():
        numbers = [min(int(number), 999) for number in scaled(box, image.size, 1000, 1000)]
        text = "a cat" + "".join(f"<loc_{number}>" for number in numbers)
        parsed = parser.parsed(text, "<OD>", image.size)
        label, region = found("florence2", text, known_size(processor, image), parsed)
        assert label == "a cat"
        assert within(1, region, box)


def test_kosmos2s_own_parser_finds_the_patches() -> None:
    """A box of whole patches, since it knows no finer ones: their middles are its corners."""
    processor = processor_of("kosmos-2")
    parser, draw = Postprocessor(processor), random.Random(5)
    side = 32  # what its parser counts with, whatever vocabulary it is given
    for image, _ in images():
        width, height = image.size
        left, top = draw.randrange(side - 2), draw.randrange(side - 2)
        right, bottom = draw.randrange(left + 1, side), draw.randrange(top + 1, side)
        text = (
            f"<phrase>a cat</phrase><object><patch_index_{top * side + left:04}>"
            f"<patch_index_{bottom * side + right:04}></object>"
        )
        corners = [(left, width), (top, height), (right, width), (bottom, height)]
        wanted: Any = [(place + 0.5) / side * pixels for place, pixels in corners]
        label, region = found(
            "kosmos-2", text, known_size(processor, image), parser.parsed(text, "", image.size)
        )
        assert label == "a cat"
        assert within(1, region, wanted)


def test_a_parser_that_refuses_an_answer_leaves_it_as_it_is() -> None:
    assert Postprocessor(processor_of("florence2")).parsed("a cat", "What is there?", (10, 10)) is None
    assert Postprocessor(object()).parsed("a cat", "<OD>", (10, 10)) is None


@pytest.mark.parametrize("name", REGISTERED.values())
def test_a_registered_model_has_its_convention(name: str) -> None:
    config = load_catalog().get(name)
    assert config is not None
    assert config.regions is not None


def test_an_id_or_a_folder_has_the_convention_of_the_registered_models_like_it(tmp_path: Any) -> None:
    catalog = load_catalog()
    registered = resolve_model("Qwen/Qwen2.5-VL-3B-Instruct", catalog)
    assert registered.regions == CONVENTIONS["pixels-of-resized"]
    (tmp_path / "config.json").write_text('{"model_type": "paligemma"}')
    assert resolve_model(str(tmp_path), catalog).regions == CONVENTIONS["location-tokens"]
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    assert resolve_model(str(tmp_path), catalog).regions is None
