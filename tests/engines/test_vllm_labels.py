"""Labels in vLLM: all requests together come to what each label has by itself, in whatever order they end."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
from tests.engines import stand_ins

from pixano_vlm.engines.vllm import labels as vllm_labels
from pixano_vlm.engines.vllm.model import VLLMVLMModel
from pixano_vlm.errors import PromptError
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMOutput
from pixano_vlm.shapes import MODEL_DIR

SPREAD = 3.0


@cache
def logs_after(ids: tuple[int, ...], vocabulary: int) -> list[float]:
    """The logarithms of a distribution that hangs on all tokens before."""
    chance = random.Random(crc32(repr(ids).encode()))
    scores = [chance.gauss(0, SPREAD) for _ in range(vocabulary)]
    whole = math.log(math.fsum(math.exp(score) for score in scores))
    return [score - whole for score in scores]


class Engine(stand_ins.Engine):
    """Answers in a random order; knows the probabilities of named tokens."""

    vocabulary = 1_000
    refuses_after = math.inf

    def __init__(self, args: Any) -> None:
        super().__init__(args)
        self.chance = random.Random(0)
        self.added = 0

    def add_request(self, id: str, prompt: Any, params: Any, tokenization_kwargs: Any) -> None:
        if self.added >= self.refuses_after:
            raise ValueError("no more")
        self.added += 1
        self.waiting.append((id, (prompt, params)))

    def step(self) -> list[Any]:
        id, (prompt, params) = self.waiting.pop(self.chance.randrange(len(self.waiting)))
        asked = getattr(params, "logprob_token_ids", None)
        answer = SimpleNamespace(finish_reason="length", token_ids=[1], logprobs=None)
        ids = prompt.get("prompt_token_ids") or [1, 2, 3]
        if asked is not None:
            assert len(asked) <= 128
            logs = logs_after(tuple(ids), self.vocabulary)
            answer.logprobs = [{token: SimpleNamespace(logprob=logs[token]) for token in asked}]
        return [SimpleNamespace(request_id=id, finished=True, outputs=[answer], prompt_token_ids=ids)]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[VLLMVLMModel]:
    monkeypatch.setattr(stand_ins, "Engine", Engine)
    stand_ins.install_vllm(monkeypatch)
    params = {"path": str(MODEL_DIR), "max_batch_size": 4}
    model = VLLMVLMModel(ModelDeploymentConfig(name="m", model_params=params))
    model.load_model()
    yield model
    model.unload()


def ask(labels: list[str], prompt: str = "Which?", **settings: Any) -> VLMInput:
    return VLMInput(
        **{"prompt": prompt, "max_new_tokens": 4, "temperature": 0, "choices": labels, **settings}
    )


def brute_force(model: VLLMVLMModel, input: VLMInput) -> dict[str, float]:
    """Each label appended, and scored by all of its tokens and the end after them."""
    ready = model._requests.prepare(input, model.limits)
    tree, ids = ready.labels, tuple(ready.prompt["prompt_token_ids"])
    assert tree is not None
    shares = {}
    for label, ends in zip(tree.labels, tree.ends, strict=True):
        share = 0.0
        for end in ends:
            tokens = tuple(tree.tokens[node] for node in tree.path(end))
            log = sum(
                logs_after(ids + tokens[:place], Engine.vocabulary)[token]
                for place, token in enumerate(tokens)
            )
            after = logs_after(ids + tokens, Engine.vocabulary)
            share += math.exp(log) * math.fsum(math.exp(after[end]) for end in model._requests.end_ids)
        shares[label] = share
    whole = math.fsum(shares.values())
    return {label: share / whole for label, share in shares.items()}


LABELS = {
    "two": ["red", "blue"],
    "that begin one another": ["a", "a star", "a star and a square", "star"],
    "many": [
        f"{a} {b}"
        for a in ("red", "blue", "big", "no")
        for b in ("square", "circle", "star", "triangle", "x")
    ],
}


@pytest.mark.parametrize("kind", LABELS)
def test_they_are_those_of_each_label_by_itself(model: VLLMVLMModel, kind: str) -> None:
    input = ask(LABELS[kind])
    answer = model.predict(input)
    expected = brute_force(model, input)
    assert answer.probabilities == pytest.approx(expected, abs=1e-6)
    assert math.fsum((answer.probabilities or {}).values()) == pytest.approx(1)
    assert answer.generated_text == max(expected, key=lambda label: expected[label])
    assert answer.confidence == pytest.approx(max(expected.values()), abs=1e-6)
    assert answer.generation_config == {"do_sample": False, "choices": LABELS[kind]}


def test_more_next_tokens_than_one_request_may_name_are_asked_in_several(
    model: VLLMVLMModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_labels, "MOST_TOKENS", 2)
    input = ask(LABELS["many"])
    assert model.predict(input).probabilities == pytest.approx(brute_force(model, input), abs=1e-6)


def test_records_with_labels_are_answered_beside_others(model: VLLMVLMModel) -> None:
    inputs = [
        ask(LABELS["many"], prompt=f"Which {number}?")
        if number % 2
        else VLMInput(prompt="Free.", max_new_tokens=4, temperature=0)
        for number in range(20)
    ]
    found: dict[int, Any] = dict(model.stream(enumerate(inputs)))
    assert len(found) == 20
    for number, input in enumerate(inputs):
        wanted = brute_force(model, input) if number % 2 else None
        assert found[number].probabilities == (wanted and pytest.approx(wanted, abs=1e-6))


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"labels": []}, "at least one label"),
        ({"labels": ["a", "a "]}, "twice"),
        ({"response_format": {"type": "json_object"}}, "cannot both be followed"),
        ({"n": 3, "temperature": 1.0}, "n is 3"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused_by_name(
    model: VLLMVLMModel, settings: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(PromptError, match=wrong):
        model.predict(ask(**{"labels": ["a", "b"], **settings}))


@pytest.mark.parametrize("refused", [0, 3])
def test_where_vllm_refuses_a_part_the_record_is_its_error_and_nothing_is_left(
    model: VLLMVLMModel, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "refuses_after", refused)
    [(_, answer)] = model.stream([(0, ask(LABELS["many"]))])
    assert isinstance(answer, PromptError)
    assert "no more" in str(answer)
    assert model._engine.waiting == []
    monkeypatch.setattr(Engine, "refuses_after", math.inf)
    assert isinstance(model.predict(ask(["a", "b"])), VLMOutput)


def test_a_vllm_that_names_no_tokens_says_so(model: VLLMVLMModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def older(**settings: Any) -> Any:
        if "logprob_token_ids" in settings:
            raise TypeError("unexpected keyword argument")
        return SimpleNamespace(**settings)

    monkeypatch.setattr(sys.modules["vllm.sampling_params"], "SamplingParams", older)
    with pytest.raises(PromptError, match="this version of vLLM"):
        model.predict(ask(["a", "b"]))
