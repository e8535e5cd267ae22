"""An address that is not the API's: found one /v1 further, or said in words that help."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from tests.engines.scripted_server import Action, ScriptedServer, answer, page, raw, says, status
from tests.engines.served import ask, collected, config, connect, impatient

from pixano_vlm.engines.openai.discovery import api_address
from pixano_vlm.engines.openai.model import OpenAIVLMModel
from pixano_vlm.errors import ModelLoadError, RunError

__all__ = ["collected", "connect", "impatient"]  # fixtures

pytest.importorskip("openai")
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


QUESTION = "Is this the address of the API? It should end with /v1"

ELSEWHERE = {
    "a page": page("Open WebUI"),
    "a page of not found": page("404 Not Found", code=404),
    "FastAPI's not found": says({"detail": "Not Found"}, 404),
    "Go's not found": lambda handler, body: handler.reply(404, b"404 page not found"),
    "LM Studio's 200": says({"error": "Unexpected endpoint or method. (GET /models)"}),
    "method not allowed": status(405, "Method Not Allowed"),
    "another JSON": says({"status": "ok"}),
    "words": raw(b"Ollama is running"),
}


def base(server: ScriptedServer, path: str = "") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def load(url: str, **params: Any) -> OpenAIVLMModel:
    model = OpenAIVLMModel(config(url, **params))
    model.load_model()
    return model


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("slash", ["", "/"])
def test_an_address_without_v1_is_tried_with_it_and_the_model_says_which_it_took(
    name: str, slash: str
) -> None:
    with ScriptedServer() as server:
        server.at, server.elsewhere = "/v1", ELSEWHERE[name]
        model = load(base(server) + slash, tries=2)
        try:
            assert model.predict(ask("yes")).generated_text == "yes"
            assert str(model.describe()["server"]).rstrip("/") == base(server, "/v1")
        finally:
            model.unload()
    assert server.paths[-2:] == ["/v1/models", "/v1/chat/completions"]


@pytest.mark.parametrize("code", [403, 500, 503])
def test_it_is_taken_with_v1_where_the_list_of_models_fails_there(code: int) -> None:
    """`transformers serve` answers 500 where the hub's cache is empty, and answers questions all the same."""
    with ScriptedServer() as server:
        server.at, server.listing = "/v1", status(code)
        model = load(base(server), model="toy", tries=2)
        try:
            assert model.predict(ask("yes")).generated_text == "yes"
            assert server.paths.count("/v1/models") == (2 if code == 503 else 1)  # 503 may pass
        finally:
            model.unload()
        with pytest.raises(ModelLoadError, match=str(code)) as raised:
            load(base(server), tries=2)
    assert QUESTION not in (raised.value.hint or "")


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("path", ["", "/v1", "/api"])
def test_where_no_api_is_the_error_asks_for_the_address(name: str, path: str) -> None:
    with ScriptedServer() as server:
        server.at, server.elsewhere = "/nowhere", ELSEWHERE[name]
        with pytest.raises(ModelLoadError) as raised:
            load(base(server, path), tries=2)
    assert QUESTION in (raised.value.hint or "")
    assert "<" not in raised.value.message
    assert "Error" not in raised.value.message


@pytest.mark.parametrize("name", ["a page", "a page of not found", "FastAPI's not found"])
def test_so_does_a_run_that_does_not_ask_for_the_models(name: str) -> None:
    with ScriptedServer() as server:
        server.at, server.elsewhere = "/v1", ELSEWHERE[name]
        model = load(base(server, "/v2"), model="toy", check_model=False)
        try:
            with pytest.raises(RunError) as raised:
                list(model.stream((n, ask()) for n in range(200)))
        finally:
            model.unload()
    assert QUESTION in (raised.value.hint or "")


@pytest.mark.parametrize(
    "typed",
    ["/v1/chat/completions", "/v1/models", "/v1/", "/v1//", "/v1/completions/"],
)
def test_the_name_of_an_endpoint_behind_the_address_is_left_off(typed: str) -> None:
    assert api_address(f"http://x:1{typed}") == "http://x:1/v1"


@pytest.mark.parametrize(
    "listed",
    [
        {"object": "list", "data": [{"id": "toy"}]},
        {"data": [{"id": "toy", "object": "model"}]},
        [{"id": "toy"}],
        {"models": [{"name": "toy"}]},
    ],
)
def test_each_servers_form_of_the_list_of_models_is_read(connect: Any, listed: Any) -> None:
    with ScriptedServer() as server:
        server.listing = says(listed)
        assert connect(server).describe()["model"] == "toy"


