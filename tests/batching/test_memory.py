"""Memory runs out, or stays within its budgets: either way every record gets its exact answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.batching.workload import Record

from pixano_vlm.batching.cache_argument import cache_argument
from pixano_vlm.batching.engine import Engine
from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import GenerationError
from pixano_vlm.models import VLMInput

pytestmark = pytest.mark.once

Open = Callable[..., TransformersVLMModel]
Answered = Callable[[str, int], list[Record]]


@contextmanager
def failing(
    model: TransformersVLMModel, fails: Callable[[int, int], Exception | None]
) -> Iterator[list[int]]:
    """Every forward call asks `fails(number of the call, rows in it)`; yields the rows of each call."""
    network = model._require().model
    forward = network.forward
    calls: list[int] = []

    def guarded(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs["input_ids"].shape[0])
        error = fails(len(calls), calls[-1])
        if error is not None:
            if len(calls) % 4 > 1:
                forward(*args, **kwargs)  # far into the call: what it wrote must not count
            raise error
        return forward(*args, **kwargs)

    network.forward = guarded
    try:
        yield calls
    finally:
        del network.forward


def tokens(model: TransformersVLMModel, records: list[Record]) -> list[list[int]]:
    answers = stream_tokens(model._require().stop, model.stream, [record.input for record in records])
    return [answers[index] for index in range(len(records))]


@pytest.mark.parametrize("name", ["idefics3", "gemma3", "qwen3_5", "lfm2_vl"])
@pytest.mark.parametrize("tried", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_memory_may_run_out_at_any_one_call(
    tried: int, name: str, open_model: Open, answered: Answered
) -> None:
    records = answered(name, 12)
    model = open_model(name, max_batch_size=4)
    expected = [record.tokens for record in records]
    with failing(model, lambda call, rows: None) as calls:
        assert tokens(model, records) == expected
    whole = len(calls)
    assert whole > 20
    for bad in range(1, whole + 1, max(1, whole // tried)):
        with failing(
            model, lambda call, rows, bad=bad: torch.OutOfMemoryError("forced") if call == bad else None
        ):
            assert tokens(model, records) == expected, f"out of memory at call {bad} of {whole}"


@pytest.mark.parametrize("name", ["llava", "qwen3_5"])
def test_memory_may_run_out_while_rows_move(
    name: str, open_model: Open, answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any layer: those before it have moved then, and those after it have not."""
    records = answered(name, 12)
    model = open_model(name, max_batch_size=4, max_batch_tokens=4_000)
    expected = [record.tokens for record in records]
    new_zeros = torch.Tensor.new_zeros
    calls = 0

    def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == bad:
            raise torch.OutOfMemoryError("forced")
        return new_zeros(tensor, *args, **kwargs)

    cache = model._require().engine.runner.cache  # type: ignore[union-attr]
    monkeypatch.setattr(torch.Tensor, "new_zeros", counted)
    bad = 0
    cache.clear()
    assert tokens(model, records) == expected
    whole = calls
    assert whole > 8
    for bad in range(1, whole + 1):
        calls = 0
        cache.clear()
        assert tokens(model, records) == expected, f"out of memory at allocation {bad} of {whole}"


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("name", ["idefics3", "qwen3_5"])
def test_memory_may_run_out_at_every_other_call(
    name: str, first: int, rows: int, open_model: Open, answered: Answered
) -> None:
    records = answered(name, 12)
    model = open_model(name, max_batch_size=rows)

    def fails(call: int, rows: int) -> Exception | None:
        return torch.OutOfMemoryError("forced") if call % 2 == first else None

    for _ in range(3):  # which records meet depends on how fast each was prepared
        with failing(model, fails):
            assert tokens(model, records) == [record.tokens for record in records]


def test_batches_shrink_to_what_fits(open_model: Open, answered: Answered) -> None:
    records = answered("idefics3", 20)
    model = open_model("idefics3", max_batch_size=32)

    def fails(call: int, rows: int) -> Exception | None:
        return RuntimeError("DefaultCPUAllocator: can't allocate memory") if rows > 3 else None

    with failing(model, fails) as calls:
        assert tokens(model, records) == [record.tokens for record in records]
    assert max(calls[-5:]) <= 3


