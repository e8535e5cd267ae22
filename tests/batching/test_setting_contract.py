"""What holds for every setting of generation: it changes an answer, the content key, a batch, and what is sent.

A setting without an example here fails, so that a new one cannot be forgotten in one of these places.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.batching.workload import load
from tests.fakes import FakeModel

from pixano_vlm.batching.static import SHARED
from pixano_vlm.cli.setting_flags import OTHERWISE, with_setting_flags
from pixano_vlm.engines.openai.request import RequestWriter
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import PromptError
from pixano_vlm.inputs.fields import CHECKS, suggestion
from pixano_vlm.models import Limits, VLMInput
from pixano_vlm.models.generation import (
    DEFAULT_GENERATION,
    SETTINGS,
    GenerationSettings,
    named_elsewhere,
    settings_used,
)
from pixano_vlm.records.content_key import ContentKey, settings_text
from pixano_vlm.records.request import Request
from pixano_vlm.shapes import MODEL_DIR

SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer"}}}

EXAMPLES: dict[str, Any] = {
    "max_new_tokens": 3,
    "temperature": 2.0,
    "top_p": 0.1,
    "top_k": 1,
    "min_p": 1.0,
    "repetition_penalty": 3.0,
    "stop": ["e"],
    "seed": 5,
    "n": 3,
    "response_format": SCHEMA,
    "min_new_tokens": 30,
    "presence_penalty": 2.0,
    "frequency_penalty": 2.0,
    "logprobs": True,
    "top_logprobs": 2,
    "choices": ["red", "dark blue"],
    "chat_template_kwargs": {"enable_thinking": False},
    "thinking_budget": 2,
    "regions": True,
    "min_pixels": 4_000_000,
    "max_pixels": 4_000,
}
"""Setting -> a value that changes the answer of one of the models below."""

OF_A_TEMPLATE = {
    "chat_template_kwargs": "tests/batching/test_thinking.py",
    "thinking_budget": "tests/batching/test_thinking_budget.py",
}
"""Settings that change an answer only where a checkpoint's template is made for them -> the tests that show it."""

OF_IMAGES = {
    "regions": "tests/regions/test_run.py",
    "min_pixels": "tests/batching/test_image_budget.py",
    "max_pixels": "tests/batching/test_image_budget.py",
}
"""Settings that need an image, and are no server's -> the tests that show what they change."""
REFUSED_ELSEWHERE = {"choices"}
"""Settings that servers and vLLM cannot follow, which is said."""

NO_FLAG_OF_ITS_NAME = OTHERWISE | {"chat_template_kwargs"}
"""`--template KEY=VALUE` makes that one."""


def base(name: str, **settings: Any) -> VLMInput:
    """A request that the example changes: sampled where the setting takes part in sampling alone."""
    sampled = SETTINGS[name].sampling or name == "temperature"
    values: dict[str, Any] = {"max_new_tokens": 24, "temperature": 1.0 if sampled else 0.0, "seed": 1}
    return VLMInput(prompt="tell me more of it", **{**values, **settings})


def both(name: str) -> tuple[VLMInput, VLMInput]:
    return base(name), base(name, **{name: EXAMPLES[name]})


@cache
def embedded(engine: str) -> TransformersVLMModel:
    """The embedded model, whose answers end by themselves."""
    return load(MODEL_DIR, engine=engine)


def test_every_setting_has_an_example() -> None:
    assert EXAMPLES.keys() == SETTINGS.keys()


def test_a_setting_of_templates_or_images_has_tests_of_its_own() -> None:
    for name, file in {**OF_A_TEMPLATE, **OF_IMAGES}.items():
        assert name in (Path(__file__).parents[2] / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in {*OF_A_TEMPLATE, *OF_IMAGES}])
@pytest.mark.parametrize("engine", ["in-flight", "static"])
def test_it_changes_an_answer_and_is_named_in_the_settings_that_were_used(
    name: str, engine: str, open_model: Callable[..., TransformersVLMModel]
) -> None:
    plain, changed = both(name)
    differ = []
    for model in (open_model("idefics3", engine=engine), embedded(engine)):
        before, after = model.predict(plain), model.predict(changed)
        said = [(one.generated_text, one.logprobs, one.samples) for one in (before, after)]
        differ.append(said[0] != said[1])
        assert name in after.generation_config
    assert any(differ)


@pytest.mark.parametrize("name", SETTINGS)
def test_it_changes_the_content_key_and_the_context_of_a_journal(name: str) -> None:
    keys = {ContentKey(Request(0, 1, "a", input, id_hash=1), "f", 0).weak for input in both(name)}
    assert len(keys) == 2
    set_, unset = GenerationSettings(**{name: EXAMPLES[name]}), GenerationSettings()
    assert settings_text(set_) != settings_text(unset)


@pytest.mark.parametrize("name", SETTINGS)
def test_records_that_differ_in_it_do_not_share_a_static_batch(name: str) -> None:
    # Of different lengths they do, and a sampled one goes alone.
    assert name in SHARED or SETTINGS[name].sampling or name == "max_new_tokens"


def test_only_the_settings_of_images_stay_here() -> None:
    assert {name for name, setting in SETTINGS.items() if setting.is_local} == OF_IMAGES.keys()
    sent = named_elsewhere({name: EXAMPLES[name] for name in OF_IMAGES})
    assert sent == {}


@pytest.mark.parametrize("name", ["min_pixels", "max_pixels"])
def test_a_server_is_not_asked_what_it_would_not_hold_to(name: str) -> None:
    writer = RequestWriter(send_urls=False, max_image_side=None, extra_body={})
    with pytest.raises(PromptError, match=f"{name} cannot be held to"):
        writer.write(both(name)[1], Limits())


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in OF_IMAGES])
def test_it_reaches_a_server_and_vllm(name: str) -> None:
    writer = RequestWriter(send_urls=False, max_image_side=None, extra_body={})
    if name in REFUSED_ELSEWHERE:
        with pytest.raises(PromptError, match=name):
            writer.write(both(name)[1], Limits())
        return
    plain, changed = (writer.write(input, Limits()).settings for input in both(name))
    assert plain != changed
    # The one vLLM takes in another form, the other is rendered here.
    if name not in {"response_format", "chat_template_kwargs"}:
        sent = named_elsewhere(settings_used(both(name)[1], EXAMPLES["max_new_tokens"]))
        assert (SETTINGS[name].elsewhere or name) in sent


@pytest.mark.parametrize("name", SETTINGS)
def test_a_line_may_have_it_its_aliases_are_known_and_it_has_a_flag(name: str) -> None:
    assert CHECKS[name](EXAMPLES[name]) == EXAMPLES[name]
    with pytest.raises(ValueError, match="must"):
        CHECKS[name](object())
    for alias in SETTINGS[name].aliases:
        assert suggestion(alias) == name

    def command(json_schema: str = "", **settings: Any) -> None: ...

    import inspect

    assert (name in inspect.signature(with_setting_flags(command)).parameters) == (
        name not in NO_FLAG_OF_ITS_NAME
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_left_open_it_is_in_no_key(name: str) -> None:
    plain = GenerationSettings().over(DEFAULT_GENERATION)
    assert f'"{name}"' not in settings_text(plain) or name in (
        "max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "seed",
        "response_format",
    )  # fmt: skip
    assert FakeModel().config.generation == GenerationSettings()