@pytest.mark.parametrize(("wanted", "listed"), [("llava", "llava:latest"), ("gem", "models/gem")])
def test_a_name_that_the_server_lists_with_more_to_it_is_taken(
    connect: Any, wanted: str, listed: str
) -> None:
    with ScriptedServer() as server:
        server.models = [listed, "other"]
        assert connect(server, model=wanted).describe()["model"] == wanted


@pytest.mark.parametrize(
    "listing",
    [says({"object": "list", "data": []}), status(500, "no cache"), status(404, "Not Found"), status(405)],
)
def test_a_server_that_lists_nothing_is_asked_for_the_model_that_is_named(
    connect: Any, listing: Action
) -> None:
    """`transformers serve` lists what is in its cache, and serves any folder."""
    with ScriptedServer() as server:
        server.listing = listing
        assert connect(server, model="any", tries=2).predict(ask("yes")).generated_text == "yes"
        with pytest.raises(ModelLoadError):
            connect(server, tries=2)


def test_a_server_that_still_loads_is_waited_for(connect: Any) -> None:
    with ScriptedServer() as server:
        left = [status(503, "Loading model")] * 2

        def loading(handler: Any, body: Any) -> None:
            (left.pop() if left else says({"data": [{"id": "toy"}]}))(handler, body)

        server.listing = loading
        assert connect(server).describe()["model"] == "toy"


@pytest.mark.parametrize(
    ("code", "words"), [(401, "api_key_env"), (403, "api_key_env"), (402, "Fill the account")]
)
def test_a_server_that_wants_a_key_or_money_says_so(connect: Any, code: int, words: str) -> None:
    with ScriptedServer() as server:
        server.listing = status(code, "no")
        with pytest.raises(ModelLoadError, match=str(code)) as raised:
            connect(server)
    assert words in (raised.value.hint or "")


class TestScheme:
    def test_https_where_it_speaks_http(self) -> None:
        with ScriptedServer() as server, pytest.raises(ModelLoadError, match="cannot be reached") as raised:
            load(base(server, "/v1").replace("http:", "https:"))
        assert "http" in (raised.value.hint or "")

    @pytest.mark.parametrize("code", [301, 302, 307, 308])
    def test_a_redirect_on_the_same_host_is_followed_once_and_for_all(self, code: int) -> None:
        with ScriptedServer() as server:
            server.at = "/api/v1"
            there = base(server, "/api/v1/models")
            server.elsewhere = lambda handler, body: handler.reply(code, b"", Location=there)
            model = load(base(server, "/v1"))
            try:
                assert model.predict(ask("yes")).generated_text == "yes"
            finally:
                model.unload()
        assert server.paths == ["/v1/models", "/api/v1/models", "/api/v1/chat/completions"]

    def test_one_to_another_host_is_not_for_the_key_goes_nowhere_else(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_KEY", "sk-secret")
        with ScriptedServer() as other, ScriptedServer() as server:
            there = f"http://localhost:{other.server_port}/v1/models"
            server.elsewhere = lambda handler, body: handler.reply(301, b"", Location=there)
            server.at = "/nowhere"
            with pytest.raises(ModelLoadError) as raised:
                load(base(server, "/v1"), api_key_env="MY_KEY")
        assert f"redirects to {there}" in (raised.value.hint or "")
        assert other.paths == []

    def test_http_where_it_speaks_https_is_said_in_the_servers_words(self, connect: Any) -> None:
        with ScriptedServer() as server:
            server.listing = lambda handler, body: handler.reply(
                400, b"The plain HTTP request was sent to HTTPS port"
            )
            with pytest.raises(ModelLoadError) as raised:
                connect(server)
        assert "https" in (raised.value.hint or "")

    def test_a_port_that_speaks_no_http_at_all_is_a_load_error(self) -> None:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(8)

            def greet() -> None:
                for _ in range(2):
                    connection, _ = listening.accept()
                    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                    connection.close()

            thread = threading.Thread(target=greet, daemon=True)
            thread.start()
            with pytest.raises(ModelLoadError, match="cut the connection"):
                load(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", tries=2)
            thread.join(5)


def test_a_page_in_the_middle_of_a_run_is_a_failed_attempt(connect: Any) -> None:
    """A proxy shows it while its server is away."""
    with ScriptedServer(answer(), page("We will be back soon")) as server:
        answers = dict(connect(server, concurrency=1).stream((n, ask("p")) for n in range(4)))
    assert [got.generated_text for got in answers.values()] == ["p"] * 4
