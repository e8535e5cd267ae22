"""Budgets of thoughts: where they are reached the thoughts are ended, and the answer follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.batching.test_thinking import SWITCH
from tests.embedded import TEMPLATE, answers, copy_checkpoint, examples, open_checkpoint
from tests.engines.test_answer_ends import TestSpecialTokensInAnswers
from tests.outputs.thoughts import SCHEMA

from pixano_vlm.batching.thinking_constraint import ThinkingConstraint
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import PromptError
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.prompts.thinking import Thinking

LEAST = 12
ENGINES = ("auto", "static")
WITH_SPACE = SWITCH + (
    "{% if messages[-1].reasoning_content is defined %}<think>\n{{ messages[-1].reasoning_content }}\n</think>\n\n"
    "{{ messages[-1].content if messages[-1].content is string else messages[-1].content[0].text }}{% endif %}"
)
"""A template that shows thoughts of earlier answers, with an empty line behind them."""
KINDS = {"a token": "</think>", "text": "</think>", "with space": "</think>\n\n"}
"""How a checkpoint below marks the end of its thoughts -> all that ends them."""


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TransformersVLMModel]:
    """`thinker("text", "static")`: a checkpoint that thinks where the template's variable says so."""

    @cache
    def open_(kind: str, engine: str = "auto") -> TransformersVLMModel:
        folder = tmp_path_factory.mktemp("thinker") / "m"
        if kind == "text":
            copy_checkpoint(folder, SWITCH)
        else:
            template = WITH_SPACE if kind == "with space" else SWITCH
            TestSpecialTokensInAnswers.with_mark(
                folder, "</think>", word="helpful", special=False, template=template
            )
        return open_checkpoint(folder, engine=engine, max_batch_size=4)

    return open_


def questions(count: int = 4, **settings: Any) -> list[VLMInput]:
    """Questions whose prompt ends inside of thoughts, of which no answer ends by itself before `LEAST` tokens."""
    asked = {
        "chat_template_kwargs": {"think": True},
        "max_new_tokens": 24,
        "min_new_tokens": LEAST,
        **settings,
    }
    return [input.model_copy(update=asked) for input, _ in examples(count)]


def tokens_of(model: TransformersVLMModel, inputs: list[VLMInput]) -> list[tuple[list[int], VLMOutput]]:
    """Of each input what was generated, and the answer."""
    with model._require().stop.recording() as recorded:
        found = answers(model, inputs)
    made = []
    for number, answer in enumerate(found):
        assert isinstance(answer, VLMOutput), answer
        made.append((recorded[number], answer))
    return made


def plainly(model: TransformersVLMModel, input: VLMInput, behind: list[int], count: int) -> list[int]:
    """What transformers' own greedy decoding writes behind a prompt and some tokens."""
    loaded = model._require()
    tensors = dict(loaded.maker.make(input.model_copy(update={"thinking_budget": None})).tensors)
    more = torch.tensor([behind], dtype=torch.int64)
    tensors["input_ids"] = torch.cat([tensors["input_ids"], more], 1)
    tensors["attention_mask"] = torch.cat([tensors["attention_mask"], torch.ones_like(more)], 1)
    least = max(0, LEAST - len(behind))
    made = loaded.model.generate(**tensors, do_sample=False, max_new_tokens=24, min_new_tokens=least)
    new: list[int] = made[0, tensors["input_ids"].shape[1] :].tolist()
    return new[:count]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_thoughts_are_the_models_up_to_the_budget_and_its_answer_follows_their_end(
    thinker: Callable[..., TransformersVLMModel], kind: str, engine: str
) -> None:
    """Token by token what transformers writes behind the prompt, and behind the thoughts and their end."""
    model = thinker(kind, engine)
    closing = model._require().tokenizer(KINDS[kind], add_special_tokens=False)["input_ids"]
    forced = 0
    for budget in (0, 1, 3):
        asked = questions(thinking_budget=budget)
        for input, (tokens, answer) in zip(asked, tokens_of(model, asked), strict=True):
            thoughts = plainly(model, input, [], budget) if budget else []
            assert tokens[:budget] == thoughts
            assert tokens[budget : budget + len(closing)] == closing
            rest = tokens[budget + len(closing) :]
            assert rest == plainly(model, input, thoughts + closing, len(rest))
            assert answer.reasoning_tokens == budget + len(closing)
            assert (answer.reasoning or "").count("think") == 0
            assert answer.usage.completion_tokens == len(tokens)
            assert answer.generation_config["thinking_budget"] == budget
            forced += 1
    assert forced == 12


