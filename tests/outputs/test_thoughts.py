"""Thoughts are apart from the answer in every form that a run is written in, whatever engine gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.batching.test_thinking import SWITCH
from tests.embedded import copy_checkpoint, open_checkpoint, rename_word
from tests.engines.scripted_server import ScriptedServer, completion, says
from tests.engines.served import collected, connect, impatient
from tests.outputs.thoughts import check_every_form

from pixano_vlm.engines.transformers.model import TransformersVLMModel

__all__ = ["collected", "connect", "impatient"]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TransformersVLMModel]:
    """A checkpoint that thinks, by the engine."""
    folder = copy_checkpoint(tmp_path_factory.mktemp("thinker") / "m", SWITCH)
    rename_word(folder, "about", "<think>", special=True)
    rename_word(folder, "helpful", "</think>", special=True)
    return cache(lambda engine: open_checkpoint(folder, engine=engine, chat_template_kwargs={"think": True}))


@pytest.mark.parametrize("schema", [False, True], ids=["free", "schema"])
@pytest.mark.parametrize("engine", ["auto", "static"])
def test_of_a_model_in_this_process(
    thinker: Callable[[str], TransformersVLMModel], tmp_path: Path, engine: str, schema: bool
) -> None:
    if schema:
        pytest.importorskip("llguidance")
    line = check_every_form(
        thinker(engine), tmp_path, schema=schema, thinking_budget=4, min_new_tokens=10, max_new_tokens=60
    )
    assert line["reasoning_tokens"] == 5


@pytest.mark.parametrize("schema", [False, True], ids=["free", "schema"])
@pytest.mark.parametrize("form", ["a field", "marks"])
def test_of_a_model_behind_a_server(connect: Any, tmp_path: Path, form: str, schema: bool) -> None:
    pytest.importorskip("openai")
    text = '{"seen":"a star"}' if schema else "A star."
    if form == "a field":
        message = {"role": "assistant", "content": text, "reasoning_content": "Let me look."}
    else:
        message = {"role": "assistant", "content": f"<think>\nLet me look.\n</think>\n\n{text}"}
    body = completion(text)
    body["choices"][0]["message"] = message
    body["usage"] = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
    if form == "a field":
        body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 5}
    with ScriptedServer(always=says(body)) as server:
        line = check_every_form(connect(server), tmp_path, schema=schema)
    assert (line["reasoning"], line["generated_text"]) == ("Let me look.", text)
