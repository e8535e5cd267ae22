"""A schema in a line of words: what each word means, and what is said of one that means nothing."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_vlm.errors import UsageError
from pixano_vlm.prompts.concise_schema import WORDS, concise_schema, is_concise

TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        ("caption", {"caption": TEXT}),
        ("caption, count int", {"caption": TEXT, "count": {"type": "integer"}}),
        ("a str,b float , c bool", {"a": TEXT, "b": {"type": "number"}, "c": {"type": "boolean"}}),
        ("colours list", {"colours": {"type": "array", "items": TEXT}}),
        ("n list[int]", {"n": {"type": "array", "items": {"type": "integer"}}}),
        ("m list[list[float]]",
         {"m": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}}),
        ("kind enum(cat|big dog| none )", {"kind": {"enum": ["cat", "big dog", "none"]}}),
        ("kind enum(a, b), n", {"kind": {"enum": ["a", "b"]}, "n": TEXT}),
        ("c list[enum(r|g)]", {"c": {"type": "array", "items": {"enum": ["r", "g"]}}}),
        ("year int?", {"year": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}),
        ("year? int", {"year": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}),
        ("title?", {"title": {"anyOf": [TEXT, {"type": "null"}]}}),
        ("age int: in years", {"age": {"type": "integer", "description": "in years"}}),
        ("age: in years", {"age": {**TEXT, "description": "in years"}}),
        ("a int: one, two\nb: x: y", {"a": {"type": "integer", "description": "one, two"},
                                       "b": {**TEXT, "description": "x: y"}}),
        ("a,\nb int,\n", {"a": TEXT, "b": {"type": "integer"}}),
        ("größe INT, alt-text", {"größe": {"type": "integer"}, "alt-text": TEXT}),
    ],
)  # fmt: skip
def test_words_are_a_schema(text: str, properties: dict[str, Any]) -> None:
    schema = concise_schema(text)
    assert schema["properties"] == properties
    assert schema["required"] == list(properties)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("a, count itn", "count: there is no type 'itn'", "Did you mean 'int'?"),
        ("colours lst", "there is no type 'lst'", "Did you mean 'list'?"),
        ("a qqqq", "there is no type 'qqqq'", "Types are str"),
        ("a int, a", "the field 'a' is there twice", "Rename"),
        ("2 cats", "'2 cats' is not the name of a field", "letters"),
        ("a int years", "years behind the type is not understood", 'colon: "a int: years"'),
        ("a list[]", "what the list holds is not said", "list[int]"),
        ("a list[int", "what the list holds is not said", "list[int]"),
        ("a list[itn]", "there is no type 'itn'", "Did you mean 'int'?"),
        ("a enum", "the values are not said", "enum(red"),
        ("a enum(x||y)", "the values are not said", "enum(red"),
        (" , ", "names no field", "caption"),
        ("", "names no field", "caption"),
    ],
)
def test_a_word_that_means_nothing_is_named_with_what_was_meant(text: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        concise_schema(text, "--concise-schema")
    assert caught.value.message.startswith("--concise-schema")
    assert said in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_a_type_of_json_schema_and_can_be_asked_for(word: str) -> None:
    pytest.importorskip("jsonschema")
    pytest.importorskip("llguidance")
    from pixano_vlm.prompts.response_format import check_response_format

    schema = concise_schema(f"a {word}?, b list[{word}], c enum(x|y)")
    check_response_format({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})


@given(st.text(alphabet="ab ,?:|()[]\nintlesum1", max_size=30))
def test_any_text_is_a_schema_or_a_message(text: str) -> None:
    with suppress(UsageError):
        json.dumps(concise_schema(text))


def test_a_file_name_is_not_taken_for_one() -> None:
    assert is_concise("caption, count int")
    assert is_concise("count int")
    assert not any(map(is_concise, ("caption", "caption.json", "a/b.json", "answers.py:Caption")))