@pytest.mark.parametrize("engine", ENGINES)
def test_records_with_and_without_budgets_do_not_change_one_another(
    thinker: Callable[..., TransformersVLMModel], engine: str
) -> None:
    model = thinker("with space", engine)
    budgets = [None, 0, 2, None, 5, 1, None, 9]
    asked = [
        input.model_copy(update={"thinking_budget": budget, "temperature": float(number % 2), "seed": number})
        for number, (input, budget) in enumerate(zip(questions(8), budgets, strict=True))
    ]
    alone = [tokens_of(model, [input])[0][0] for input in asked]
    assert [tokens for tokens, _ in tokens_of(model, asked)] == alone


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("budget", [0, 4])
def test_an_answer_behind_thoughts_that_were_ended_follows_its_schema(
    thinker: Callable[..., TransformersVLMModel], engine: str, budget: int
) -> None:
    pytest.importorskip("llguidance")
    asked = questions(thinking_budget=budget, response_format=SCHEMA, max_new_tokens=60)
    for _, answer in tokens_of(thinker("with space", engine), asked):
        assert set(answer.parsed) == {"seen"}
        assert json.loads(answer.generated_text) == answer.parsed
        assert answer.reasoning_tokens


@pytest.mark.parametrize("engine", ENGINES)
def test_a_turn_that_would_end_inside_of_its_thoughts_has_its_json_all_the_same(
    thinker: Callable[..., TransformersVLMModel], engine: str
) -> None:
    """This model ends most of its thoughts so where nothing keeps it from that."""
    pytest.importorskip("llguidance")
    model = thinker("with space", engine)
    free = questions(min_new_tokens=None)
    ended = [answer for _, answer in tokens_of(model, free)]
    assert any(answer.generated_text == "" and answer.finish_reason == "stop" for answer in ended)
    asked = [
        input.model_copy(update={"response_format": SCHEMA, "max_new_tokens": 60, "thinking_budget": budget})
        for input, budget in zip(free, (None, 20, None, 20), strict=True)
    ]
    for (_, answer), before in zip(tokens_of(model, asked), ended, strict=True):
        assert set(answer.parsed) == {"seen"}
        if before.generated_text == "":
            assert answer.reasoning == (before.reasoning or None)


def test_confidence_and_log_probabilities_are_of_what_the_model_chose_behind_the_end(
    thinker: Callable[..., TransformersVLMModel],
) -> None:
    model = thinker("with space")
    [(tokens, answer)] = tokens_of(model, questions(1, thinking_budget=2, logprobs=True))
    assert answer.logprobs is not None
    told = answer.logprobs["content"]
    assert len(told) == len(tokens) - (answer.reasoning_tokens or 0)
    written = "".join(one["token"] for one in told)
    assert answer.generated_text in written
    assert not written.startswith("\n")  # forced by the budget, not chosen
    mean = torch.tensor([one["logprob"] for one in told], dtype=torch.float64).mean().exp()
    assert answer.confidence == pytest.approx(float(mean), abs=1e-4)


def test_samples_of_a_record_are_held_to_it_each(thinker: Callable[..., TransformersVLMModel]) -> None:
    model = thinker("a token")
    [input] = questions(1, thinking_budget=3, n=3, temperature=1.0, seed=3)
    [answer] = answers(model, [input])
    assert isinstance(answer, VLMOutput), answer
    assert answer.samples is not None
    assert len(answer.samples) == 3
    assert answer.reasoning_tokens is not None
    assert answer.reasoning_tokens <= 3 * 4


def test_a_record_whose_prompt_is_not_in_thoughts_is_left_alone(
    thinker: Callable[..., TransformersVLMModel],
) -> None:
    asked = [input for input, _ in examples(4)]
    model = thinker("text")
    plain = [tokens for tokens, _ in tokens_of(model, asked)]
    held = [input.model_copy(update={"thinking_budget": 2}) for input in asked]
    assert [tokens for tokens, _ in tokens_of(model, held)] == plain


