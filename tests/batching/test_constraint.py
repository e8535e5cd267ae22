"""JSON that validates, whatever the model would rather say, in one batch with records that are free."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.batching.workload import Record, load
from transformers import AutoTokenizer

from pixano_vlm.batching.constraint import Grammars
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import PromptError
from pixano_vlm.models import VLMInput
from pixano_vlm.shapes import MODEL_DIR

pytest.importorskip("llguidance")
pytest.importorskip("jsonschema")

from tests.batching.schemas import SCHEMAS, asked, asked_of_all, assert_mixed, assert_valid

Open = Callable[..., TransformersVLMModel]


@pytest.mark.parametrize("engine", ["in-flight", "static"])
def test_a_random_model_answers_in_valid_json_beside_free_records_that_stay_exact(
    engine: str, open_model: Open, answered: Callable[[str, int], list[Record]], pictures: list[Any]
) -> None:
    free = [(record.input, record.tokens) for record in answered("idefics3", 20)]
    model = open_model("idefics3", max_batch_size=8, engine=engine)
    assert_mixed(model, asked_of_all(pictures[:5], 9), free)


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


FOUR = {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 4}
BOX = {
    "type": "object",
    "properties": {"box": FOUR, "count": {"type": "integer"}, "label": {"type": "string"}},
    "required": ["box", "count", "label"],
    "additionalProperties": False,
}


def constraint(schema: dict[str, Any], max_new_tokens: int) -> tuple[Any, Any]:
    """The state of one record, and the tokenizer of the embedded model."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    ends = frozenset([tokenizer.eos_token_id])
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    made = Grammars(tokenizer, len(tokenizer), ends).constrain(form, max_new_tokens)
    return made, tokenizer


def test_an_answer_is_left_alone_as_long_as_it_can_still_be_closed() -> None:
    """Numbers that something must follow are not closed by a brace or a bracket, but by a comma."""
    text = '{"box":[123,45,678,90],"count":17,"label":"two"}'
    state, tokenizer = constraint(BOX, 64)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    assert len(tokens) < 64
    assert [state.accept(token, 64 - done) for done, token in enumerate(tokens)] == tokens


@pytest.mark.parametrize("room", range(40, 60))
def test_a_number_that_never_ends_is_closed_in_time(room: int) -> None:
    state, tokenizer = constraint(BOX, room)
    asked_for = tokenizer.encode('{"box":[1', add_special_tokens=False)
    asked_for += [tokenizer.convert_tokens_to_ids("7")] * room
    said = []
    while not state.is_complete and len(said) < room:
        said.append(state.accept(asked_for[len(said)], room - len(said)))
    value = json.loads(tokenizer.decode(said, skip_special_tokens=True))
    assert len(value["box"]) == 4
    assert value["box"][0] > 17


def test_a_schema_that_cannot_be_is_that_records_error(open_model: Open) -> None:
    model = open_model("idefics3")
    with pytest.raises(PromptError, match="cannot be enforced"):
        model.predict(asked({"type": "wrong"}))
    with pytest.raises(PromptError, match=r"takes about \d+ tokens or more; max_new_tokens is 3"):
        model.predict(asked(SCHEMAS["nested"], max_new_tokens=3))
    with pytest.raises(PromptError, match=r"takes about 10,001 tokens or more; max_new_tokens is 2,000"):
        model.predict(asked({"type": "string", "minLength": 20_000}, max_new_tokens=2_000))
    with pytest.raises(PromptError, match=r"cannot be enforced, at properties.a.items: Unimplemented"):
        model.predict(asked({"properties": {"a": {"items": {"not": {"type": "string"}}}}}))
    with pytest.raises(PromptError, match="has no schema"):
        model.predict(VLMInput(prompt="x", max_new_tokens=5, response_format={"type": "json_schema"}))
    with pytest.raises(PromptError, match="the type 'yaml'"):
        model.predict(VLMInput(prompt="x", max_new_tokens=5, response_format={"type": "yaml"}))


def test_a_missing_package_is_told_with_what_installs_it(
    checkpoint: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(checkpoint("idefics3"))
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(
        PromptError, match=r"needs the package llguidance. Run: pip install 'pixano-vlm\[json\]'"
    ):
        model.predict(asked(SCHEMAS["nested"]))


def test_the_seed_decides_a_constrained_answer_too(open_model: Open, pictures: list[Any]) -> None:
    model = open_model("idefics3")
    once, again, other = (
        model.predict(asked(SCHEMAS["nested"], images=[pictures[0]], temperature=1, seed=seed)).generated_text
        for seed in (1, 1, 2)
    )
    assert once == again != other
