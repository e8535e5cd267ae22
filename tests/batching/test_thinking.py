"""Models that think: thoughts apart from the answer, schemas from their end on, and variables of the template."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.embedded import EXAMPLES, TEMPLATE, answers, copy_checkpoint, examples, open_checkpoint
from tests.engines.test_answer_ends import TestSpecialTokensInAnswers
from tests.outputs.thoughts import SCHEMA

from pixano_vlm.cli.template_variables import read_variables
from pixano_vlm.errors import PromptError, UsageError
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.prompts.thinking import Thinking, find_thinking
from pixano_vlm.runs.flags import flags_of

pytestmark = pytest.mark.once

ENGINES = ("auto", "static")
THINKS = TEMPLATE + "{% if false %}<think></think>{% endif %}"
"""A template that writes the marks, as those that show earlier thoughts do."""
SWITCH = TEMPLATE.replace("{{ 'Assistant:' }}", "{{ 'Assistant:' }}{% if think %}<think>{% endif %}") + (
    "{% if false %}</think>{% endif %}"
)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose word ` and` is the end of its thoughts."""
    folder = tmp_path_factory.mktemp("thinker") / "m"
    return TestSpecialTokensInAnswers.with_mark(
        folder, "</think>", word="and", special=False, template=THINKS
    )


def about_two_shapes() -> tuple[VLMInput, str]:
    """A question whose right answer has one ` and`."""
    return next((i, a) for i, a in examples(90) if a.count(" and") == 1 and " and" not in str(i.prompt))


def ask(folder: Path, input: VLMInput, engine: str, **params: Any) -> VLMOutput:
    [answer] = answers(open_checkpoint(folder, engine=engine, **params), [input])
    assert isinstance(answer, VLMOutput), answer
    return answer


MARKS = Thinking("<think>", "</think>")


@pytest.mark.parametrize(
    ("text", "is_open", "thoughts", "answer"),
    [
        ("<think>\nWell.\n</think>\n\nYes.", False, "Well.", "Yes."),
        ("Well.\n</think>\n\nYes.", True, "Well.", "Yes."),
        ("Well.</think>Yes.", False, "Well.", "Yes."),
        ("Yes.", False, None, "Yes."),
        ("Well, and", True, "Well, and", ""),
        ("<think>Well, and", False, "Well, and", ""),
        ("<think></think>Yes.", False, None, "Yes."),
        ("", True, "", ""),
        ("Say <think> aloud.", False, None, "Say <think> aloud."),
    ],
)
def test_thoughts_are_split_from_the_answer(
    text: str, is_open: bool, thoughts: str | None, answer: str
) -> None:
    assert MARKS.split(text, is_open=is_open) == (thoughts, answer)


def test_the_marks_are_the_templates_or_the_tokenizers() -> None:
    assert find_thinking("{% if x %}<think></think>{% endif %}", []) == MARKS
    assert find_thinking("", ["[THINK]", "[/THINK]"]) == Thinking("[THINK]", "[/THINK]")
    assert find_thinking("", ["<think>"]) is None
    assert find_thinking(TEMPLATE, []) is None


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_has_its_thoughts_apart(thinker: Path, engine: str) -> None:
    input, right = about_two_shapes()
    answer = ask(thinker, input, engine)
    thoughts, _, rest = right.partition(" and")
    assert answer.reasoning == thoughts
    assert answer.generated_text == rest.strip()
    assert answer.reasoning_tokens is not None
    assert 0 < answer.reasoning_tokens < answer.usage.completion_tokens
    alone = open_checkpoint(thinker).count_tokens
    assert (
        answer.reasoning_tokens
        == alone(input.model_copy(update={"prompt": "x" + thoughts}))
        - alone(input.model_copy(update={"prompt": "x"}))
        + 1
    )  # the mark at their end
    assert "think" not in answer.generated_text


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_that_never_came_is_empty_and_flagged(thinker: Path, engine: str) -> None:
    question, _ = examples(1)[0]
    begun = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": str(question.prompt)}]},
        {"role": "assistant", "content": "<think>a"},
    ]
    answer = ask(thinker, question.model_copy(update={"prompt": begun, "max_new_tokens": 2}), engine)
    assert answer.generated_text == ""
    assert answer.reasoning
    assert "only_thinking" in flags_of(answer)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_schema_holds_from_the_end_of_the_thoughts_on(thinker: Path, engine: str) -> None:
    pytest.importorskip("llguidance")
    input, answer = about_two_shapes()
    begun = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": str(input.prompt)}]},
        {"role": "assistant", "content": f"<think>{answer.split(' and')[0]},"},
    ]
    asked = input.model_copy(update={"response_format": SCHEMA, "max_new_tokens": 60})
    closed = ask(thinker, asked, engine)
    assert set(closed.parsed) == {"seen"}
    opened = ask(thinker, asked.model_copy(update={"prompt": begun}), engine)
    assert opened.reasoning
    assert set(json.loads(opened.generated_text)) == {"seen"}
    assert opened.parsed == json.loads(opened.generated_text)


