"""The output line has one definition: what is written follows its published schema, and every field has a column."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from pixano_vlm.errors import ImageError
from pixano_vlm.models import UsageInfo, VLMInput, VLMOutput
from pixano_vlm.outputs.tables import COLUMNS
from pixano_vlm.records import output_line
from pixano_vlm.records.output_line import FIRST, OutputLine, render
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result

REQUEST = Request(
    0, 1, "a", VLMInput(prompt="q", max_new_tokens=4), images=("a.jpg",), metadata={"k": 1}, id_hash=7
)
ANSWER = Result(
    REQUEST,
    output=VLMOutput(
        generated_text="text",
        usage=UsageInfo(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        generation_config={"max_new_tokens": 4},
        finish_reason="stop",
        parsed={"x": [1]},
    ),
    flags=("cut_off",),
    attempts=2,
)
FAILED = Result(REQUEST, error=ImageError("gone."))


def published() -> dict[str, Any]:
    file = output_line.__file__.replace(".py", ".schema.json")
    with open(file, encoding="utf-8") as text:  # noqa: PTH123 - beside a module
        schema: dict[str, Any] = json.load(text)
        return schema


@pytest.mark.parametrize("result", [ANSWER, FAILED])
def test_what_is_written_follows_the_published_schema_and_is_read_back_the_same(result: Result) -> None:
    data, _ = render(result, "m")
    values = json.loads(data)
    jsonschema.validate(values, published())
    line = OutputLine.model_validate(values)
    assert line.model_dump(mode="json") == {**OutputLine(id="", status="ok").model_dump(), **values}
    assert not line.model_extra


def test_the_published_schema_names_the_fields_and_requires_the_keys_of_the_first_version() -> None:
    assert list(published()["properties"]) == list(OutputLine.model_fields)
    assert published()["required"] == list(FIRST)


def test_every_line_has_the_keys_of_the_first_version_in_their_order() -> None:
    for result in (ANSWER, FAILED):
        assert list(json.loads(render(result, "m")[0]))[: len(FIRST)] == list(FIRST)


def test_a_table_has_a_column_for_every_field() -> None:
    flattened = {"usage": "total_tokens", "error": "error_type"}
    assert {flattened.get(name, name) for name in OutputLine.model_fields} <= COLUMNS.keys()


def test_a_key_of_a_later_version_is_not_an_error_to_a_reader() -> None:
    values = json.loads(render(ANSWER, "m")[0])
    line = OutputLine.model_validate({**values, "of_tomorrow": 1})
    assert line.model_extra == {"of_tomorrow": 1}
