"""JSON that validates, whatever the model would rather say, in one batch with records that are free."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.batching.workload import Record, load

from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.engines.transformers import TransformersVLMModel
from pixano_vlm.errors import PromptError
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.shapes import MODEL_DIR

pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

SCHEMAS: dict[str, dict[str, Any]] = {
    "nested": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2},
            "place": {
                "type": "object",
                "properties": {"row": {"enum": ["top", "bottom"]}, "left": {"type": "boolean"}},
                "required": ["row", "left"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "place"],
        "additionalProperties": False,
    },
    "array with bounds": {
        "type": "array",
        "items": {"enum": ["red", "green", "dark blue"]},
        "minItems": 2,
        "maxItems": 5,
    },
    "number ranges": {
        "type": "object",
        "properties": {
            "count": {"type": "integer", "minimum": 3, "maximum": 40},
            "sure": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "required": ["count", "sure"],
        "additionalProperties": False,
    },
}

Open = Callable[..., TransformersVLMModel]


def asked(schema: dict[str, Any], **settings: Any) -> VLMInput:
    given = {"prompt": "Tell.", "max_new_tokens": 96, "temperature": 0, **settings}
    return VLMInput(response_format={"type": "json_schema", "json_schema": {"schema": schema}}, **given)


def assert_valid(answer: object, schema: dict[str, Any]) -> None:
    assert isinstance(answer, VLMOutput), answer
    jsonschema.validate(json.loads(answer.generated_text), schema)
    assert answer.parsed == json.loads(answer.generated_text)
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("engine", ["in-flight", "static"])
def test_a_random_model_answers_in_valid_json_beside_free_records_that_stay_exact(
    engine: str, open_model: Open, answered: Callable[[str, int], list[Record]], pictures: list[Any]
) -> None:
    free = answered("idefics3", 20)
    model = open_model("idefics3", max_batch_size=8, engine=engine)
    schemas = [schema for schema in SCHEMAS.values() for _ in range(6)]
    inputs = [
        asked(
            schema,
            prompt=f"Question {number}",
            images=[pictures[number % 5]],
            temperature=number % 2,
            seed=number,
            max_new_tokens=(80, 96, 128)[number % 3],
        )
        for number, schema in enumerate(schemas)
    ]
    mixed: list[VLMInput] = []
    for number in range(len(free)):
        mixed += [free[number].input, *inputs[number : number + 1]]
    answers: dict[int, object] = {}

    def stream(pairs: Any) -> Any:
        for key, answer in model.stream(pairs):
            answers[key] = answer
            yield key, answer

    tokens = stream_tokens(model._require().ending, stream, mixed)
    for place, input in enumerate(mixed):
        if input.response_format is None:
            record = next(r for r in free if r.input is input)
            assert tokens[place] == record.tokens
        else:
            assert_valid(answers[place], input.response_format["json_schema"]["schema"])


def test_the_embedded_model_answers_in_valid_json(repository: Any) -> None:
    model = load(MODEL_DIR)
    picture = repository / "examples" / "shapes" / "images" / "001.jpg"
    inputs = [asked(schema, images=[picture]) for schema in SCHEMAS.values()]
    for number, answer in model.stream(enumerate(inputs)):
        assert_valid(answer, list(SCHEMAS.values())[number])
    free_form = VLMInput(
        prompt="Tell.",
        images=[picture],
        max_new_tokens=64,
        temperature=1,
        seed=1,
        response_format={"type": "json_object"},
    )
    assert isinstance(model.predict(free_form).parsed, dict)


def test_a_schema_that_cannot_be_is_that_records_error(open_model: Open) -> None:
    model = open_model("idefics3")
    with pytest.raises(PromptError, match="cannot be enforced"):
        model.predict(asked({"type": "wrong"}))
    with pytest.raises(PromptError, match=r"takes about \d+ tokens or more; max_new_tokens is 3"):
        model.predict(asked(SCHEMAS["nested"], max_new_tokens=3))
    with pytest.raises(PromptError, match="has no schema"):
        model.predict(VLMInput(prompt="x", max_new_tokens=5, response_format={"type": "json_schema"}))
    with pytest.raises(PromptError, match="the type 'yaml'"):
        model.predict(VLMInput(prompt="x", max_new_tokens=5, response_format={"type": "yaml"}))


def test_the_seed_decides_a_constrained_answer_too(open_model: Open, pictures: list[Any]) -> None:
    model = open_model("idefics3")
    once, again, other = (
        model.predict(asked(SCHEMAS["nested"], images=[pictures[0]], temperature=1, seed=seed)).generated_text
        for seed in (1, 1, 2)
    )
    assert once == again != other
