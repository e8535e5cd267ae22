"""Each value of an answer in JSON has a confidence of its own: of whole values, or of texts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.batching.workload import load

from pixano_vlm.batching.field_confidence import field_confidence
from pixano_vlm.models import VLMInput
from pixano_vlm.shapes import MODEL_DIR

pytestmark = pytest.mark.once

P = math.log(0.5)


@pytest.mark.parametrize(
    ("pieces", "logs", "schema", "expected"),
    [
        (["{", '"n":', "1", "2", "}"], [P, P, P, P, P], None, {"n": 0.25}),
        (['{"s":"', "ab", "cd", '"}'], [P, P, 3 * P, P], None, {"s": 0.25}),  # the geometric mean of 1/2 and 1/8
        (['{"s":"', "ab", "cd", '"}'], [P, P, P, P], {"properties": {"s": {"enum": ["abcd"]}}}, {"s": 0.25}),
        (["[", "true", ", ", "null", "]"], [P, P, P, 0.0, P], None, [0.5, 1.0]),
        (['{"a":{"b":[', "1", ',"', "x", '"]}}'], [P, P, P, 0.0, P], None, {"a": {"b": [0.5, 1.0]}}),
        (['{"e":"', '"', "}"], [0.0, P, 0.0], None, {"e": 0.5}),  # an empty text is its closing quote
        ([' {"k": ', "-1.5e3", " }"], [0.0, P, 0.0], None, {"k": 0.5}),
        (['{"s":"a', '\\"', 'b"}'], [0.0, P, 0.0], None, {"s": pytest.approx(0.5 ** (1 / 3), abs=1e-6)}),
        (["3"], [P], None, 0.5),
        (["{}"], [P], None, {}),
        (
            ['{"c":"', "red", '"}'], [P, P, 0.0],
            {"$defs": {"C": {"enum": ["red"]}}, "properties": {"c": {"$ref": "#/$defs/C"}}}, {"c": 0.5},
        ),
    ],
)  # fmt: skip
def test_each_value_of_an_answer_in_json_has_its_own(
    pieces: list[str], logs: list[float], schema: Any, expected: Any
) -> None:
    text = "".join(pieces).strip()
    found = field_confidence(text, pieces, logs, schema)
    assert found == expected
    assert _shape(found) == _shape(json.loads(text))


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    return [_shape(inner) for inner in value] if isinstance(value, list) else None


def test_an_answer_that_is_not_in_its_tokens_has_none() -> None:
    assert field_confidence('{"a":1}', ["other"], [0.0]) is None


def test_an_answer_under_a_schema_says_how_sure_each_value_is(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    output = load(MODEL_DIR).predict(
        VLMInput(
            prompt="Which colour?", images=[tmp_path / "a.png"], max_new_tokens=40, temperature=0, logprobs=True,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        )
    )  # fmt: skip
    assert output.logprobs is not None
    entries = output.logprobs["content"]
    assert "".join(entry["token"] for entry in entries).startswith(output.generated_text)
    assert output.field_confidence.keys() == output.parsed.keys()
    # Only two words are allowed, so the first letters decide, and what follows is forced.
    unsure = [entry["logprob"] for entry in entries if entry["logprob"] < -1e-6]
    found = list(output.field_confidence.values())
    assert math.log(found[0]) == pytest.approx(unsure[0], abs=1e-4)
    assert all(0 <= value <= 1 for value in found)
