"""A worker keeps its model's own batch full across many exchanges. No Ray runs here: a worker does not know it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pixano_vlm.engines.ray import worker as ray_worker
from pixano_vlm.engines.ray.shares import Share, Shares
from pixano_vlm.engines.ray.worker import Worker
from pixano_vlm.errors import GenerationError, ManifestError, RunError
from pixano_vlm.models import Limits, ModelDeploymentConfig, UsageInfo, VLMInput, VLMModel, VLMOutput
from pixano_vlm.models.deferred import Deferred, DeferredReader

ROWS, WINDOW = 16, 100


class Batching(VLMModel):
    """Answers `ROWS` at a time, chosen among the `WINDOW` that it reads ahead."""

    def load_model(self) -> None:
        self.streams = 0
        self.together: list[int] = []

    def predict(self, input: VLMInput) -> VLMOutput:
        if input.prompt == "bad":
            raise GenerationError("bad")
        if input.prompt == "fatal":
            raise ValueError("a bug")
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=f"{input.prompt}!", usage=usage)

    def stream(self, inputs: Any) -> Iterator[Any]:
        self.streams += 1
        source, window, more = iter(inputs), [], True
        while more or window:
            while more and len(window) < WINDOW:
                item = next(source, None)
                more = item is not None
                if item is not None:
                    window.append(item)
            self.together.append(len(window[:ROWS]))
            for key, input in window[:ROWS]:
                try:
                    yield key, self.predict(input)
                except GenerationError as error:
                    yield key, error
            window = window[ROWS:]


def start() -> tuple[Worker, Batching]:
    model = Batching(ModelDeploymentConfig(name="m"))
    worker = Worker(model.config, lambda config: model, None)
    worker.load()
    return worker, model


def run(worker: Worker, prompts: list[str]) -> dict[int, Any]:
    """As the pool does: exchange after exchange, supplied from the records that are left."""
    source = ((n, VLMInput(prompt=prompt, max_new_tokens=1)) for n, prompt in enumerate(prompts))
    shares, share, answers = Shares(source, 1), Share[int](), {}
    while not shares.is_done():
        more = shares.fill(share)
        found, share.waiting, _ = worker.exchange(share.take_unsent(), more, Limits())
        for key, answer in found:
            shares.answered(share, key)
            answers[key] = answer
    return answers


def test_the_models_batch_is_full_from_the_first_record_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_worker, "STARVED", 60)  # however slow the machine is
    worker, model = start()
    answers = run(worker, [f"p{n}" for n in range(2000)])
    assert {key: answer.generated_text for key, answer in answers.items()} == {
        n: f"p{n}!" for n in range(2000)
    }
    assert model.streams == 1
    assert model.together == [ROWS] * (2000 // ROWS)


def test_a_model_that_reads_on_is_brought_more_before_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_worker, "PATIENCE", 60)
    monkeypatch.setattr(ray_worker, "STARVED", 60)
    worker, _ = start()
    items = [(n, VLMInput(prompt="a", max_new_tokens=1)) for n in range(WINDOW // 2)]
    with ThreadPoolExecutor() as pool:
        answers, waiting, _ = pool.submit(worker.exchange, items, True, Limits()).result(timeout=20)
    assert answers == []
    assert waiting < ray_worker.LOW


def test_a_second_stream_is_answered_as_the_first() -> None:
    worker, _ = start()
    assert len(run(worker, ["a"] * 50)) == len(run(worker, ["a"] * 50)) == 50


def test_a_bad_record_is_its_own_error() -> None:
    answers = run(start()[0], ["a", "bad", "c"])
    assert isinstance(answers[1], GenerationError)
    assert answers[2].generated_text == "c!"


def test_a_model_that_breaks_is_told_to_whoever_asks_next() -> None:
    with pytest.raises(RunError, match="the model failed: ValueError: a bug"):
        run(start()[0], ["a", "fatal", "c"])


def test_limits_reach_the_model() -> None:
    worker, model = start()
    worker.exchange([], False, Limits(max_images=3))
    assert model.limits == Limits(max_images=3)


class Reading(DeferredReader):
    """Reads a place as a prompt; one in ten has an error."""

    def __init__(self) -> None:
        self.read_places: list[Deferred] = []

    def read(self, key: Any, deferred: Deferred) -> VLMInput | None:
        self.read_places.append(deferred)
        return None if deferred.number % 10 == 9 else VLMInput(prompt=f"p{deferred.number}", max_new_tokens=1)

    def conclude(self, key: Any, answer: Any) -> Any:
        return (key, "wrong" if answer is None else answer.generated_text)


def test_deferred_requests_are_read_in_the_worker_and_answered_with_what_their_reader_makes_of_it() -> None:
    worker, _ = start()
    reader = Reading()
    worker.read_with(reader)
    asked: list[Any] = [(n, Deferred(0, n)) for n in range(40)]
    answers: dict[Any, Any] = {}
    while len(answers) < 40:
        got, _, _ = worker.exchange(asked, False, Limits())
        asked = []
        answers.update(got)
    assert answers == {n: (n, "wrong" if n % 10 == 9 else f"p{n}!") for n in range(40)}
    assert [place.number for place in reader.read_places] == list(range(40))


def test_a_part_that_cannot_be_read_is_said_to_the_next_caller() -> None:
    class Gone(Reading):
        def read(self, key: Any, deferred: Deferred) -> VLMInput | None:
            raise ManifestError("part-0.parquet cannot be read: gone.")

    worker, _ = start()
    worker.read_with(Gone())

    def ask() -> None:
        for _ in range(100):
            worker.exchange([(0, Deferred(0, 0))], False, Limits())

    with pytest.raises(ManifestError, match="gone"):
        ask()
