"""JSON schemas of several sorts, and records that ask for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jsonschema

from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import VLMInput, VLMOutput

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


def asked(schema: dict[str, Any], **settings: Any) -> VLMInput:
    """A record whose answer must follow a schema."""
    given = {"prompt": "Tell.", "max_new_tokens": 96, "temperature": 0, **settings}
    return VLMInput(response_format={"type": "json_schema", "json_schema": {"schema": schema}}, **given)


def asked_of_all(pictures: Sequence[Any], count: int) -> list[VLMInput]:
    """So many records under every schema in turn, half of them sampled, with different room for the answer."""
    schemas = list(SCHEMAS.values())
    return [
        asked(
            schemas[number % len(schemas)],
            prompt=f"Question {number}",
            images=[pictures[number % len(pictures)]],
            temperature=number // 3 % 2,
            seed=number,
            max_new_tokens=(80, 96, 128)[number // 6 % 3],
        )
        for number in range(count)
    ]


def assert_valid(answer: object, schema: dict[str, Any]) -> None:
    """The answer is JSON that validates, ended by itself, and its value stands beside it."""
    assert isinstance(answer, VLMOutput), answer
    jsonschema.validate(json.loads(answer.generated_text), schema)
    assert answer.parsed == json.loads(answer.generated_text)
    assert answer.finish_reason == "stop"


def assert_mixed(
    model: TransformersVLMModel, constrained: Sequence[VLMInput], free: Sequence[tuple[VLMInput, list[int]]]
) -> None:
    """In one stream, every constrained record is valid and every free one has the tokens it has alone."""
    mixed: list[VLMInput] = []
    alone: dict[int, list[int]] = {}
    waiting, every = list(free), max(1, len(constrained) // max(1, len(free)))
    for number, input in enumerate(constrained):
        if number % every == 0 and waiting:
            record, tokens = waiting.pop(0)
            alone[len(mixed)] = tokens
            mixed.append(record)
        mixed.append(input)
    for record, tokens in waiting:
        alone[len(mixed)] = tokens
        mixed.append(record)
    answers: dict[int, object] = {}

    def stream(pairs: Any) -> Any:
        for key, answer in model.stream(pairs):
            answers[key] = answer
            yield key, answer

    together = stream_tokens(model._require().stop, stream, mixed)
    assert sorted(answers) == list(range(len(mixed)))
    for place, input in enumerate(mixed):
        if input.response_format is None:
            assert together[place] == alone[place], f"the free record {place} differs"
        else:
            assert_valid(answers[place], input.response_format["json_schema"]["schema"])