def test_a_record_too_large_alone_is_one_error_and_its_neighbours_are_answered(
    open_model: Open, answered: Answered
) -> None:
    records = answered("idefics3", 12)
    model = open_model("idefics3", max_batch_size=4)
    longest = max(model._require().maker.make(record.input).length for record in records)
    network = model._require().model
    forward, cache = network.forward, cache_argument(network.forward)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        fed, past = kwargs["input_ids"].shape[1], kwargs[cache].get_seq_length()
        if fed > 1 and fed + past >= longest:
            raise torch.OutOfMemoryError("forced")
        return forward(*args, **kwargs)

    network.forward = guarded
    try:
        answers = dict(model.stream((i, record.input) for i, record in enumerate(records)))
    finally:
        del network.forward
    failed = [i for i, answer in answers.items() if isinstance(answer, GenerationError)]
    assert len(answers) == len(records)
    assert failed
    assert all("memory ran out on this record alone" in str(answers[i]) for i in failed)
    assert len(failed) < len(records) / 2


def test_what_the_model_raises_on_one_record_is_that_records_error(
    open_model: Open, answered: Answered
) -> None:
    records = answered("llava", 12)
    model = open_model("llava", max_batch_size=4)
    prepared = model._require().maker.make(records[5].input)
    network = model._require().model
    forward = network.forward

    def guarded(*args: Any, **kwargs: Any) -> Any:
        ids = kwargs["input_ids"]
        if ids.shape[1] > 1 and any(row[-prepared.length :].tolist() == prepared.ids.tolist() for row in ids):
            raise ValueError("not this one")
        return forward(*args, **kwargs)

    network.forward = guarded
    model._require().engine.runner.prefixes.clear()  # type: ignore[union-attr]
    try:
        answers = dict(model.stream((i, record.input) for i, record in enumerate(records)))
    finally:
        del network.forward
    assert isinstance(answers[5], GenerationError)
    assert "not this one" in str(answers[5])
    assert [i for i, answer in answers.items() if isinstance(answer, Exception)] == [5]


def many_images(folder: Path, count: int) -> Iterator[tuple[int, VLMInput]]:
    for number in range(count):
        path = folder / f"many-{number}.png"
        shade = np.full((16, 16, 3), (number % 256, number // 256 % 256, 7), dtype=np.uint8)
        Image.fromarray(shade).save(path)
        yield number, VLMInput(prompt="What?", images=[path], max_new_tokens=2, temperature=0)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_keys_values_and_image_features_stay_within_their_budgets(
    count: int, open_model: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, prefixes = 40_000, 60_000
    model = open_model(
        "llava",
        max_batch_size=8,
        max_batch_tokens=2_000,
        image_cache_bytes=images,
        prefix_cache_bytes=prefixes,
    )
    engine = model._require().engine
    assert engine is not None
    seen = {"steps": 0, "evicted": 0}
    decode = Engine._decode

    def watched(self: Engine) -> None:
        seen["steps"] += 1
        assert self.runner.encoder.nbytes <= images
        assert self.runner.prefixes.nbytes <= prefixes
        assert sum(f.nbytes for f in self.runner.encoder._kept.values()) == self.runner.encoder.nbytes
        layer = next((layer for layer in self.runner.cache.layers if layer.keys is not None), None)
        assert layer is None or layer.keys.shape[0] * layer.keys.shape[2] <= 2_000
        decode(self)

    monkeypatch.setattr(Engine, "_decode", watched)
    answers = list(model.stream(many_images(tmp_path, count)))
    assert len(answers) == count
    assert not any(isinstance(answer, Exception) for _, answer in answers)
    assert seen["steps"] > count / 10
    assert engine.runner.encoder.encoded >= count


def test_requests_are_read_no_further_than_the_window(open_model: Open, tmp_path: Path) -> None:
    model = open_model("llava", max_batch_size=2)
    read = 0

    def counted() -> Iterator[tuple[int, VLMInput]]:
        nonlocal read
        for item in many_images(tmp_path, 200):
            read += 1
            yield item

    for answered_so_far, _ in enumerate(model.stream(counted())):
        assert read - answered_so_far <= 64 + 4 * 2 + 2
