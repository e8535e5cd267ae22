"""What a record gets does not depend on what else is in the batch: token for token, in float32, greedy.

The other side of every comparison is transformers' own `generate` on the record alone (`tests.tiny.reference`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.batching.workload import Record, answer_alone, load

from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.shapes import MODEL_DIR

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RECURRENT = ("qwen3_5", "lfm2_vl")
PLAIN = ("idefics3", "idefics3_tiles", "llava", "llava_next", "gemma3", "paligemma", "florence2")
WITH_TORCHVISION = ("mistral3", "qwen2_5_vl", "qwen3_vl", "internvl", *RECURRENT, "gemma4")
IN_FLIGHT = {"idefics3", "idefics3_tiles", "llava", "llava_next", "gemma3", "paligemma", *WITH_TORCHVISION}
NO_CACHES = {"image_cache_bytes": 0, "prefix_cache_bytes": 0}

Open = Callable[..., TransformersVLMModel]
Answered = Callable[[str, int], list[Record]]


ONCE = pytest.mark.once


def batched(model: TransformersVLMModel, records: list[Record], order: list[int]) -> list[list[int]]:
    """The tokens of the records, streamed in an order, returned in their own."""
    tokens = stream_tokens(model._require().stop, model.stream, [records[i].input for i in order])
    return [tokens[order.index(i)] for i in range(len(records))]


def assert_exact(model: TransformersVLMModel, records: list[Record], order: list[int]) -> None:
    got = batched(model, records, order)
    wrong = [i for i, record in enumerate(records) if got[i] != record.tokens]
    assert not wrong, f"records {wrong} differ; the first: {got[wrong[0]]} for {records[wrong[0]].tokens}"


@pytest.mark.parametrize("rows", [pytest.param(1, marks=ONCE), 4, pytest.param(32, marks=ONCE)])
@pytest.mark.parametrize("name", PLAIN + WITH_TORCHVISION)
def test_a_record_gets_the_same_tokens_in_a_batch_of_any_size_as_alone(
    name: str, rows: int, open_model: Open, answered: Answered
) -> None:
    records = answered(name, 20)
    assert_exact(open_model(name, max_batch_size=rows), records, list(range(len(records))))


@ONCE
@pytest.mark.parametrize("name", PLAIN + WITH_TORCHVISION)
def test_the_image_and_prefix_caches_change_no_token(name: str, open_model: Open, answered: Answered) -> None:
    records = answered(name, 20)
    assert_exact(open_model(name, max_batch_size=4, **NO_CACHES), records, list(range(len(records))))


@ONCE
@pytest.mark.parametrize("name", ["idefics3", "llava_next", "gemma3", "qwen2_5_vl"])
def test_the_order_of_the_manifest_changes_no_token(name: str, open_model: Open, answered: Answered) -> None:
    records = answered(name, 20)
    order = list(range(len(records)))
    for seed in range(2):
        random.Random(seed).shuffle(order)
        assert_exact(open_model(name, max_batch_size=4), records, order)


@ONCE
@pytest.mark.parametrize("budget", [1, 300, 900])
def test_a_small_budget_of_tokens_changes_no_token(budget: int, open_model: Open, answered: Answered) -> None:
    records = answered("idefics3", 20)
    model = open_model("idefics3", max_batch_tokens=budget, prefill_tokens=64)
    assert_exact(model, records, list(range(len(records))))


@pytest.mark.parametrize("name", PLAIN + WITH_TORCHVISION)
def test_static_batches_are_exact_too(name: str, open_model: Open, answered: Answered) -> None:
    records = answered(name, 20)
    assert_exact(open_model(name, engine="static", max_batch_size=8), records, list(range(len(records))))


@pytest.mark.parametrize("name", PLAIN + WITH_TORCHVISION)
def test_decoders_with_keys_and_values_alone_run_in_flight(name: str, open_model: Open) -> None:
    assert open_model(name)._require().capabilities.in_flight == (name in IN_FLIGHT)


def test_questions_about_one_image_share_its_encoding_and_its_prefix(
    open_model: Open, pictures: list[Any]
) -> None:
    model = open_model("llava_next")
    same, copy = pictures[0], pictures[-1]
    asked = ["What is this?", "How many birds are there in this picture?", "Name a colour.", "Why?"]
    inputs = [
        VLMInput(prompt=prompt, images=[image], max_new_tokens=4, temperature=0)
        for prompt in asked
        for image in (same, copy)
    ]
    engine = model._require().engine
    assert engine is not None
    engine.runner.encoder.clear()
    engine.runner.prefixes.clear()
    encoded, reused = engine.runner.encoder.encoded, engine.runner.prefixes.reused_tokens
    for _ in model.stream(enumerate(inputs)):
        pass
    assert engine.runner.encoder.encoded - encoded == 1, "two paths with the same content are one image"
    assert engine.runner.prefixes.reused_tokens - reused >= 7 * 16


def sampled(seed: int, pictures: list[Any], prompt: str = "Tell a story.") -> VLMInput:
    return VLMInput(
        prompt=prompt,
        images=[pictures[seed % 3]],
        max_new_tokens=24,
        temperature=0.9,
        top_p=0.95,
        top_k=50,
        min_p=0.01,
        repetition_penalty=1.1,
        seed=seed,
    )


@ONCE
@pytest.mark.parametrize("name", ["idefics3", "gemma3", "florence2"])
def test_a_seed_gives_the_same_text_alone_in_a_batch_and_in_another_batch(
    name: str, open_model: Open, answered: Answered, pictures: list[Any]
) -> None:
    model = open_model(name, max_batch_size=8)
    others = [record.input for record in answered(name, 20)]
    mine = [sampled(seed, pictures) for seed in range(4)]

    def texts(inputs: list[VLMInput]) -> dict[int, str]:
        answers = dict(model.stream((id(input), input) for input in inputs))
        found = [answers[id(input)] for input in mine if id(input) in answers]
        assert all(isinstance(answer, VLMOutput) for answer in found)
        return {input.seed or 0: answers[id(input)].generated_text for input in mine if id(input) in answers}  # type: ignore[union-attr]

    alone = {seed: text for input in mine for seed, text in texts([input]).items()}
    assert texts(mine + others) == alone
    assert texts(others[::-1] + mine[::-1]) == alone
    assert len(set(alone.values())) == len(alone), "different seeds give different texts"


def test_temperature_zero_is_greedy_and_above_zero_really_samples(
    open_model: Open, pictures: list[Any]
) -> None:
    model = open_model("idefics3")
    greedy = VLMInput(prompt="Tell.", images=[pictures[0]], max_new_tokens=16, temperature=0)
    assert len({model.predict(greedy).generated_text for _ in range(3)}) == 1
    hot = [
        model.predict(greedy.model_copy(update={"temperature": 1.5, "seed": s})).generated_text
        for s in range(4)
    ]
    assert len(set(hot)) > 1
    assert model.predict(greedy).generation_config == {
        "max_new_tokens": 16,
        "do_sample": False,
        "temperature": 0.0,
    }


def test_a_stop_string_ends_the_text_before_it(open_model: Open, pictures: list[Any]) -> None:
    model = open_model("llava")
    free = VLMInput(prompt="Tell.", images=[pictures[1]], max_new_tokens=40, temperature=0)
    whole = model.predict(free)
    stop = whole.generated_text[4:7]
    assert stop.strip(), "the model says something to stop at"
    cut = model.predict(free.model_copy(update={"stop": [stop, "never said"]}))
    assert cut.finish_reason == "stop"
    assert cut.generated_text == whole.generated_text[: whole.generated_text.find(stop)].strip()
    assert cut.usage.completion_tokens < whole.usage.completion_tokens


@ONCE
@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("name", ["shapes", "llava"])
def test_batches_of_one_three_and_sixteen_agree_and_count_their_tokens(
    name: str, rows: int, checkpoint: Callable[[str], Any], pictures: list[Any]
) -> None:
    folder = MODEL_DIR if name == "shapes" else checkpoint(name)
    model = load(folder, max_batch_size=rows)
    loaded = model._require()
    inputs = [
        VLMInput(
            prompt=" ".join(["What colour is the circle?", "Is there a red star?", "Describe."][: 1 + i % 3]),
            images=pictures[: i % 3],
            max_new_tokens=12,
            temperature=0,
        )
        for i in range(18)
    ]
    alone = answer_alone(model, inputs)
    assert_exact(model, alone, list(range(len(inputs))))
    for i, answer in model.stream(enumerate(inputs)):
        assert isinstance(answer, VLMOutput)
        prompt, completion = len(loaded.maker.make(inputs[i]).ids), len(alone[i].tokens)
        assert answer.usage.prompt_tokens == prompt
        assert answer.usage.completion_tokens == completion, "the end token counts once, padding never"
        assert answer.usage.total_tokens == prompt + completion
        ended = alone[i].tokens[-1] in loaded.stop.end_ids
        assert answer.finish_reason == ("stop" if ended else "length")
