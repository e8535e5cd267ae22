"""Whatever goes wrong with one record, or with one stream, the others get their answers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.batching.schemas import SCHEMAS
from tests.batching.workload import Record, load
from tests.tiny import build

from pixano_vlm.batching.cache_argument import cache_argument
from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import GenerationError, RunError
from pixano_vlm.models import VLMInput, VLMOutput

pytestmark = pytest.mark.once

Open = Callable[..., TransformersVLMModel]
Answered = Callable[[str, int], list[Record]]

NUCLEI: list[dict[str, Any]] = [
    {"top_p": 0.05},
    {"top_k": 1},
    {"min_p": 0.99},
    {"top_k": 3, "top_p": 0.5, "repetition_penalty": 1.3},
]


@pytest.mark.parametrize("engine", ["auto", "static"])
@pytest.mark.parametrize("nucleus", NUCLEI)
def test_a_schema_holds_though_the_likeliest_few_tokens_are_none_of_its(
    nucleus: dict[str, Any], engine: str, open_model: Open
) -> None:
    model = open_model("llava", max_batch_size=4, engine=engine)
    inputs = [
        VLMInput(
            prompt=f"Name {number}.",
            max_new_tokens=64,
            temperature=0.7,
            seed=number,
            response_format={"type": "json_schema", "json_schema": {"name": "it", "schema": schema}},
            **nucleus,
        )
        for number, schema in enumerate(SCHEMAS.values())
    ]
    for index, answer in model.stream(enumerate(inputs)):
        assert isinstance(answer, VLMOutput), answer
        jsonschema.validate(json.loads(answer.generated_text), list(SCHEMAS.values())[index])


@pytest.mark.parametrize("settings", [{"temperature": 1.0}, {"temperature": 1.0, "top_k": 5}])
def test_logits_that_are_not_finite_are_one_records_error(
    settings: dict[str, float], open_model: Open
) -> None:
    """As where float16 overflows: what the ended record leaves in memory spoils no later one in its row either."""
    model = open_model("llava", max_batch_size=2, prefix_cache_bytes=0)
    network = model._require().model
    longer = (VLMInput(prompt="Long " * n, temperature=0, max_new_tokens=64) for n in range(90, 120))
    companion = next(input for input in longer if model.predict(input).usage.completion_tokens > 20)
    overflown = VLMInput(prompt="Nothing " * 60, seed=1, max_new_tokens=64, **settings)
    later = [VLMInput(prompt=word * 2, temperature=0, max_new_tokens=3) for word in "ABCDEFGHIJKL"]
    inputs = [companion, overflown, *later]
    expected = [model.predict(input).generated_text for input in (companion, *later)]
    bad = model._require().maker.make(overflown).ids.tolist()
    forward, cache = network.forward, cache_argument(network.forward)

    def overflowing(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        for row, ids in enumerate(kwargs["input_ids"].tolist()):
            if ids[-len(bad) :] == bad:
                output.logits[row] = float("nan")
                span = kwargs[cache].span
                for layer in kwargs[cache].layers:
                    layer.values[span.rows.start + row, :, span.end - len(bad) : span.end] = float("nan")
        return output

    network.forward = overflowing
    try:
        answers = dict(model.stream(enumerate(inputs)))
    finally:
        del network.forward
    failed = answers.pop(1)
    assert isinstance(failed, GenerationError)
    texts = [answers[i].generated_text for i in sorted(answers)]  # type: ignore[union-attr]
    assert texts == expected


def test_a_stream_within_a_stream_is_refused_and_the_outer_one_loses_nothing(
    open_model: Open, answered: Answered
) -> None:
    records = answered("llava", 12)
    model = open_model("llava", max_batch_size=2)
    seen = []
    for index, answer in model.stream((i, record.input) for i, record in enumerate(records)):
        assert isinstance(answer, VLMOutput)
        seen.append(index)
        with pytest.raises(RunError, match="answering another stream"):
            model.predict(records[0].input)
    assert sorted(seen) == list(range(len(records)))
    assert isinstance(model.predict(records[0].input), VLMOutput), "and afterwards it is free again"


def test_a_stream_that_is_left_is_closed(open_model: Open, answered: Answered) -> None:
    records = answered("llava", 12)
    model = open_model("llava", max_batch_size=2)
    left = model.stream((i, record.input) for i, record in enumerate(records))
    next(left)
    left.close()  # type: ignore[attr-defined]  # a generator
    assert stream_tokens(model._require().stop, model.stream, [records[0].input])[0] == records[0].tokens


@pytest.mark.parametrize("engine", ["auto", "static"])
def test_a_device_that_has_failed_ends_the_run_and_no_record_is_blamed(
    engine: str, open_model: Open, answered: Answered
) -> None:
    records = answered("llava", 12)
    model = open_model("llava", max_batch_size=2, engine=engine)
    network = model._require().model
    forward = network.forward
    calls = 0

    @functools.wraps(forward)  # `generate` looks at what a model's forward takes
    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 10:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return forward(*args, **kwargs)

    network.forward = dying
    stream = model.stream((i, record.input) for i, record in enumerate(records))
    answers: list[object] = []
    try:
        with pytest.raises(RunError, match="the device failed: CUDA error"):
            answers.extend(answer for _, answer in stream)
    finally:
        del network.forward
    assert all(isinstance(answer, VLMOutput) for answer in answers)


@pytest.mark.parametrize("engine", ["auto", "static"])
def test_requests_are_read_no_further_than_the_window_when_answers_are_long(
    engine: str, open_model: Open
) -> None:
    """Rows that leave more seldom than a record is prepared do not let the queue grow, nor do shapes that differ."""
    model = open_model("llava", max_batch_size=8, engine=engine)
    read = 0

    def counted() -> Iterator[tuple[int, VLMInput]]:
        nonlocal read
        for number in range(160):
            read += 1
            # Sampled, each would be a static batch of its own.
            warm = 0.5 if engine == "auto" else 0.0
            yield number, VLMInput(prompt="word " * (number % 40 + 1), max_new_tokens=16, temperature=warm)

    ahead = [read - answered_so_far for answered_so_far, _ in enumerate(model.stream(counted()))]
    assert len(ahead) == 160
    # The preparer's window, the queue, and the rows.
    assert max(ahead) <= 64 + 4 * 8 + 8 + 8


def test_two_records_without_a_seed_do_not_share_their_random_numbers(open_model: Open) -> None:
    for engine in ("auto", "static"):
        model = open_model("llava", max_batch_size=4, engine=engine)
        asked = VLMInput(prompt="A word.", max_new_tokens=12, temperature=1.5)
        answers = [answer for _, answer in model.stream((i, asked) for i in range(6))]
        assert len({a.generated_text for a in answers if isinstance(a, VLMOutput)}) > 1, engine


@pytest.mark.parametrize("engine", ["in-flight", "static"])
def test_what_a_checkpoint_forces_and_forbids_is_forced_and_forbidden_alone_and_in_a_batch(
    engine: str, tmp_path: Path, answered: Answered
) -> None:
    plain = answered("llava", 12)
    build("llava", tmp_path)
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    said = [token for record in plain for token in record.tokens if token != settings["eos_token_id"]]
    common = max(set(said), key=said.count)
    settings |= {"bad_words_ids": [[common]], "forced_eos_token_id": settings["eos_token_id"]}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    model = load(tmp_path, max_batch_size=8, engine=engine)
    inputs = [record.input for record in plain]
    alone = [stream_tokens(model._require().stop, model.stream, [one])[0] for one in inputs]
    together = stream_tokens(model._require().stop, model.stream, inputs)
    assert [together[i] for i in range(len(inputs))] == alone
    assert not any(common in tokens for tokens in alone)
    assert all(tokens[-1] == settings["eos_token_id"] for tokens in alone)


def test_a_penalty_counts_once_under_a_schema(open_model: Open) -> None:
    schema = {
        "type": "array",
        "items": {"enum": [*"abcdefghijklmnopqrstuvwxyz"]},
        "minItems": 10,
        "maxItems": 10,
    }
    asked = VLMInput(
        prompt="Which?",
        max_new_tokens=64,
        temperature=0,
        repetition_penalty=1.02,
        response_format={"type": "json_schema", "json_schema": {"name": "it", "schema": schema}},
    )
    in_flight = open_model("llava", engine="in-flight").predict(asked)
    assert open_model("llava", engine="static").predict(asked).generated_text == in_flight.generated_text
    unpenalised = asked.model_copy(update={"repetition_penalty": None})
    plain = open_model("llava", engine="static").predict(unpenalised)
    assert plain.generated_text != in_flight.generated_text
