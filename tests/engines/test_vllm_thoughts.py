"""Thoughts in vLLM, as far as vLLM is not needed for them: the grammar of answers in JSON, the count of budgets."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.batching.test_thinking import SWITCH
from tests.embedded import copy_checkpoint, rename_word
from tests.outputs.thoughts import SCHEMA

from pixano_vlm.engines.transformers.answer_text import answer_decoder
from pixano_vlm.engines.transformers.end_tokens import EndTokens
from pixano_vlm.engines.vllm.answer import AnswerReader
from pixano_vlm.engines.vllm.request import RequestMaker
from pixano_vlm.engines.vllm.thoughts import ThoughtRules
from pixano_vlm.errors import PromptError
from pixano_vlm.models import VLMInput, VLMOutput

END = 2
JSON = '{"seen":"a"}'
CLOSED = SWITCH.replace("{% if think %}<think>{% endif %}", "<think>\n{% if not think %}</think>{% endif %}")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a token for each mark."""
    folder = copy_checkpoint(tmp_path_factory.mktemp("marked") / "m", SWITCH)
    rename_word(folder, "about", "<think>", special=True)
    rename_word(folder, "helpful", "</think>", special=True)
    return folder


def processor_of(folder: Path, template: str = SWITCH) -> Any:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    processor.chat_template = template
    return processor


def asked(*, think: bool | None = None, **settings: Any) -> VLMInput:
    variables = None if think is None else {"think": think}
    return VLMInput(
        prompt="What?",
        **{"max_new_tokens": 40, "temperature": 0, "chat_template_kwargs": variables, **settings},
    )


def rules_of(folder: Path, template: str = SWITCH) -> tuple[RequestMaker, ThoughtRules]:
    maker = RequestMaker(processor_of(folder, template))
    assert maker.thoughts is not None
    return maker, maker.thoughts


def admits(folder: Path, template: str, answer: str, *, think: bool) -> bool:
    """Whether the grammar of a record in JSON takes an answer, token by token."""
    llguidance = pytest.importorskip("llguidance")
    from pixano_vlm.batching.grammar_tokenizer import grammar_tokenizer

    maker, rules = rules_of(folder, template)
    input = asked(think=think, response_format=SCHEMA)
    grammar = rules.grammar(input, maker.renderer.render(input), frozenset({END}))
    assert grammar is not None
    tokenizer = maker._tokenizer
    matcher = llguidance.LLMatcher(grammar_tokenizer(tokenizer, len(tokenizer), [END]), grammar)
    assert not matcher.is_error(), matcher.get_error()
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("answer", "think", "is_taken"),
    [
        ("a red star</think>" + JSON, True, True),
        ("</think>" + JSON, True, True),
        (JSON, True, False),  # still thoughts
        ("a red star<end_of_utterance>", True, False),
        ("a</think>b" + JSON, True, False),
        (JSON, False, True),
        ("<think>a red star</think>" + JSON, False, True),
        ("a red star</think>" + JSON, False, False),
    ],
)
def test_json_comes_behind_the_thoughts_that_the_prompt_or_the_model_begins(
    tokens: Path, answer: str, think: bool, is_taken: bool
) -> None:
    assert admits(tokens, SWITCH, answer, think=think) == is_taken


@pytest.mark.parametrize(("answer", "is_taken"), [("a red star</think>" + JSON, True), (JSON, False)])
def test_marks_that_are_text_end_thoughts_too(tmp_path: Path, answer: str, is_taken: bool) -> None:
    folder = copy_checkpoint(tmp_path / "m", SWITCH)
    assert admits(folder, SWITCH, answer, think=True) == is_taken


def test_a_record_that_does_not_think_has_its_schema_alone(tokens: Path) -> None:
    maker, rules = rules_of(tokens, CLOSED)
    off = asked(think=False, response_format=SCHEMA)
    assert rules.grammar(off, maker.renderer.render(off), frozenset()) is None
    free = asked(think=True)
    assert rules.grammar(free, maker.renderer.render(free), frozenset()) is None


def test_what_the_prompt_has_behind_the_mark_is_not_the_models_thoughts(tokens: Path) -> None:
    """vLLM counts from the mark on; the budget is of what the model writes."""
    maker, rules = rules_of(tokens, CLOSED)
    on, off = (asked(think=think, thinking_budget=5) for think in (True, False))
    assert rules.budget(on, maker.renderer.render(on)) == 6  # a line's end
    assert rules.budget(off, maker.renderer.render(off)) is None
    assert rules.budget(asked(think=True), maker.renderer.render(on)) is None


def test_a_budget_that_vllm_cannot_hold_to_is_the_records_error(tokens: Path, tmp_path: Path) -> None:
    maker, rules = rules_of(copy_checkpoint(tmp_path / "m", SWITCH))
    input = asked(think=True, thinking_budget=5)
    with pytest.raises(PromptError, match="vLLM finds thoughts by tokens"):
        rules.budget(input, maker.renderer.render(input))
    maker, rules = rules_of(tokens)
    rules.takes_budgets = False
    with pytest.raises(PromptError, match="this version of vLLM"):
        rules.budget(input, maker.renderer.render(input))


@pytest.mark.parametrize(
    ("text", "thinks", "schema", "thoughts", "answer", "count"),
    [
        ("a red</think> star", True, False, "a red", "star", 3),
        ("<think>a red</think> star", False, False, "a red", "star", 4),
        ("a red star", True, False, "a red star", "", 3),
        ("a red star", False, False, None, "a red star", None),
        ('"a</think>b"', False, True, None, '"a</think>b"', None),
        ('a red</think>"b"', True, True, "a red", '"b"', 3),
    ],
)
def test_an_answer_has_its_thoughts_apart(
    tokens: Path, text: str, thinks: bool, schema: bool, thoughts: str | None, answer: str, count: int | None
) -> None:
    processor = processor_of(tokens)
    maker = RequestMaker(processor)
    decoder = answer_decoder(processor, maker.renderer, EndTokens({END: ("tokenizer",)}))
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    ended = SimpleNamespace(
        outputs=[SimpleNamespace(finish_reason="stop", token_ids=[*ids, END], logprobs=None)],
        prompt_token_ids=[1],
    )
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "string"}}} if schema else None
    read = AnswerReader(decoder, maker.renderer.thinking).read(
        ended, asked(response_format=form), thinks=thinks
    )
    assert isinstance(read, VLMOutput)
    assert (read.reasoning, read.generated_text) == (thoughts, answer)
    if count is not None and answer:
        assert read.reasoning_tokens == count
    assert read.parsed == (json.loads(answer) if schema else None)
