"""Choices: the probabilities are those of each label alone behind the prompt, however they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.batching.likelihoods import plain_logs
from tests.batching.workload import WORDS, Record, load

from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import PromptError
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.prompts.labels import tree_of
from pixano_vlm.shapes import MODEL_DIR

pytestmark = pytest.mark.once

Open = Callable[..., TransformersVLMModel]

LABELS = {
    "that begin one another": ["cat", "cat sat", "cat sat on", "red cat"],
    "of 1 to 12 tokens": [" ".join(WORDS[:count]) for count in (1, 2, 4, 7, 12)],
    "in other scripts": ["猫", "猫と犬", "собака", "कुत्ता", "قطة", "cat"],
}


def asked(labels: list[str], picture: Path, **settings: Any) -> VLMInput:
    given = {"prompt": "tell me more", "images": [picture], "max_new_tokens": 8, **settings}
    return VLMInput(choices=labels, **given)


def alone(model: TransformersVLMModel, input: VLMInput) -> dict[str, float]:
    """Each label behind the prompt by a pass of its own, with each end token; what is then normalised."""
    loaded = model._require()
    prompt = model.show_prompt(input)["prompt"]
    free = input.model_copy(update={"choices": None})
    found = {}
    for label in input.choices or []:
        ways = [label] if prompt[-1].isspace() else [label, " " + label]
        written = {tuple(loaded.tokenizer(way, add_special_tokens=False)["input_ids"]) for way in ways}
        found[label] = sum(
            math.exp(math.fsum(plain_logs(model, free, [*tokens, end])))
            for tokens in written
            for end in loaded.stop.end_ids
        )
    whole = sum(found.values())
    return {label: value / whole for label, value in found.items()}


def assert_alone(answer: object, expected: dict[str, float]) -> None:
    assert isinstance(answer, VLMOutput), answer
    assert answer.probabilities == pytest.approx(expected, abs=1e-5)
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert answer.generated_text == max(expected, key=lambda label: expected[label])
    assert answer.confidence == pytest.approx(max(expected.values()), abs=1e-5)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", ["idefics3", "llava", "gemma3"])
def test_they_are_those_of_each_label_alone(
    kind: str, name: str, open_model: Open, pictures: list[Path]
) -> None:
    model = open_model(name, max_batch_size=4)
    inputs = [asked(LABELS[kind], picture) for picture in pictures[:2]]
    for input, (answer, _) in zip(inputs, _answers(model, inputs), strict=True):
        assert_alone(answer, alone(model, input))


def _answers(model: TransformersVLMModel, inputs: list[VLMInput]) -> list[tuple[Any, None]]:
    found = dict(model.stream(enumerate(inputs)))
    return [(found[number], None) for number in range(len(inputs))]


def test_300_labels_are_scored_too_and_all_at_once(open_model: Open, pictures: list[Path]) -> None:
    model = open_model("idefics3", max_batch_size=4)
    labels = [f"{a} {b} {c}" for a in WORDS[:10] for b in WORDS[:6] for c in WORDS[:5]]
    [(answer, _)] = _answers(model, [asked(labels, pictures[0])])
    assert_alone(answer, alone(model, asked(labels, pictures[0])))
    engine = model._require().engine
    assert engine is not None
    assert engine._labels._trees_are_exact


def test_static_batches_and_encoders_score_them_too(open_model: Open, pictures: list[Path]) -> None:
    static = open_model("idefics3", engine="static")
    input = asked(LABELS["that begin one another"], pictures[0])
    [(answer, _)] = _answers(static, [input])
    assert_alone(answer, alone(open_model("idefics3"), input))


def test_free_records_beside_them_keep_their_tokens(
    open_model: Open, answered: Callable[[str, int], list[Record]], pictures: list[Path]
) -> None:
    records = answered("idefics3", 20)
    model = open_model("idefics3", max_batch_size=4)
    inputs = []
    for number, record in enumerate(records):
        inputs += [record.input, asked(list(LABELS.values())[number % 3], pictures[number % 3])]
    with model._require().stop.recording() as tokens:
        found = dict(model.stream(enumerate(inputs)))
    assert [tokens[2 * number] for number in range(len(records))] == [record.tokens for record in records]
    assert all(found[number].probabilities for number in range(1, len(inputs), 2))  # type: ignore[union-attr]


def test_the_embedded_model_chooses_the_colour_it_would_say(pictures: list[Path]) -> None:
    model = load(MODEL_DIR)
    input = asked(["red", "green", "blue", "yellow"], pictures[0], prompt="What colour is the star?")
    [(answer, _)] = _answers(model, [input])
    assert_alone(answer, alone(model, input))


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"choices": []}, "at least one label"),
        ({"choices": ["cat", "dog", "cat "]}, "'cat ' twice"),
        ({"choices": ["cat", " "]}, "an empty label"),
        ({"response_format": {"type": "json_object"}}, "cannot both be followed"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused_by_name(
    settings: dict[str, Any], wrong: str, open_model: Open, pictures: list[Path]
) -> None:
    given = {"labels": ["a", "b"], "picture": pictures[0]}
    input = asked(**given).model_copy(update=settings)  # type: ignore[arg-type]
    [(answer, _)] = _answers(open_model("idefics3"), [input])
    assert isinstance(answer, PromptError)
    assert wrong in str(answer)


def test_labels_share_their_beginnings_and_none_may_be_anothers_tokens() -> None:
    words = {"": 0}

    def tokenize(text: str) -> list[int]:
        return [words.setdefault(word.lower(), len(words)) for word in text.split()]

    tree = tree_of(["big red cat", "big red dog", "big"], "say:\n", tokenize)
    assert tree.depths == (1, 2, 3, 3)
    assert tree.leaves == [2, 3]
    with pytest.raises(PromptError, match="'Cat' and 'cat' are the same tokens"):
        tree_of(["Cat", "cat"], "say:\n", tokenize)
