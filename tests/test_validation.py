"""What pydantic finds wrong is said in this package's words, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from pixano_vlm.models import GenerationSettings, ModelDeploymentConfig, VLMInput, VLMOutput
from pixano_vlm.models.deployment import TransformersParams
from pixano_vlm.validation import first_problem


def message(kind: type[BaseModel], **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        kind(**values)
    return first_problem(caught.value).message()


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (VLMInput, {"prompt": "a", "max_new_tokens": 0}, "max_new_tokens must be 1 or more, not 0."),
        (VLMInput, {"prompt": "a", "max_new_tokens": "x"}, "max_new_tokens must be a whole number, not 'x'."),
        (VLMInput, {"prompt": "a"}, "the key 'max_new_tokens' is missing."),
        (VLMInput, {"prompt": 3, "max_new_tokens": 1}, "prompt must be a string or a list, not 3."),
        (VLMInput, {"prompt": ["a"], "max_new_tokens": 1}, "prompt.0 must be a mapping, not 'a'."),
        (VLMInput, {"prompt": "a", "max_new_tokens": 1, "max_tokens": 2}, "unknown key 'max_tokens'."),
        (GenerationSettings, {"temperature": float("nan")}, "temperature must be a finite number, not nan."),
        (TransformersParams, {"path": ""}, "path must not be empty."),
        (TransformersParams, {"path": "a", "quantization": 4}, "quantization must be 'int8' or 'int4', not 4."),
        (ModelDeploymentConfig, {"name": "a", "generation": {"top_p": 2}},
         "generation.top_p must be at most 1, not 2."),
        (VLMOutput, {"generated_text": "a", "usage": {}}, "the key 'usage.prompt_tokens' is missing."),
    ],
)  # fmt: skip
def test_a_fault_is_said_with_its_key_what_it_must_be_and_what_it_was(
    kind: type[BaseModel], values: dict[str, Any], said: str
) -> None:
    assert message(kind, **values) == said


def test_an_unknown_key_comes_with_the_nearest_known_one() -> None:
    with pytest.raises(ValidationError) as caught:
        VLMInput(prompt="a", max_new_tokens=1, tempreture=1)  # type: ignore[call-arg]  # misspelt on purpose
    problem = first_problem(caught.value)
    assert problem.hint(list(VLMInput.model_fields)) == "Did you mean 'temperature'?"


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**70,
    0.5,
    float("nan"),
    "",
    "x",
    "é" * 99,
    [],
    ["x", 3],
    [None],
    {},
    {"x": 1},
]
KINDS: list[type[BaseModel]] = [
    GenerationSettings,
    ModelDeploymentConfig,
    TransformersParams,
    VLMInput,
    VLMOutput,
]


def refusals(kind: type[BaseModel]) -> Iterator[ValidationError]:
    """Those of every odd value under every key."""
    for name in [*kind.model_fields, "prompts"]:
        for value in ODD:
            try:
                kind(**{name: value})
            except ValidationError as error:
                yield error


@pytest.mark.parametrize("kind", KINDS)
def test_pydantics_own_sentences_are_never_shown(kind: type[BaseModel]) -> None:
    refused = list(refusals(kind))
    assert len(refused) > len(ODD)
    for error in refused:
        said = first_problem(error).message()
        assert not any(found["msg"] in said for found in error.errors()), said
        assert said.endswith(".")
        assert "of another kind" not in said