@pytest.mark.parametrize("engine", ENGINES)
def test_marks_in_the_strings_of_an_answer_that_did_not_think_are_text(tmp_path: Path, engine: str) -> None:
    pytest.importorskip("llguidance")
    folder = TestSpecialTokensInAnswers.with_mark(
        tmp_path / "m", "</think>", word="and", special=False, template=THINKS
    )
    input, _ = about_two_shapes()
    form = {"type": "json_schema", "json_schema": {"schema": {"const": "a</think>b"}}}
    answer = ask(folder, input.model_copy(update={"response_format": form, "max_new_tokens": 40}), engine)
    assert (answer.parsed, answer.reasoning, answer.reasoning_tokens) == ("a</think>b", None, None)


def test_a_mark_that_is_not_a_token_is_not_the_unknown_token(tmp_path: Path) -> None:
    """Tokenizers give the unknown token for it, with which an answer in JSON could then begin."""
    pytest.importorskip("llguidance")
    folder = TestSpecialTokensInAnswers.with_mark(tmp_path / "m", "<unk>", word="and", template=THINKS)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"unk_token": "<unk>"}
    file.write_text(json.dumps(config), encoding="utf-8")
    model = open_checkpoint(folder)
    loaded = model._require()
    unknown = loaded.tokenizer.convert_tokens_to_ids("<think>")
    assert unknown == loaded.tokenizer.convert_tokens_to_ids("<unk>")
    input, _ = about_two_shapes()
    asked = input.model_copy(update={"response_format": SCHEMA, "max_new_tokens": 60})
    constraint = loaded.maker.make(asked).constraint
    assert constraint is not None
    assert not constraint.allows(unknown)


class TestVariables:
    def test_a_record_sets_them_over_the_model(self, tmp_path: Path) -> None:
        folder = copy_checkpoint(tmp_path / "m", SWITCH)
        plain = VLMInput(prompt="Hello", max_new_tokens=1)
        thinks = plain.model_copy(update={"chat_template_kwargs": {"think": True}})
        model = open_checkpoint(folder)
        assert model.show_prompt(plain)["prompt"].endswith("Assistant:")
        assert model.show_prompt(thinks)["prompt"].endswith("Assistant:<think>")
        always = open_checkpoint(folder, chat_template_kwargs={"think": True})
        assert always.show_prompt(plain)["prompt"].endswith("<think>")
        not_now = plain.model_copy(update={"chat_template_kwargs": {"think": False}})
        assert always.show_prompt(not_now)["prompt"].endswith("Assistant:")
        assert "variables of the template: think" in str(model.describe()["thinking"])

    @pytest.mark.parametrize("name", ["thinks", "messages", "add_generation_prompt", "bos_token"])
    def test_one_that_the_template_does_not_read_is_the_records_error(
        self, tmp_path: Path, name: str
    ) -> None:
        model = open_checkpoint(copy_checkpoint(tmp_path / "m", SWITCH))
        input = VLMInput(prompt="Hello", max_new_tokens=1, chat_template_kwargs={name: True})
        with pytest.raises(PromptError, match=rf"no variable '{name}'\. It has: think"):
            model.predict(input)

    def test_they_come_from_flags_lines_and_batch_files(
        self, cli: Callable[..., Any], tmp_path: Path
    ) -> None:
        folder = copy_checkpoint(tmp_path / "m", SWITCH)
        image = str(EXAMPLES / "images" / "001.jpg")
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2, "temperature": 0}
        lines: list[dict[str, Any]] = [
            {"id": "flag", "prompt": "What?", "images": [image]},
            {"id": "line", "prompt": "What?", "images": [image], "chat_template_kwargs": {"think": False}},
        ]
        (tmp_path / "in.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
        )
        batch = {"custom_id": "b", "url": "/v1/chat/completions", "method": "POST"}
        batch |= {"body": body | {"chat_template_kwargs": {"think": True}}}
        (tmp_path / "batch.jsonl").write_text(json.dumps(batch) + "\n", encoding="utf-8")
        out = tmp_path / "out.jsonl"
        for manifest, flag in (("in.jsonl", ["--template", "think=true"]), ("batch.jsonl", [])):
            ran = cli(
                "generate", tmp_path / manifest, "--model", folder, "-o", out, "--overwrite", "--temperature", "0",
                "--max-new-tokens", "4", *flag,
            )  # fmt: skip
            assert ran.code == 0, ran.err
            found = {
                line["id"]: line for line in map(json.loads, out.read_text(encoding="utf-8").splitlines())
            }
            if "flag" in found:
                assert found["flag"]["reasoning"] is not None
                assert found["flag"]["generation_config"]["chat_template_kwargs"] == {"think": True}
                assert "only_thinking" in found["flag"]["flags"]
                assert "reasoning" not in found["line"]
            else:
                assert found["b"]["reasoning"] is not None


def test_a_flag_is_read_as_json_or_as_text() -> None:
    assert read_variables(["a=true", "b=3", "c=low", "d=False", 'e={"x": 1}', "f=a=b"]) == {
        "a": True, "b": 3, "c": "low", "d": False, "e": {"x": 1}, "f": "a=b",
    }  # fmt: skip


@pytest.mark.parametrize("given", [["think"], ["=x"], ["a b=1"], ["a=1", "a=2"]])
def test_a_flag_of_another_form_is_refused(given: list[str]) -> None:
    with pytest.raises(UsageError, match=r"KEY=VALUE|twice"):
        read_variables(given)