class TestRefusals:
    def test_a_model_that_has_no_thoughts(self, tmp_path: Path) -> None:
        model = open_checkpoint(copy_checkpoint(tmp_path / "m", TEMPLATE))
        with pytest.raises(PromptError, match="neither the template nor the tokenizer") as raised:
            model.predict(
                questions(1)[0].model_copy(update={"thinking_budget": 5, "chat_template_kwargs": None})
            )
        assert "Leave thinking_budget out" in str(raised.value.hint)

    @pytest.mark.parametrize(
        ("budget", "tokens", "schema", "reason"),
        [
            (24, 24, False, "no token would be left for the answer"),
            (20, 24, True, "an answer that follows the schema takes about"),
        ],
    )
    def test_a_budget_that_leaves_no_room_for_the_answer(
        self,
        thinker: Callable[..., TransformersVLMModel],
        budget: int,
        tokens: int,
        schema: bool,
        reason: str,
    ) -> None:
        if schema:
            pytest.importorskip("llguidance")
        asked = {"thinking_budget": budget, "max_new_tokens": tokens}
        if schema:
            asked["response_format"] = SCHEMA
        with pytest.raises(PromptError, match=reason) as raised:
            thinker("text").predict(questions(1, **asked)[0])
        assert raised.value.hint == "Raise max_new_tokens, or lower thinking_budget."


def test_it_comes_from_flags_lines_configs_and_batch_files(cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "m", SWITCH)
    (tmp_path / "models.yaml").write_text(
        f"models:\n  - name: thinker\n    model_params: {{path: '{folder}', chat_template_kwargs: {{think: true}}}}\n"
        "    generation: {thinking_budget: 4}\n",
        encoding="utf-8",
    )
    image = str((examples(1)[0][0].images or [])[0])
    lines: list[dict[str, Any]] = [
        {"id": "open", "prompt": "What?", "images": [image]},
        {"id": "line", "prompt": "What?", "images": [image], "thinking_budget": 2},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    body = {"messages": [{"role": "user", "content": "Hello"}], "thinking_token_budget": 1, "temperature": 0}
    batch = {"custom_id": "vllm", "url": "/v1/chat/completions", "method": "POST", "body": body}
    (tmp_path / "batch.jsonl").write_text(json.dumps(batch) + "\n", encoding="utf-8")
    used = {}
    for manifest, flags in (("in.jsonl", []), ("in.jsonl", ["--thinking-budget", "3"]), ("batch.jsonl", [])):
        out = tmp_path / "out.jsonl"
        ran = cli(
            "generate", tmp_path / manifest, "--config", tmp_path / "models.yaml", "--model", "thinker", "-o", out,
            "--overwrite", "--temperature", "0", "--max-new-tokens", "16", *flags,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        for line in map(json.loads, out.read_text(encoding="utf-8").splitlines()):
            used[line["id"], bool(flags)] = line["generation_config"]["thinking_budget"]
            assert line["reasoning_tokens"] > 1
    assert used == {
        ("open", False): 4, ("line", False): 2, ("open", True): 3, ("line", True): 2, ("vllm", False): 1,
    }  # fmt: skip


# -- the constraint alone, over letters for tokens ------------------------------------------------------------------

LETTERS = "abc<>/"
MARKS = Thinking("<a>", "</a>")
CLOSING = "</a>b"


def accepted(chosen: str, budget: int, *, is_open: bool) -> tuple[str, int]:
    """What comes of chosen letters, and how many of them were put up to the last forced one."""
    constraint = ThinkingConstraint(
        None,
        MARKS,
        lambda tokens: "".join(LETTERS[token] for token in tokens),
        begin_id=None,
        is_open=is_open,
        closing=tuple(map(LETTERS.index, CLOSING)),
        budget=budget,
    )
    made = ""
    for place, letter in enumerate(chosen):
        made += LETTERS[constraint.accept(LETTERS.index(letter), len(chosen) - place)]
    return made, constraint.forced


@given(
    st.one_of(
        st.text(LETTERS, max_size=40), st.lists(st.sampled_from(["<a>", "</a>", "ab", "</"])).map("".join)
    ),
    st.integers(0, 12),
    st.booleans(),
)
def test_only_the_end_of_thoughts_that_reach_their_budget_is_put_in_place_of_chosen_tokens(
    chosen: str, budget: int, is_open: bool
) -> None:
    made, forced = accepted(chosen, budget, is_open=is_open)
    begun = is_open or chosen.startswith(MARKS.begins)
    first = 0 if is_open else len(MARKS.begins)
    ends = chosen.find(MARKS.ends, first)
    ended = ends >= 0 and ends + len(MARKS.ends) - first <= budget
    if not begun or ended or len(chosen) - first <= budget:
        assert (made, forced) == (chosen, 0)
        return
    spent = first + budget
    # The model's own beginning of the end counts among the thoughts.
    written = max(n for n in range(len(CLOSING)) if chosen[first:spent].endswith(CLOSING[:n]))
    put = CLOSING[written:][: len(chosen) - spent]
    assert made == chosen[:spent] + put + chosen[spent + len(put) :]
    assert forced == spent + len(put)
    assert chosen == made or len(chosen) == len(made)
