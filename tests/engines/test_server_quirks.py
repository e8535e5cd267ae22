"""What single servers, gateways and proxies do in their own way, each told by the thing that it is known for."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.engines.scripted_server import (
    Action,
    ScriptedServer,
    answer,
    completion,
    page,
    raw,
    says,
    status,
    where,
    words,
)
from tests.engines.served import ask, collected, config, connect, impatient, picture

from pixano_vlm.engines.openai.discovery import api_address
from pixano_vlm.engines.openai.model import OpenAIVLMModel
from pixano_vlm.errors import ConfigError, GenerationError, ModelLoadError, RunError, VLMError
from pixano_vlm.models import VLMOutput

__all__ = ["collected", "connect", "impatient"]  # fixtures

pytest.importorskip("openai")
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def choice(**changes: Any) -> dict[str, Any]:
    body = completion("A red square.")
    body["choices"][0] |= changes
    return body


def error(message: str, http: int = 400, **more: Any) -> Action:
    return says({"error": {"message": message, **more}}, http)


def bad(act: Action) -> Action:
    """For the prompts that begin with "bad"."""
    return where(lambda body: words(body).startswith("bad"), act)


def stream(model: Any, prompts: list[str]) -> dict[int, Any]:
    return dict(model.stream((n, ask(prompt)) for n, prompt in enumerate(prompts)))


def failed(answers: dict[int, Any]) -> list[int]:
    return sorted(key for key, got in answers.items() if isinstance(got, VLMError))


def load(url: str, **params: Any) -> OpenAIVLMModel:
    model = OpenAIVLMModel(config(url, **params))
    model.load_model()
    return model


# --- bodies ---


def with_type(data: bytes, content_type: str, **headers: str) -> Action:
    return lambda handler, body: handler.reply(200, data, Content_Type=content_type, **headers)


WHOLE = json.dumps(completion("Grüße"), ensure_ascii=False).encode()


class TestBodies:
    @pytest.mark.parametrize(
        "act",
        [
            raw(b"\n \n\n   " + WHOLE),  # OpenRouter keeps a connection alive so
            raw(b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + WHOLE),
            raw(b"\xef\xbb\xbf" + WHOLE),  # .NET
            with_type(WHOLE, "application/json; charset=iso-8859-1"),
            with_type(WHOLE, "text/plain; charset=us-ascii"),
            with_type(WHOLE, "text/html"),
            with_type(gzip.compress(WHOLE), "application/json", Content_Encoding="gzip"),
            says(completion("Grüße"), 201),
            says(completion("Grüße"), 203),
        ],
    )
    def test_an_answer_is_read_whatever_is_around_it(self, connect: Any, act: Action) -> None:
        with ScriptedServer(act) as server:
            assert connect(server).predict(ask()).generated_text == "Grüße"
        assert len(server.bodies) == 1

    @pytest.mark.parametrize(
        "act",
        [
            with_type(b"no gzip at all", "application/json", Content_Encoding="gzip"),
            with_type(gzip.compress(WHOLE)[:60], "application/json", Content_Encoding="gzip"),
            lambda handler, body: handler.reply(204, b""),
            says({"status": "pending"}, 202),
        ],
    )
    def test_one_that_cannot_be_read_is_a_failed_attempt_and_no_crash(
        self, connect: Any, act: Action
    ) -> None:
        with ScriptedServer(act) as server:
            assert connect(server).predict(ask("whole")).generated_text == "whole"
        with ScriptedServer(always=act) as server:
            model = connect(server, tries=2)
            with pytest.raises(GenerationError, match="tried 2 times") as raised:
                model.predict(ask())
        assert "went away" not in str(raised.value)

    def test_what_a_terminal_would_obey_is_left_out_of_the_servers_words(self, connect: Any) -> None:
        with ScriptedServer(always=bad(error("\x1b[2Jred \x1b]0;title\x07\u202eeel\x00"))) as server:
            got = stream(connect(server, concurrency=1), ["p", "bad"])[1]
        assert str(got).isprintable()
        assert "red" in str(got)

    def test_half_an_emoji_does_not_end_the_run(
        self, cli: Callable[..., Any], write_lines: Callable[..., Path], tmp_path: Path
    ) -> None:
        """A server in JavaScript that cuts an answer off may leave one."""
        with ScriptedServer(always=raw(json.dumps(completion("Fun \ud83d", "length")).encode())) as server:
            manifest = write_lines("manifest.jsonl", ['{"id": "a", "prompt": "p"}'])
            ran = cli("generate", manifest, "--base-url", server.url, "-o", tmp_path / "out.jsonl")
        line = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
        assert (ran.code, line["status"]) == (0, "ok")
        assert line["generated_text"].startswith("Fun ")

    @pytest.mark.parametrize(
        "chunks",
        [
            [
                {"choices": [{"delta": {"content": "A red "}}]},
                {"choices": [{"delta": {"content": "square."}}]},
            ],
            [
                {"choices": [{"delta": {"content": "A red square."}, "finish_reason": "stop"}]},
                {"choices": []},
            ],
        ],
    )
    def test_an_answer_that_is_streamed_although_nobody_asked_is_put_together(
        self, connect: Any, chunks: list[Any]
    ) -> None:
        chunks = [*chunks, {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}]
        data = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        with ScriptedServer(with_type(data.encode(), "text/event-stream")) as server:
            output = connect(server).predict(ask())
        assert (output.generated_text, output.usage.total_tokens) == ("A red square.", 7)
        assert len(server.bodies) == 1

    @pytest.mark.parametrize(
        "data",
        [
            b'data: {"choices": [{"delta": {"content": "A red"}}]}\n\n',  # cut off
            b'event: error\ndata: {"error": {"message": "out of memory"}}\n\ndata: [DONE]\n\n',
            b'data: {"choices": [{"delta": {"content": "A"}}]}\n\ndata: {"error": {"message": "no"}}\n\n',
            b"data: [DONE]\n\n",
        ],
    )
    def test_half_a_stream_is_never_an_answer(self, connect: Any, data: bytes) -> None:
        with ScriptedServer(with_type(data, "text/event-stream")) as server:
            assert connect(server).predict(ask("whole")).generated_text == "whole"
        assert len(server.bodies) == 2


# --- answers ---


class TestAnswers:
    @pytest.mark.parametrize(
        "changes",
        [
            {"finish_reason": "content_filter: PROHIBITED_CONTENT"},  # Gemini
            {"finish_reason": "content_filter: RECITATION", "message": None},
            {"finish_reason": "refusal"},  # Anthropic
            {"finish_reason": "model_armor"},
            {"finish_reason": "content_filter", "message": {}},  # Azure
            {"finish_reason": "content-filter"},
        ],
    )
    def test_a_filtered_answer_is_the_records_error_at_once(self, connect: Any, changes: Any) -> None:
        with (
            ScriptedServer(always=says(choice(**changes))) as server,
            pytest.raises(GenerationError, match="content filter"),
        ):
            connect(server).predict(ask())
        assert len(server.bodies) == 1

    @pytest.mark.parametrize(
        ("message", "said"),
        [
            ({"content": "", "refusal": "I cannot help with that."}, "it refuses: I cannot help"),
            ({"content": " \n", "refusal": "No."}, "it refuses: No"),
            ({"content": "", "tool_calls": [{"id": "x", "type": "function"}]}, "calls a tool"),
            ({"content": "", "function_call": {"name": "f"}}, "calls a tool"),
            ({"content": [{"type": "text", "text": ""}], "refusal": "No."}, "it refuses: No"),
        ],
    )
    def test_an_empty_text_beside_a_refusal_or_a_call_is_not_an_answer(
        self, connect: Any, message: Any, said: str
    ) -> None:
        with (
            ScriptedServer(says(choice(message=message))) as server,
            pytest.raises(GenerationError, match=said),
        ):
            connect(server).predict(ask())

    @pytest.mark.parametrize("extra", [{"refusal": None}, {"refusal": ""}, {"tool_calls": []}])
    def test_empty_fields_beside_a_text_change_nothing(self, connect: Any, extra: Any) -> None:
        message = {"content": "A red square.", **extra}
        with ScriptedServer(says(choice(message=message))) as server:
            assert connect(server).predict(ask()).generated_text == "A red square."

    @pytest.mark.parametrize("finish", ["load", "unload", "MALFORMED_RESPONSE", "server_error"])
    def test_an_end_that_is_none_is_a_failed_attempt(self, connect: Any, finish: str) -> None:
        """Ollama answers `load` when it has done nothing but load the model."""
        with ScriptedServer(answer("", finish=finish)) as server:
            assert connect(server).predict(ask("whole")).generated_text == "whole"

    @pytest.mark.parametrize(
        ("begin", "end"),
        [
            ("<thought>", "</thought>"),
            ("<seed:think>", "</seed:think>"),
            ("<|START_THINKING|>", "<|END_THINKING|>"),
            ("<reasoning>", "</reasoning>"),
        ],
    )
    def test_thoughts_in_a_text_are_known_by_the_marks_that_the_other_engines_know(
        self, connect: Any, begin: str, end: str
    ) -> None:
        with ScriptedServer(answer(f"{begin}Hm.{end}\nA red square.")) as server:
            output = connect(server).predict(ask())
        assert (output.reasoning, output.generated_text) == ("Hm.", "A red square.")

    @pytest.mark.parametrize(
        ("usage", "counts"),
        [
            (b'{"prompt_tokens": NaN, "completion_tokens": 3}', (0, 3)),
            (b'{"prompt_tokens": 1e999, "completion_tokens": 3.0}', (0, 3)),
            (b'{"prompt_tokens": true, "completion_tokens": -1}', (0, 0)),
            (b'[5, 3]', (0, 0)),
        ],
    )  # fmt: skip
    def test_counts_that_are_none_cost_no_answer(self, connect: Any, usage: bytes, counts: Any) -> None:
        body = (
            json.dumps({**completion("x"), "usage": 0}).encode().replace(b'"usage": 0', b'"usage": ' + usage)
        )
        with ScriptedServer(raw(body)) as server:
            output = connect(server).predict(ask())
        assert (output.generated_text, output.usage.prompt_tokens, output.usage.completion_tokens) == (
            "x", *counts,
        )  # fmt: skip

    @pytest.mark.parametrize(
        "body",
        [
            {**choice(), "error": None, "prompt_filter_results": [{"content_filter_results": {}}]},  # Azure
            {**choice(native_finish_reason="STOP", error=None), "provider": "x"},  # OpenRouter
            {
                **choice(stop_reason=None, logprobs=None),
                "prompt_logprobs": None,
                "kv_transfer_params": None,
            },  # vLLM
            {**choice(), "timings": {"prompt_n": 9}, "message": ""},  # llama.cpp
            {
                **choice(),
                "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": None},
            },
            {**choice(), "warnings": [{"message": "max_tokens is deprecated"}]},
        ],
    )
    def test_what_else_a_server_says_does_not_make_an_answer_an_error(self, connect: Any, body: Any) -> None:
        with ScriptedServer(says(body)) as server:
            assert connect(server).predict(ask()).generated_text == "A red square."
        assert len(server.bodies) == 1


# --- refusals ---

TOO_LONG = {
    "OpenAI": error("This model's maximum context length is 4097 tokens.", code="context_length_exceeded"),
    "vLLM": says({
        "object": "error", "type": "BadRequestError", "code": 400, "param": None, "message": "This model's maximum "
        "context length is 256 tokens. However, you requested 300 output tokens and your prompt contains 91 input "
        "tokens. Please reduce max_tokens or the length of the prompt. (parameter=input_tokens, value=91)",
    }, 400),
    "llama.cpp": error("the request exceeds the available context size, try increasing it",
                       type="exceed_context_size_error", n_prompt_tokens=900, n_ctx=256),
    "TGI": says({"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 "
                 "`inputs` tokens and 8 `max_new_tokens`", "error_type": "validation"}, 422),
    "SGLang": says({"object": "error", "message": "The input (4000 tokens) is longer than the model's context length "
                    "(2048 tokens).", "type": "BadRequestError", "code": 400}, 400),
    "Anthropic": says({"type": "error", "error": {"type": "invalid_request_error",
                       "message": "prompt is too long: 209377 tokens > 200000 maximum"}}, 400),
    "LM Studio": says({"error": "Trying to keep the first 5000 tokens when context the overflows. However, the model "
                       "is loaded with context length of only 4096 tokens"}, 400),
    "Gemini": says([{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "The input token count (12000) "
                     "exceeds the maximum number of tokens allowed (1048576)."}}], 400),
    "Mistral": says({"object": "error", "type": "invalid_request_error", "code": 3051, "message": "Prompt contains "
                     "40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"}, 400),
}  # fmt: skip


class TestRefusals:
    @pytest.mark.parametrize("name", TOO_LONG)
    def test_a_prompt_that_is_too_long_is_one_records_error_that_says_what_to_change(
        self, connect: Any, name: str
    ) -> None:
        with ScriptedServer(always=bad(TOO_LONG[name])) as server:
            answers = stream(connect(server, concurrency=1), ["p", "bad", "p"])
        assert failed(answers) == [1]
        assert "max_new_tokens" in (answers[1].hint or "")
        assert "max_image_side" in (answers[1].hint or "")
        assert len(server.bodies) == 3  # the limit's other name would not help

    @pytest.mark.parametrize(
        ("act", "said"),
        [
            (says([{"error": {"code": 400, "message": "Unable to process input image", "status": "INVALID"}}],
                  400), "Unable to process input image"),
            (says({"object": "error", "message": {"detail": [{"loc": ["body", "messages"], "msg": "bad image"}]}},
                  422), "body.messages: bad image"),
            (says({"type": "error", "error": {"type": "invalid_request_error", "message": "Could not process image"}},
                  400), "Could not process image"),
            (says({"code": "DataInspectionFailed", "message": "inappropriate content", "request_id": "7"}, 400),
             "inappropriate content"),
            (error("The response was filtered", code="content_filter",
                   innererror={"code": "ResponsibleAIPolicyViolation"}), "The response was filtered"),
            (says({"error": "Failed to load image", "error_type": "validation"}, 422), "Failed to load image"),
            (says({"errors": [{"message": "AiError: image"}], "success": False, "result": 0}, 400), "AiError: image"),
            (says({"error": {"message": "flagged", "metadata": {"reasons": ["x"]}, "code": 403}}, 403), "flagged"),
            (error("Unsupported Media Type", 415), "415"),
            (error("Unavailable", 451), "451"),
            (lambda handler, body: handler.reply(413, b""), "413"),
            (lambda handler, body: handler.reply(414, b"URI Too Long"), "414: URI Too Long"),
        ],
    )  # fmt: skip
    def test_one_record_that_is_refused_has_the_servers_words_in_every_servers_form(
        self, connect: Any, act: Action, said: str
    ) -> None:
        with ScriptedServer(always=bad(act)) as server:
            answers = stream(connect(server, concurrency=1), ["p", "bad", "p"])
        assert failed(answers) == [1]
        assert said in str(answers[1])
        assert len(server.bodies) == 3

    @pytest.mark.parametrize(
        "body",
        [
            {"error": {"message": "content policy", "code": "content_policy_violation"}},
            {"error": {"message": "bad image", "type": "invalid_request_error"}},
            {"error": {"message": "no", "code": "invalid_image"}},
            [{"error": {"code": 400, "message": "bad image"}}],
        ],
    )
    def test_a_refusal_under_status_200_is_not_asked_again(self, connect: Any, body: Any) -> None:
        with ScriptedServer(always=bad(says(body))) as server:
            answers = stream(connect(server, concurrency=1), ["p", "bad", "p"])
        assert failed(answers) == [1]
        assert len(server.bodies) == 3

    @pytest.mark.parametrize("code", [423, 424, 498, 499, 520, 521, 522, 523, 524, 525, 527, 529, 530, 598])
    def test_what_gateways_say_while_something_behind_them_fails_passes(
        self, connect: Any, code: int
    ) -> None:
        with ScriptedServer(answer(), page(f"{code} error", code=code), page("error", code=code)) as server:
            answers = stream(connect(server, concurrency=1), ["p", "q"])
        assert failed(answers) == []

    def test_a_record_whose_form_alone_is_refused_does_not_end_every_run_that_begins_with_it(
        self, connect: Any, tmp_path: Path
    ) -> None:
        """vLLM serves one image per prompt unless told otherwise."""
        image = picture(tmp_path / "a.jpg")
        act = where(
            lambda body: json.dumps(body).count('image_url":') > 1,
            error("At most 1 image(s) may be provided in one prompt."),
        )
        inputs = [ask("p", images=[image] * (2 if n == 0 else 1)) for n in range(6)]
        with ScriptedServer(always=act) as server:
            answers = dict(connect(server, concurrency=1).stream(enumerate(inputs)))
        assert failed(answers) == [0]
        assert "At most 1 image" in str(answers[0])

    def test_and_where_all_have_that_form_the_run_ends_after_a_few(
        self, connect: Any, tmp_path: Path
    ) -> None:
        image = picture(tmp_path / "a.jpg")
        act = where(lambda body: json.dumps(body).count('image_url":') > 1, error("At most 1 image(s)."))
        inputs = [ask("p", images=[image, image]) for _ in range(200)]
        with ScriptedServer(always=act) as server, pytest.raises(RunError, match="At most 1 image"):
            list(connect(server, concurrency=4).stream(enumerate(inputs)))
        assert len(server.bodies) <= 40


# --- waiting ---


class TestWaiting:
    @pytest.mark.parametrize("code", [429, 503, 504, 522])
    def test_a_server_that_is_away_behind_its_gateway_is_waited_for(self, connect: Any, code: int) -> None:
        """llama.cpp says 503 while it loads its model again, a proxy 502 to 504 while nothing is behind it."""

        def restarting(handler: Any, body: Any) -> None:
            act = status(code, "Loading model") if 5 <= len(handler.server.bodies) < 22 else answer()
            act(handler, body)

        with ScriptedServer(always=restarting) as server:
            model = connect(server, concurrency=4, tries=3)
            answers = stream(model, [f"p{n}" for n in range(40)])
        assert failed(answers) == []
        assert [answers[n].generated_text for n in range(40)] == [f"p{n}" for n in range(40)]

    def test_but_no_longer_than_an_outage_may_take(self, connect: Any) -> None:
        def gone(handler: Any, body: Any) -> None:
            (answer() if len(handler.server.bodies) < 5 else status(503, "no backend"))(handler, body)

        with ScriptedServer(always=gone) as server:
            model = connect(server, concurrency=2, tries=2, outage=0.5)
            with pytest.raises(RunError, match="503: no backend") as raised:
                stream(model, ["p"] * 40)
        assert "--resume" in (raised.value.hint or "")

    def test_a_503_that_one_record_alone_gets_is_its_own(self, connect: Any) -> None:
        with ScriptedServer(always=bad(status(503, "cannot"))) as server:
            answers = stream(connect(server, concurrency=1, tries=2), ["p", "bad", "p"])
        assert failed(answers) == [1]

    def test_a_wait_that_no_record_has_time_for_ends_the_run_after_a_few(self, connect: Any) -> None:
        act = status(429, "daily limit", Retry_After="86400")
        with ScriptedServer(always=act) as server, pytest.raises(RunError, match="86400 s"):
            stream(connect(server, concurrency=4), ["p"] * 200)
        assert len(server.bodies) <= 40

    @pytest.mark.parametrize("after", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
    def test_a_wait_of_no_time_at_all_is_not_taken_at_its_word(self, connect: Any, after: str) -> None:
        """Six attempts within a moment help nobody; a date in the past is a clock that is wrong."""
        with ScriptedServer(*[status(429, "slow", Retry_After=after)] * 3) as server:
            connect(server).predict(ask())
        assert server.times[3] - server.times[0] >= 0.09  # of 0.02, 0.04 and 0.08, give or take a quarter

    def test_the_wait_in_a_body_is_heeded_as_the_one_in_a_header(self, connect: Any) -> None:
        details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.1s"}]
        body = [
            {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": details}}
        ]
        with ScriptedServer(says(body, 429)) as server:
            connect(server).predict(ask())
        assert server.times[1] - server.times[0] >= 1.0


# --- addresses ---


class V6Server(ScriptedServer):
    address_family = socket.AF_INET6

    def __init__(self) -> None:
        super().__init__()

    def server_bind(self) -> None:
        self.server_address = ("::1", 0)  # type: ignore[assignment]
        ThreadingHTTPServer.server_bind(self)


class TestAddresses:
    @pytest.mark.parametrize(
        "typed",
        [
            " http://x:1/v1 ",
            "http://x:1/v1#frag",
            "http://x:1/v1/chat",
            "http://x:1/v1/messages/",
            "HTTP://x:1/v1",
        ],
    )
    def test_what_was_pasted_around_an_address_is_left_off(self, typed: str) -> None:
        params = OpenAIVLMModel(config(typed)).params
        assert api_address(params.base_url).lower() == "http://x:1/v1"

    @pytest.mark.parametrize(
        "typed", ["http://x:99999/v1", "http://::1:8000/v1", "http://x:port/v1", "http://[::1/v1"]
    )
    def test_one_that_cannot_be_one_is_refused_before_anything_is_asked(self, typed: str) -> None:
        with pytest.raises(ConfigError, match="base_url"):
            OpenAIVLMModel(config(typed))

    def test_an_address_of_ipv6_does(self) -> None:
        try:
            server = V6Server()
        except OSError:
            pytest.skip("no IPv6 here")
        with server:
            model = load(f"http://[::1]:{server.server_port}")
            try:
                assert model.predict(ask("yes")).generated_text == "yes"
            finally:
                model.unload()

    @pytest.mark.parametrize(
        "path", ["/api/chat", "/api/generate", "/api", "/docs", "/#/chat", "/completion"]
    )
    def test_another_page_of_the_same_server_leads_to_its_api(self, path: str) -> None:
        with ScriptedServer() as server:
            server.at = "/v1"
            model = load(f"http://127.0.0.1:{server.server_port}{path}")
            try:
                assert model.predict(ask("yes")).generated_text == "yes"
            finally:
                model.unload()

    def test_a_query_goes_along_with_every_request(self) -> None:
        """As Azure's deployments have it, which list no models; the name is the deployment's."""
        with ScriptedServer() as server:
            server.at = "/openai/deployments/gpt/chat"
            url = f"http://127.0.0.1:{server.server_port}/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
            model = load(url, model="gpt")
            try:
                assert model.predict(ask("yes")).generated_text == "yes"
            finally:
                model.unload()
        assert server.paths[-1] == "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"

    def test_a_key_goes_to_such_a_deployment_in_the_header_that_it_reads(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_KEY", "sk-azure")
        with ScriptedServer() as server:
            url = f"http://127.0.0.1:{server.server_port}/openai/deployments/gpt?api-version=2024-10-21"
            model = load(url, model="gpt", api_key_env="MY_KEY", check_model=False)
            try:
                model.predict(ask("yes"))
            finally:
                model.unload()
        assert server.headers[0]["api-key"] == "sk-azure"

    def test_a_redirect_without_a_host_is_on_the_same_one(self) -> None:
        with ScriptedServer() as server:
            server.at = "/api/v1"
            server.elsewhere = lambda handler, body: handler.reply(308, b"", Location="/api/v1/models")
            model = load(f"http://127.0.0.1:{server.server_port}/v1")
            try:
                assert model.predict(ask("yes")).generated_text == "yes"
            finally:
                model.unload()

    def test_a_redirect_to_a_login_ends_the_run_that_was_answered_before(self, connect: Any) -> None:
        def expired(handler: Any, body: Any) -> None:
            if len(handler.server.bodies) < 5:
                answer()(handler, body)
            else:
                handler.reply(302, b"", Location="https://sso.example.org/login?next=x")

        with ScriptedServer(always=expired) as server, pytest.raises(RunError, match="302") as raised:
            stream(connect(server, concurrency=1), ["p"] * 100)
        assert "sso.example.org" in (raised.value.hint or "")
        assert len(server.bodies) < 20

    def test_a_key_that_runs_out_ends_the_run_that_was_answered_before(self, connect: Any) -> None:
        def expired(handler: Any, body: Any) -> None:
            (answer() if len(handler.server.bodies) < 5 else status(401, "token expired"))(handler, body)

        with ScriptedServer(always=expired) as server, pytest.raises(RunError, match="token expired"):
            stream(connect(server, concurrency=1), ["p"] * 100)
        assert len(server.bodies) < 12

    def test_a_certificate_that_nobody_trusts_is_said_with_what_to_set(self, tls_server: str) -> None:
        with pytest.raises(ModelLoadError, match="certificate") as raised:
            load(f"{tls_server}/v1")
        assert "SSL_CERT_FILE" in (raised.value.hint or "")
        assert "speak http?" not in (raised.value.hint or "")

    def test_a_proxy_of_the_environment_is_not_asked_for_what_runs_here(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with ScriptedServer(always=page("403 by the proxy", code=403)) as proxy, ScriptedServer() as server:
            proxy.listing = page("403 by the proxy", code=403)
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
            for host in ("127.0.0.1", "localhost"):
                load(f"http://{host}:{server.server_port}/v1").unload()
        assert proxy.paths == []

    def test_a_proxy_that_is_in_the_way_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with ScriptedServer() as proxy:
            port = proxy.server_port
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(ModelLoadError) as raised:
            load("http://models.invalid/v1", connect_timeout=1)
        assert "HTTP_PROXY" in (raised.value.hint or "")


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[str]:
    """A server whose certificate is its own."""
    import ssl
    import subprocess

    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    try:
        subprocess.run(made, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = ScriptedServer()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with server:
        yield f"https://127.0.0.1:{server.server_port}"


# --- lists of models ---


class TestListing:
    @pytest.mark.parametrize(
        "listed",
        [
            {"object": "list", "data": [{"id": "toy"}, {"id": "toy"}]},  # LiteLLM: one for each deployment
            {
                "object": "list",
                "data": [{"id": "toy"}],
                "models": [{"name": "toy", "model": "toy"}],
            },  # llama.cpp
            {"data": [{"id": "toy", "object": "model", "owned_by": None}], "has_more": False},
        ],
    )
    def test_one_model_that_is_listed_twice_is_one(self, connect: Any, listed: Any) -> None:
        with ScriptedServer() as server:
            server.listing = says(listed)
            assert connect(server).describe()["model"] == "toy"

    def test_a_list_of_nothing_is_a_list(self, connect: Any) -> None:
        """Ollama's, before a model was pulled."""
        with ScriptedServer() as server:
            server.listing = says({"object": "list", "data": None})
            with pytest.raises(ModelLoadError, match="lists 0 models"):
                connect(server)
            assert connect(server, model="any").describe()["model"] == "any"

    @pytest.mark.parametrize(
        ("wanted", "listing"),
        [
            ("late", says({"data": [{"id": "early"}], "has_more": True})),  # Anthropic: the first page
            ("toy:free", says({"data": [{"id": "toy"}, {"id": "other"}]})),  # OpenRouter
            ("toy", status(403, "Missing scopes: api.model.read")),  # OpenAI: a key for completions alone
        ],
    )
    def test_a_model_that_a_list_does_not_rule_out_is_asked_for(
        self, connect: Any, wanted: str, listing: Action
    ) -> None:
        with ScriptedServer() as server:
            server.listing = listing
            assert connect(server, model=wanted).predict(ask("yes")).generated_text == "yes"
        assert server.bodies[0]["model"] == wanted

    def test_an_api_without_v1_that_lists_nothing_is_told_how_it_can_be_asked(self) -> None:
        with ScriptedServer() as server:
            server.at = "/chat"
            url = f"http://127.0.0.1:{server.server_port}"
            with pytest.raises(ModelLoadError) as raised:
                load(url, model="toy")
            assert "check_model: false" in (raised.value.hint or "")
            model = load(url, model="toy", check_model=False)
            try:
                assert isinstance(model.predict(ask("yes")), VLMOutput)
            finally:
                model.unload()


def test_a_stream_is_not_asked_for_by_extra_body() -> None:
    with pytest.raises(ConfigError, match="stream"):
        OpenAIVLMModel(config("http://x/v1", extra_body={"stream": True}))
