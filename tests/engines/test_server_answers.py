"""What a server's answer says: errors under status 200, content in parts, thoughts, JSON among other words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.engines.scripted_server import (
    ScriptedServer,
    answer,
    completion,
    raw,
    says,
)
from tests.engines.served import ask, collected, connect, impatient

from pixano_vlm.engines.openai.answer import read_answer
from pixano_vlm.engines.openai.request import RequestWriter
from pixano_vlm.errors import GenerationError, PromptError
from pixano_vlm.models import Limits, VLMInput, VLMOutput
from pixano_vlm.prompts.response_format import find_json, parse_json

__all__ = ["collected", "connect", "impatient"]  # fixtures

pytest.importorskip("openai")
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def choice(**changes: Any) -> dict[str, Any]:
    body = completion("half of a sen")
    body["choices"][0] |= changes
    return body


BROKEN = {
    "finish_reason error": (choice(finish_reason="error"), "finish_reason 'error'"),
    "of a choice": (choice(error={"message": "Provider went away", "code": 502}), "Provider went away"),
    "network_error": (choice(finish_reason="network_error"), "network_error"),
    "upper case": (choice(finish_reason="ERROR"), "finish_reason 'error'"),
    "no resources": (choice(finish_reason="insufficient_system_resource"), "insufficient_system_resource"),
    "aborted": (choice(finish_reason="abort"), "abort"),
    "error object": ({"error": {"message": "CUDA out of memory"}}, "CUDA out of memory"),
    "error string": ({"error": "model is loading"}, "model is loading"),
    "error beside null": (
        {**completion(None), "choices": None, "error": {"message": "Too Many", "code": 429}},
        "429",
    ),
    "raw words of a provider": (
        {"error": {"message": "Provider returned error", "metadata": {"raw": "upstream is down"}}},
        "upstream is down",
    ),
    "object error": ({"object": "error", "message": "engine is dead", "code": 500}, "engine is dead"),
    "detail": ({"detail": "worker lost"}, "worker lost"),
    "success false": ({"success": False, "errors": [{"message": "over capacity"}]}, "over capacity"),
    "no choices": ({**completion("x"), "choices": []}, "is not a chat completion"),
    "null choices": ({**completion("x"), "choices": None}, "is not a chat completion"),
    "choices of nothing": ({**completion("x"), "choices": [{}]}, "holds no message"),
    "a list": ([1, 2], "is not a chat completion"),
}


class TestErrorsUnderStatus200:
    @pytest.mark.parametrize("name", BROKEN)
    def test_it_is_a_failed_attempt_and_the_next_one_counts(self, connect: Any, name: str) -> None:
        with ScriptedServer(says(BROKEN[name][0])) as server:
            assert connect(server).predict(ask("whole")).generated_text == "whole"
        assert len(server.bodies) == 2

    @pytest.mark.parametrize("name", BROKEN)
    def test_where_it_stays_so_the_error_has_the_servers_words(self, connect: Any, name: str) -> None:
        body, words = BROKEN[name]
        with ScriptedServer(says(body), says(body), says(body)) as server:
            model = connect(server, tries=2)
            with pytest.raises(GenerationError) as raised:
                model.predict(ask())
        assert words in str(raised.value)

    @pytest.mark.parametrize(
        ("body", "shown"),
        [
            (b'{"id": "x", "choices": [{"mess', "mess"),
            (b"", "it is empty"),
            (b"upstream connect error or disconnect", "upstream connect error"),
            (b'data: {"choices": []}\n\ndata: [DONE]\n\n', "data:"),
        ],
    )
    def test_a_body_that_is_not_whole_is_tried_again_and_shown(
        self, connect: Any, body: bytes, shown: str
    ) -> None:
        with ScriptedServer(raw(body)) as server:
            assert connect(server).predict(ask("whole")).generated_text == "whole"
        with ScriptedServer(raw(body), raw(body)) as server:
            model = connect(server, tries=2)
            with pytest.raises(GenerationError, match="not whole") as raised:
                model.predict(ask())
        assert shown in str(raised.value)

    def test_a_long_body_is_shortened(self, connect: Any) -> None:
        with ScriptedServer(*[says({"choices": [], "echo": "A" * 1_000_000})] * 2) as server:
            model = connect(server, tries=2)
            with pytest.raises(GenerationError) as raised:
                model.predict(ask())
        assert len(str(raised.value)) < 500

    @pytest.mark.parametrize(
        "reason", ["content_filter", "SAFETY", "sensitive", "recitation", "prohibited_content"]
    )
    def test_an_answer_that_a_filter_stopped_is_never_ok(self, connect: Any, reason: str) -> None:
        with (
            ScriptedServer(answer("half", finish=reason)) as server,
            pytest.raises(GenerationError, match="content filter"),
        ):
            connect(server).predict(ask())

    @pytest.mark.parametrize(
        ("reason", "known_as"),
        [
            ("stop", "stop"), ("STOP", "stop"), ("eos", "stop"), ("end_turn", "stop"), ({"type": "stop"}, "stop"),
            ("length", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
            ("model_context_window_exceeded", "length"), (None, None), ("something", None),
        ],
    )  # fmt: skip
    def test_each_servers_word_for_an_end_is_known(self, connect: Any, reason: Any, known_as: Any) -> None:
        with ScriptedServer(says(choice(finish_reason=reason))) as server:
            assert connect(server).predict(ask()).finish_reason == known_as

    @pytest.mark.parametrize(
        ("message", "words"),
        [
            ({"content": None}, "holds no text"),
            ({"content": None, "refusal": "I will not"}, "it refuses: I will not"),
            ({"content": [{"type": "refusal", "refusal": "I cannot"}]}, "it refuses: I cannot"),
            ({"content": None, "tool_calls": [{"id": "x"}]}, "calls a tool"),
            ({"content": None, "reasoning_content": "Hm."}, "no text but thoughts"),
            ({"content": [{"type": "thinking", "thinking": "Hm."}]}, "no text but thoughts"),
            ({"content": []}, "holds no text"),
            ({}, "holds no text"),
        ],
    )
    def test_an_answer_without_text_is_never_ok(
        self, connect: Any, message: dict[str, Any], words: str
    ) -> None:
        with (
            ScriptedServer(says(choice(message=message))) as server,
            pytest.raises(GenerationError, match=words),
        ):
            connect(server).predict(ask())

    @pytest.mark.parametrize(
        ("usage", "counts"),
        [
            ({"prompt_tokens": 5, "completion_tokens": 2}, (5, 2)),
            ({"input_tokens": 5, "output_tokens": 2}, (5, 2)),
            ({"prompt_tokens": 5, "completion_tokens": None}, (5, 0)),
            ({}, None), (None, None), ("?", None), ({"prompt_tokens": "many"}, None),
        ],
    )  # fmt: skip
    def test_counts_are_the_servers_or_said_to_be_missing(
        self, connect: Any, usage: Any, counts: Any
    ) -> None:
        with ScriptedServer(says({**completion("x"), "usage": usage})) as server:
            output = connect(server).predict(ask())
        found = (output.usage.prompt_tokens, output.usage.completion_tokens)
        assert found == (counts or (0, 0))
        assert ("usage" in output.generation_config) == (counts is None)


class TestParts:
    @pytest.mark.parametrize(
        "content",
        [
            "A red square.",
            [{"type": "text", "text": "A red square."}],
            [{"type": "text", "text": "A red "}, {"type": "text", "text": "square."}],
            [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"text": "A red square."}],
            [
                {"type": "text", "text": "A red "},
                {"type": "thinking", "thinking": []},
                {"type": "text", "text": "square."},
            ],
            [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "A red square."}],
            [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, "A red square."],
            [{"type": "output_text", "text": "A red square.", "annotations": []}],
            [{"type": "text", "text": {"value": "A red square."}}],
            ["A red ", "square."],
            {"type": "text", "text": "A red square."},
            [{"type": "text", "text": "A red square."}, {"type": "image_url", "image_url": {"url": "x"}}],
            "<think>Hm.</think>\n\nA red square.",
            "\n<think>\nHm.\n</think>A red square.",
            "Hm, let me see.</think>A red square.",
            "[THINK]Hm.[/THINK]A red square.",
            "<thinking>Hm.</thinking>A red square.",
            "\u25c1think\u25b7Hm.\u25c1/think\u25b7A red square.",
        ],
    )  # fmt: skip
    def test_texts_are_joined_and_thoughts_are_none_of_it(self, connect: Any, content: Any) -> None:
        with ScriptedServer(says(choice(message={"role": "assistant", "content": content}))) as server:
            assert connect(server).predict(ask()).generated_text == "A red square."
        assert len(server.bodies) == 1

    @pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
    def test_thoughts_in_a_field_of_their_own_stay_out_of_the_text(self, connect: Any, field: str) -> None:
        message = {"content": "A red square.", field: "Hm."}
        with ScriptedServer(says(choice(message=message))) as server:
            assert connect(server).predict(ask()).generated_text == "A red square."

    @pytest.mark.parametrize(
        ("usage", "count"),
        [
            ({"completion_tokens_details": {"reasoning_tokens": 7}}, 7),
            ({"output_tokens_details": {"reasoning_tokens": 7}}, 7),
            ({"reasoning_tokens": 7}, 7),
            ({"completion_tokens_details": {"reasoning_tokens": 0}}, None),
            ({"completion_tokens_details": None}, None),
            ({"completion_tokens_details": {"reasoning_tokens": "many"}}, None),
            ({}, None),
        ],
    )
    def test_tokens_of_thoughts_are_those_that_the_server_counts(
        self, connect: Any, usage: dict[str, Any], count: int | None
    ) -> None:
        body = choice(message={"content": "A red square.", "reasoning_content": "Hm."})
        body["usage"] = {"prompt_tokens": 3, "completion_tokens": 9, **usage}
        with ScriptedServer(says(body)) as server:
            output = connect(server).predict(ask())
        assert (output.reasoning, output.reasoning_tokens) == ("Hm.", count)
        assert output.usage.completion_tokens == 9

    def test_thoughts_that_never_end_leave_no_text(self, connect: Any) -> None:
        with ScriptedServer(answer("<think>Hm, so", finish="length")) as server:
            output = connect(server).predict(ask())
        assert (output.generated_text, output.finish_reason) == ("", "length")

    def test_a_budget_of_thoughts_is_sent_to_vllm_and_refused_elsewhere(self, connect: Any) -> None:
        """Most servers would pass over it without a word."""
        with ScriptedServer() as server:
            with pytest.raises(PromptError, match="only vLLM's server is known to end thoughts"):
                connect(server).predict(ask(thinking_budget=5))
            assert server.bodies == []
            listed = {"object": "list", "data": [{"id": "toy", "object": "model", "owned_by": "vllm"}]}
            server.listing = says(listed)
            output = connect(server).predict(ask(thinking_budget=5))
        assert server.bodies[0]["thinking_token_budget"] == 5
        assert output.generation_config["thinking_budget"] == 5

    def test_json_after_thoughts_is_parsed(self, connect: Any) -> None:
        with ScriptedServer(answer('<think>{"no": 1}</think>{"a": 1}')) as server:
            output = connect(server).predict(ask(response_format={"type": "json_object"}))
        assert output.parsed == {"a": 1}


WRAPPED = [
    '```json\n{"a": 1}\n```',
    '```\n{"a": 1}\n```',
    '```JSON {"a": 1}```',
    'Here it is:\n```json\n{"a": 1}\n```\nAnything else?',
    'Sure! {"a": 1} I hope that helps.',
    'json\n{"a": 1}',
    '{"a": 1}<|im_end|>',
    '```json\n{"a": 1}',
    "```python\nprint({1})\n```\n" + '```json\n{"a": 1}\n```',
    "In {braces} it is: " + '{"a": 1}',
]


class TestJson:
    @pytest.mark.parametrize("text", WRAPPED)
    def test_json_in_a_fence_or_among_words_is_found(self, text: str) -> None:
        assert find_json(text) == ({"a": 1}, False)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ('{"code": "```x```"}', {"code": "```x```"}),
            ('```json\n{"code": "```py\\nx\\n```"}\n```', {"code": "```py\nx\n```"}),
            ("```json\n[1, 2]\n```", [1, 2]),
            ('{"a": {"b": 1}} is it', {"a": {"b": 1}}),
            ("[1, 2]", [1, 2]),
            ("3", 3),
        ],
    )
    def test_the_outermost_value_counts(self, text: str, value: Any) -> None:
        assert parse_json(text) == value

    @pytest.mark.parametrize(
        "text",
        ["", "no", '{"a": 1', '```json\n{"a": \n```', '{"a": 1} or {"a": 2}', "see [1]", '```json\n{"a": NaN}\n```',
         '```\n{"a": 1}\n```\n```\n{"a": 2}\n```', "{" * 5000, "a" * 100_000],
    )  # fmt: skip
    def test_where_there_is_none_or_more_than_one_nothing_is_guessed(self, text: str) -> None:
        assert parse_json(text) is None

    def test_it_is_flagged_and_not_paid_for_again(
        self, cli: Callable[..., Any], write_lines: Callable[..., Path], tmp_path: Path
    ) -> None:
        schema = {
            "type": "json_schema",
            "json_schema": {"schema": {"type": "object", "required": ["a"]}},
        }  # fmt: skip
        texts = {"fence": '```json\n{"a": 1}\n```', "bare": '{"a": 1}', "wrong": '```json\n{"b": 1}\n```'}
        asked = [{"id": name, "prompt": name, "response_format": schema, "temperature": 0} for name in texts]

        def say(handler: Any, body: Any) -> None:
            answer(texts[body["messages"][-1]["content"]])(handler, body)

        with ScriptedServer(always=say) as server:
            model = {
                "name": "served", "model_class": "OpenAIVLMModel", "model_params": {"base_url": server.url},
            }  # fmt: skip
            config = write_lines("models.yaml", [json.dumps({"models": [model]})])
            manifest = write_lines("manifest.jsonl", map(json.dumps, asked))
            flags = ["--config", config, "-m", "served", "-o", tmp_path / "out.jsonl", "--retry-flagged"]
            assert cli("generate", manifest, *flags).code == 0
            prompts = [body["messages"][-1]["content"] for body in server.bodies]
        lines = {line["id"]: line for line in map(json.loads, (tmp_path / "out.jsonl").open())}
        assert lines["fence"]["parsed"] == lines["bare"]["parsed"] == {"a": 1}
        assert lines["fence"]["flags"] == ["wrapped_json"]
        assert lines["bare"]["flags"] == []
        assert "invalid_json" in lines["wrong"]["flags"]
        assert sorted(prompts) == ["bare", "fence", "wrong", "wrong"]


class TestProbabilities:
    CONTENT: ClassVar = [
        {"token": "A", "bytes": [65], "logprob": -0.1, "top_logprobs": []},
        {"token": " cat", "bytes": None, "logprob": -0.3, "top_logprobs": []},
    ]

    def answer_of(self, **changes: Any) -> VLMOutput:
        input = VLMInput(prompt="a", max_new_tokens=4, temperature=0, top_logprobs=0)
        request = RequestWriter(send_urls=False, max_image_side=None, extra_body={}).write(input, Limits())
        assert request.settings["logprobs"] is True
        return read_answer(choice(**changes), request, request.used)

    def test_what_a_server_tells_of_its_tokens_is_written_and_makes_the_confidence(self) -> None:
        answer = self.answer_of(logprobs={"content": self.CONTENT})
        assert answer.logprobs == {"content": self.CONTENT}
        assert answer.confidence == pytest.approx(math.exp(-0.2), abs=1e-6)
        assert answer.generation_config["top_logprobs"] == 0

    @pytest.mark.parametrize(
        "told", [None, {}, {"content": None}, {"content": [{"token": "A"}]}, {"content": ["A"]}]
    )
    def test_one_that_tells_nothing_did_not_use_the_setting(self, told: Any) -> None:
        answer = self.answer_of(logprobs=told)
        assert answer.logprobs is answer.confidence is None
        assert "top_logprobs" not in answer.generation_config
