"""The vote among samples, their seeds, and how a model that knows no samples is asked for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeModel, run

from pixano_vlm.errors import GenerationError, VLMError
from pixano_vlm.models import UsageInfo, VLMInput, VLMOutput
from pixano_vlm.models.samples import answers_of, in_samples, sample_inputs, sample_seed, vote
from pixano_vlm.outputs.openai_batch import to_batch_response
from pixano_vlm.records.output_line import read_line


def asked(**settings: Any) -> VLMInput:
    return VLMInput(**{"prompt": "p", "max_new_tokens": 4, "temperature": 1.0, "seed": 7, "n": 5, **settings})


def output(text: str, confidence: float | None = None, parsed: Any = None) -> VLMOutput:
    return VLMOutput(
        generated_text=text,
        parsed=parsed,
        confidence=confidence,
        usage=UsageInfo.of(10, 3),
        generation_config={"do_sample": True, "seed": 1},
    )


@pytest.mark.parametrize(
    ("samples", "answer", "agreement"),
    [
        (["red", "blue", "red"], "red", 2 / 3),
        (["Red.", "red", "blue"], "Red.", 2 / 3),
        (["two", "2", "three"], "two", 2 / 3),
        (["the cat", "a dog", "A cat!"], "the cat", 2 / 3),
        (["", "", "x"], "", 2 / 3),
        (["a b", "ab", "a  b"], "a b", 2 / 3),
        (["红", "蓝", "蓝"], "蓝", 2 / 3),
        (["one", "two", "three"], "one", 1 / 3),
    ],
)
def test_most_samples_win_by_what_they_say(samples: list[str], answer: str, agreement: float) -> None:
    chosen = vote(asked(n=3), [output(text) for text in samples])
    assert chosen.generated_text == answer
    assert chosen.agreement == pytest.approx(agreement, abs=1e-6)
    assert [sample.generated_text for sample in chosen.samples or []] == samples


def test_of_answers_that_as_many_give_the_likelier_wins_and_of_equal_ones_the_first() -> None:
    samples = [output("a", 0.5), output("b", 0.9), output("b", 0.2), output("a", 0.5)]
    assert vote(asked(n=4), samples).generated_text == "b"
    samples[2] = output("b", 0.1)
    assert vote(asked(n=4), samples).generated_text == "a"
    assert vote(asked(n=2), [output("x"), output("y")]).generated_text == "x"


def test_the_text_is_that_of_the_likeliest_sample_that_says_it() -> None:
    chosen = vote(asked(n=3), [output("Red.", 0.4), output("red", 0.8), output("blue", 0.99)])
    assert (chosen.generated_text, chosen.confidence) == ("red", 0.8)


@pytest.mark.parametrize(
    ("first", "second", "are_equal"),
    [
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": None}, {}, False),
        ({"a": "1"}, {"a": 1}, False),
        ([1, 2], [2, 1], False),
        (0, False, False),
    ],
)
def test_answers_in_json_vote_by_their_values(first: Any, second: Any, are_equal: bool) -> None:
    samples = [output("other", 0.1, {"z": 0}), output("x", 0.2, first), output("y", 0.1, second)]
    agreement = vote(asked(n=3), samples).agreement
    assert agreement == pytest.approx(2 / 3 if are_equal else 1 / 3, abs=1e-6)


def test_the_prompt_counts_once_and_all_samples_do() -> None:
    chosen = vote(asked(n=3), [output("a"), output("b"), output("c")])
    assert chosen.usage == UsageInfo.of(10, 9)
    assert (chosen.generation_config["n"], chosen.generation_config["seed"]) == (3, 7)
    assert [sample.usage for sample in chosen.samples or []] == [UsageInfo.of(10, 3)] * 3


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=9))
def test_no_answer_has_more_samples_than_the_one_that_wins(texts: list[str]) -> None:
    chosen = vote(asked(n=len(texts)), [output(text) for text in texts])
    assert texts.count(chosen.generated_text) == max(map(texts.count, texts))
    assert chosen.agreement == pytest.approx(texts.count(chosen.generated_text) / len(texts), abs=1e-6)


def test_the_first_sample_has_the_records_seed_and_the_seeds_are_what_they_always_were() -> None:
    assert [sample_seed(7, place) for place in range(3)] == [7, 2297865989351888797, 30500533372810803]
    assert sample_seed(None, 3) is None


@given(st.integers(0, 2**63 - 1))
def test_seeds_of_samples_are_seeds_and_all_different(seed: int) -> None:
    seeds = [sample_seed(other, place) for other in (seed, (seed + 1) % 2**63) for place in range(50)]
    assert len(set(seeds)) == 100
    assert all(one is not None and 0 <= one < 2**63 for one in seeds)


def test_a_sample_asks_what_its_record_asks_and_nothing_that_nobody_asked_for() -> None:
    input = asked(top_p=0.5)
    input.model_fields_set.discard("seed")  # as a run does with seeds that it derives
    samples = sample_inputs(input)
    assert [sample.seed for sample in samples] == [sample_seed(7, place) for place in range(5)]
    assert all(sample.n is None and sample.top_p == 0.5 for sample in samples)
    assert all(sample.model_fields_set == input.model_fields_set - {"n"} for sample in samples)


class Windowed(FakeModel):
    """Answers in another order than it is asked."""

    def __init__(self) -> None:
        super().__init__(window=7, shuffle=1, script={"bad": GenerationError("no")})


def test_a_model_that_knows_no_samples_is_asked_for_each_in_any_order() -> None:
    model = Windowed()
    inputs = [
        (0, asked()),
        (1, asked(n=None)),
        (2, asked(prompt="bad")),
        (3, asked(n=1)),
        (4, asked(temperature=0)),
    ]
    found: dict[int, Any] = dict(answers_of(model, inputs))
    assert [sample.generated_text for sample in found[0].samples] == [
        model.predict(sample).generated_text for sample in sample_inputs(asked())
    ]
    assert found[1].samples is None
    assert isinstance(found[2], GenerationError)
    assert found[3].samples is None
    assert "temperature 0" in str(found[4])


def test_a_second_answer_to_a_sample_does_not_count() -> None:
    class Twice(FakeModel):
        def stream(
            self, inputs: Iterable[tuple[Any, VLMInput]]
        ) -> Iterator[tuple[Any, VLMOutput | VLMError]]:
            for key, answer in super().stream(inputs):
                yield key, answer
                yield key, GenerationError("again")

    [(_, answer)] = list(in_samples(Twice().stream, [(0, asked())]))
    assert isinstance(answer, VLMOutput)
    assert len(answer.samples or []) == 5


def written(tmp_path: Path, *records: dict[str, Any]) -> list[dict[str, Any]]:
    manifest, place = tmp_path / "m.jsonl", tmp_path / "o.jsonl"
    manifest.write_text("".join(json.dumps(record) + "\n" for record in records))
    run(manifest, place)
    return [json.loads(line) for line in place.read_text().splitlines()]


def test_a_line_has_the_samples_and_how_many_agree(tmp_path: Path) -> None:
    several, one, wrong = written(
        tmp_path, {"prompt": "a", "n": 3}, {"prompt": "a"}, {"prompt": "a", "n": 3, "temperature": 0}
    )
    assert len(several["samples"]) == 3
    assert several["agreement"] == pytest.approx(1 / 3, abs=1e-6)
    assert several["samples"][0].keys() == {"generated_text", "usage", "finish_reason"}
    assert one.keys().isdisjoint({"samples", "agreement"})
    assert wrong["error"]["message"].startswith("m.jsonl:3: n is 3 at temperature 0")


def test_a_batch_file_with_n_gets_n_choices(tmp_path: Path) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    request = {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions"}
    line, single = written(
        tmp_path,
        {**request, "body": {**body, "n": 4}},
        {**request, "custom_id": "y", "body": {**body, "n": 1}},
    )
    choices = to_batch_response(read_line(json.dumps(line).encode()), 0)["response"]["body"]["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert [choice["message"]["content"] for choice in choices] == [
        one["generated_text"] for one in line["samples"]
    ]
    assert "n" not in single["generation_config"]
