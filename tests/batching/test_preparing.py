"""What the model is fed is what its processor gives, for every way that processors have of giving it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.batching.workload import Record, requests
from tests.conformance.running import Alone, compare
from tests.tiny.reference import prepare_alone
from transformers import AutoProcessor

from pixano_vlm.batching.image_memo import DIGEST, ImageProcessorMemo
from pixano_vlm.batching.prepare import PromptMaker, options_for
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import VLMError
from pixano_vlm.models import VLMInput

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Open = Callable[..., TransformersVLMModel]
Answered = Callable[[str, int], list[Record]]

OF_EVERY_KIND = (
    "idefics3_tiles",
    "llava",
    "paligemma",
    "idefics",
    "chameleon",
    "git",
    "blip-2",
    "kosmos-2",
    "pix2struct",
    "vision-encoder-decoder",
    "vision-encoder-decoder_donut",
    "mllama",
    "cosmos3_edge",
    "qwen2_5_vl",
)
"""Chats, plain prompts, prompts for the decoder, masks over patches, bare pixels, token types given when asked."""


@pytest.mark.parametrize("name", OF_EVERY_KIND)
def test_a_prompt_holds_what_the_processor_gives_and_nothing_else(
    name: str, open_model: Open, checkpoint: Callable[[str], Path], pictures: list[Path]
) -> None:
    model = open_model(name)._require()
    processor = AutoProcessor.from_pretrained(checkpoint(name))  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    for request in requests(name, pictures, 4, longest=40):
        opened = [Image.open(path).convert("RGB") for path in request.images or []]
        assert isinstance(request.prompt, str)
        expected = prepare_alone(model.model, processor, request.prompt, opened)
        made = model.maker.make(request).tensors
        assert sorted(made) == sorted(expected)
        for key, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(made[key].to(value.dtype), value), key


@pytest.mark.parametrize("name", ["idefics", "pix2struct"])
def test_bare_pixels_and_masks_over_patches_reach_the_model(
    name: str, checkpoint: Callable[[str], Path], open_model: Open, pictures: list[Path]
) -> None:
    """IDEFICS' image processor gives a tensor and no mapping; Pix2Struct's mask is over the image."""
    inputs = requests(name, pictures, 16, longest=40)
    alone = Alone(checkpoint(name))
    wanted = [alone.answer(request) for request in inputs]
    assert not [difference for difference in compare(open_model(name), inputs, wanted) if difference]


@pytest.mark.parametrize("name", ["pix2struct", "vision-encoder-decoder", "pp_formulanet"])
def test_two_images_for_a_model_of_one_are_their_records_error_alone(
    name: str, open_model: Open, pictures: list[Path]
) -> None:
    asked = [
        VLMInput(prompt="What is this?", images=pictures[:count], max_new_tokens=4, temperature=0)
        for count in (1, 2, 1)
    ]
    answers = dict(open_model(name).stream(enumerate(asked)))
    assert [isinstance(answers[index], VLMError) for index in range(3)] == [False, True, False]


def test_verify_sees_a_prompt_that_was_prepared_wrongly(
    open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model("pix2struct")
    assert model.verify().ok
    make = PromptMaker._process

    def forgetful(self: PromptMaker, *args: Any) -> Any:
        tensors, images = make(self, *args)
        del tensors["attention_mask"]
        return tensors, images

    monkeypatch.setattr(PromptMaker, "_process", forgetful)
    found = model.verify()
    assert not found.ok
    assert found.first_difference


def test_an_image_processor_that_gives_bare_pixels_is_passed_through() -> None:
    memo = ImageProcessorMemo(lambda images: torch.full((len(images), 3, 2, 2), float(len(images))), 2**20)
    picture = Image.new("RGB", (2, 2))
    picture.info[DIGEST] = b"0"
    with memo.watch() as seen:
        assert memo([picture]).shape == (1, 3, 2, 2)
        assert memo([picture, picture]).shape == (2, 3, 2, 2)
    assert not seen, "pixels without a name cannot be handed to a vision encoder"


class _Asked:
    return_mm_token_type_ids = False


class _Given:
    return_mm_token_type_ids = True


class _Takes:
    def forward(self, input_ids: Any, mm_token_type_ids: Any = None) -> None: ...


class _Leaves:
    def forward(self, input_ids: Any) -> None: ...


def test_token_types_are_asked_for_where_the_model_takes_them_and_its_processor_waits_to_be_asked() -> None:
    def asked(processor: Any, model: Any) -> Mapping[str, Any]:
        return options_for(processor, model)

    assert asked(_Asked(), _Takes()) == {"return_mm_token_type_ids": True}
    assert not asked(_Given(), _Takes())
    assert not asked(_Asked(), _Leaves())
    assert not asked(object(), _Takes())


def test_an_image_that_several_threads_want_at_once_is_processed_once() -> None:
    picture = Image.new("RGB", (8, 8))
    picture.info[DIGEST] = b"one"
    together, calls = threading.Barrier(3), []

    def process(images: Any, **options: Any) -> dict[str, torch.Tensor]:
        calls.append(images)
        time.sleep(0.05)  # long enough for the others to come; if they are late, they find it kept
        return {"pixel_values": torch.ones(1, 3, 8, 8)}

    memo = ImageProcessorMemo(process, 2**20)

    def ask(_: int) -> Any:
        together.wait()
        return memo([picture])["pixel_values"].sum()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, range(3))) == [192, 192, 192]
    assert len(calls) == 1


def test_an_image_whose_processing_fails_is_tried_by_each_that_wants_it() -> None:
    picture = Image.new("RGB", (8, 8))
    picture.info[DIGEST] = b"one"
    calls = []

    def process(images: Any, **options: Any) -> Any:
        calls.append(images)
        raise ValueError("not this one")

    memo = ImageProcessorMemo(process, 2**20)
    for _ in range(2):
        with pytest.raises(ValueError, match="not this one"):
            memo([picture])
    assert len(calls) == 2
