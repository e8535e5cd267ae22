"""`load --verify` finds each planted fault, and says ok where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.embedded import TEMPLATE, copy_checkpoint, open_checkpoint
from tests.engines.test_answer_ends import TestSpecialTokensInAnswers

from pixano_vlm.batching.oracle import Oracle
from pixano_vlm.batching.prepare import PromptMaker
from pixano_vlm.batching.verification import Verification
from pixano_vlm.engines.transformers import answer_text, loading
from pixano_vlm.engines.transformers import model as engine
from pixano_vlm.engines.transformers.end_tokens import EndTokens
from pixano_vlm.errors import GenerationError, PromptError
from pixano_vlm.prompts.content_style import ContentStyle, ContentStyles

pytestmark = pytest.mark.once

SYSTEM_AS_STRING = (
    "{% if messages[0].role == 'system' %}{{ messages[0]['content'] | trim }}\n{% set messages = messages[1:] %}"
    "{% endif %}" + TEMPLATE
)
KINDS = {"a system turn", "an assistant turn", "a begun answer", "a tool turn", "a string", "a list"}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


def verify(folder: Path, **params: Any) -> Verification:
    return open_checkpoint(folder, **params).verify()


def test_a_sound_checkpoint_is_ok_and_every_kind_of_turn_is_compared(tmp_path: Path) -> None:
    found = verify(copy_checkpoint(tmp_path / "m"))
    assert found.ok
    assert found.records == 5
    assert found.tokens > 20
    assert set(found.prompts) == KINDS


@pytest.mark.parametrize(
    "template", [SYSTEM_AS_STRING, TEMPLATE.replace("is string", "is mapping")], ids=["s", "l"]
)
def test_a_template_of_strings_or_of_lists_is_ok(tmp_path: Path, template: str) -> None:
    found = verify(copy_checkpoint(tmp_path / "m", template))
    assert found.ok, found.first_difference
    assert set(found.prompts) == KINDS


def test_lists_that_are_printed_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    always_lists = ContentStyle(string=False, parts=True, several=True, image="<image>")
    monkeypatch.setattr(ContentStyles, "of", lambda self, role: always_lists)
    found = verify(copy_checkpoint(tmp_path / "m", SYSTEM_AS_STRING))
    assert not found.ok
    assert "a prompt with a system turn" in str(found.first_difference)


def test_an_end_token_that_is_ignored_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_end_tokens", lambda *args: EndTokens({0: ("generation_config.json",)}))
    found = verify(copy_checkpoint(tmp_path / "m", generation_config={"eos_token_id": 0}))
    assert not found.ok
    assert "from token" in str(found.first_difference)


def test_a_special_token_that_is_lost_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = TestSpecialTokensInAnswers.with_mark(tmp_path / "m", "<loc_5>")
    assert verify(folder).ok

    def everything(tokenizer: Any, *args: Any) -> frozenset[int]:
        return frozenset(tokenizer.added_tokens_decoder)

    monkeypatch.setattr(answer_text, "framing_ids", everything)
    found = verify(folder)
    assert not found.ok
    assert "<loc_5>" in str(found.first_difference)


def test_a_template_that_is_passed_over_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_checkpoint(tmp_path / "m", None, tokenizer_config={"chat_template": TEMPLATE})
    monkeypatch.setattr(loading, "adopt_template", lambda processor, *args: None)
    found = verify(folder)
    assert not found.ok
    assert "from prompt token 0 on" in str(found.first_difference)


def test_a_template_that_is_nowhere_is_found(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "m", None)
    found = verify(folder)
    assert not found.ok
    assert "no chat template was found" in str(found.first_difference)
    assert verify(folder, chat_template="none").ok


def test_a_check_of_nothing_is_not_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_checkpoint(copy_checkpoint(tmp_path / "m"))

    def refuse(self: PromptMaker, input: Any) -> Any:
        raise PromptError("nothing is taken.")

    monkeypatch.setattr(PromptMaker, "make", refuse)
    found = model.verify()
    assert not found.ok
    assert found.records == 0
    assert "nothing is taken" in str(found.not_compared)


def test_no_trial_at_all_is_not_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_checkpoint(copy_checkpoint(tmp_path / "m"))
    monkeypatch.setattr(engine, "trial_inputs", lambda tokens: [])
    found = model.verify()
    assert not found.ok
    assert found.records == 0


def test_trials_that_all_fail_are_not_ok_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_checkpoint(copy_checkpoint(tmp_path / "m"))

    def fail(inputs: Any) -> Any:
        return ((key, GenerationError("the model failed.")) for key, _ in inputs)

    monkeypatch.setattr(model, "stream", fail)
    found = model.verify()
    assert not found.ok
    assert found.records == 0
    assert "the model failed" in str(found.not_compared)


def test_a_transformers_that_answers_nothing_is_not_ok_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Oracle, input: Any) -> Any:
        raise ValueError("no generate here")

    monkeypatch.setattr(Oracle, "answer", refuse)
    found = verify(copy_checkpoint(tmp_path / "m"))
    assert not found.ok
    assert found.records == 0
    assert "no generate here" in str(found.not_compared)


def test_a_check_of_nothing_exits_1_with_what_was_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    folder = copy_checkpoint(tmp_path / "m")

    def refuse(self: Oracle, input: Any) -> Any:
        raise ValueError("no generate here")

    monkeypatch.setattr(Oracle, "answer", refuse)
    ran = cli("load", folder, "--verify")
    assert ran.code == 1
    assert "no generate here" in ran.out + ran.err
