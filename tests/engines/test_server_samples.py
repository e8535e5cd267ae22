"""Several samples from a server: by its own `n`, or one by one where it gives fewer, or knows no `n`."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engines.scripted_server import Action, Handler, ScriptedServer, completion, says, status
from tests.engines.served import ask, collected, connect, impatient

from pixano_vlm.errors import GenerationError
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.models.samples import sample_seed

__all__ = ["collected", "connect", "impatient"]  # fixtures

pytest.importorskip("openai")
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def several(**settings: Any) -> VLMInput:
    return ask(**{"temperature": 1.0, "n": 5, "seed": 7, **settings})


def choices(*texts: str) -> dict[str, Any]:
    body = completion(
        texts[0], usage={"prompt_tokens": 7, "completion_tokens": 3 * len(texts), "total_tokens": 0}
    )
    body["choices"] = [
        {"index": number, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for number, text in enumerate(texts)
    ]
    return body


def by_n(most: int) -> Action:
    """Gives up to so many choices, each named by the seed that was asked for and its place."""

    def act(handler: Handler, body: dict[str, Any]) -> None:
        given = min(most, body.get("n", 1))
        handler.reply(200, choices(*(f"seed {body.get('seed')} choice {place}" for place in range(given))))

    return act


def texts(answer: VLMOutput) -> list[str]:
    return [sample.generated_text for sample in answer.samples or []]


def test_a_server_that_takes_n_is_asked_once(connect: Any) -> None:
    with ScriptedServer(always=by_n(100)) as server:
        answer = connect(server).predict(several())
    assert texts(answer) == [f"seed 7 choice {place}" for place in range(5)]
    assert [body["n"] for body in server.bodies] == [5]
    # It counts them together.
    assert answer.usage.model_dump() == {"prompt_tokens": 7, "completion_tokens": 15, "total_tokens": 22}
    assert all(sample.usage is None for sample in answer.samples or [])
    assert answer.generation_config["n"] == 5


@pytest.mark.parametrize("given", [1, 2, 4])
def test_the_choices_that_a_server_does_not_give_are_asked_for_by_themselves(
    given: int, connect: Any
) -> None:
    with ScriptedServer(always=by_n(given)) as server:
        answer = connect(server).predict(several())
    own = [(sample_seed(7, place) or 0) % 2**31 for place in range(5)]
    assert texts(answer) == [f"seed 7 choice {place}" for place in range(given)] + [
        f"seed {seed} choice 0" for seed in own[given:]
    ]
    assert [body.get("n") for body in server.bodies] == [5, *[None] * (5 - given)]
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.completion_tokens == 15


def test_a_server_that_refuses_n_is_asked_for_each_and_not_with_n_again(connect: Any) -> None:
    def refuses(handler: Handler, body: dict[str, Any]) -> None:
        act = status(400, "'n' : number must be 1") if "n" in body else by_n(1)
        act(handler, body)

    with ScriptedServer(always=refuses) as server:
        model = connect(server, concurrency=1)
        answers = [model.predict(several()) for _ in range(2)]
    assert all(len(texts(answer)) == 5 for answer in answers)
    assert ["n" in body for body in server.bodies] == [True] + [False] * 10


def test_a_seed_that_nobody_asked_for_is_sent_with_none_of_them(connect: Any) -> None:
    input = several()
    input.model_fields_set.discard("seed")
    with ScriptedServer(always=by_n(1)) as server:
        connect(server).predict(input)
    assert len(server.bodies) == 5
    assert all("seed" not in body for body in server.bodies)


def test_the_majority_is_the_answer_over_what_was_parsed(connect: Any) -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    body = choices('{"a": 1}', '{"a": 2}', '{ "a" : 1.0 }')
    with ScriptedServer(always=says(body)) as server:
        answer = connect(server).predict(several(n=3, response_format=schema))
    assert answer.parsed == {"a": 1}
    assert answer.agreement == pytest.approx(2 / 3, abs=1e-6)


def test_a_choice_that_holds_nothing_is_asked_for_again_and_a_filtered_one_is_the_records_error(
    connect: Any,
) -> None:
    body = choices("a", "b", "c")
    body["choices"][1] = {"index": 1, "finish_reason": "stop"}
    with ScriptedServer(says(body), always=by_n(1)) as server:
        assert texts(connect(server).predict(several(n=3))) == [
            "a", "c", f"seed {(sample_seed(7, 2) or 0) % 2**31} choice 0",
        ]  # fmt: skip
    body["choices"][1]["finish_reason"] = "content_filter"
    with ScriptedServer(always=says(body)) as server, pytest.raises(GenerationError, match="content filter"):
        connect(server).predict(several(n=3))


def test_samples_at_temperature_0_are_refused_before_the_server_is_asked(connect: Any) -> None:
    with ScriptedServer() as server:
        [(_, answer)] = connect(server).stream([(0, several(temperature=0.0))])
    assert "n is 5 at temperature 0" in str(answer)
    assert server.bodies == []
