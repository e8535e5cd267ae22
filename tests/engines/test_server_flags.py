"""`generate --base-url` and `ask --base-url`: a model behind a server, without a config file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.engines.scripted_server import ScriptedServer, status, where
from tests.engines.served import collected, impatient

__all__ = ["collected", "impatient"]  # a fixture

pytest.importorskip("openai")
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def run(cli: Callable[..., Any], write_lines: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    def run(*flags: str, **line: Any) -> Any:
        manifest = write_lines("manifest.jsonl", [json.dumps({"prompt": "What?", **line})])
        return cli("generate", manifest, "-o", tmp_path / "out.jsonl", "--overwrite", *flags)

    return run


def test_the_only_model_of_the_server_is_found_and_names_the_answers(run: Any, tmp_path: Path) -> None:
    with ScriptedServer() as server:
        ran = run("--base-url", server.url)
    assert ran.code == 0, ran.err
    line = json.loads((tmp_path / "out.jsonl").read_text())
    assert (line["model"], line["generated_text"]) == ("toy", "What?")
    assert server.bodies[0]["model"] == "toy"


def test_an_address_without_v1_does(run: Any) -> None:
    with ScriptedServer() as server:
        server.at = "/v1"
        assert run("--base-url", f"http://127.0.0.1:{server.server_port}").code == 0


def test_of_several_one_is_named_and_the_error_lists_them(run: Any) -> None:
    with ScriptedServer() as server:
        server.models = ["a", "b"]
        ran = run("--base-url", server.url)
        assert ran.code == 3
        assert "lists 2 models: a, b" in ran.err
        assert "--server-model" in ran.err
        assert run("--base-url", server.url, "--server-model", "b").code == 0
        assert run("--base-url", server.url, "-m", "a").code == 0
    assert [body["model"] for body in server.bodies] == ["b", "a"]


def test_both_names_are_what_outputs_say_and_what_the_server_is_asked_for(run: Any, tmp_path: Path) -> None:
    with ScriptedServer() as server:
        assert run("--base-url", server.url, "-m", "mine", "--server-model", "toy").code == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["model"] == "mine"
    assert server.bodies[0]["model"] == "toy"


def test_the_key_is_the_variables_and_nobody_else_sees_it(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with ScriptedServer() as server:
        ran = run("--base-url", server.url, "--api-key-env", "MY_KEY", "-v")
    assert ran.code == 0
    assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert "very-secret" not in ran.out + ran.err
    assert b"very-secret" not in written


@pytest.fixture
def ask(cli: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    return lambda *flags: cli("ask", tmp_path / "a.png", "What?", *flags)


def test_ask_asks_a_server_and_sends_it_the_image_and_the_key(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with ScriptedServer() as server:
        ran = ask("--base-url", server.url, "--api-key-env", "MY_KEY")
        assert (ran.code, ran.out) == (0, "What?\n"), ran.err
        assert ask("--base-url", server.url, "-m", "mine", "--server-model", "toy").code == 0
    assert [body["model"] for body in server.bodies] == ["toy", "toy"]
    assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert "data:image/" in json.dumps(server.bodies[0])


def test_ask_refuses_a_flag_about_a_server_that_is_not_named(ask: Any) -> None:
    ran = ask("--server-model", "a")
    assert ran.code == 2
    assert "--server-model is about a server" in ran.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--base-url URL"),
        (("--server-model", "a"), "--server-model is about a server"),
        (("-m", "shapes", "--api-key-env", "A"), "--api-key-env is about a server"),
        (("--base-url", "localhost:8000"), "http(s) URL"),
        (("--base-url", "http://x/v1", "-m", "a", "--device", "cpu"), "has no such parameter"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(run: Any, flags: tuple[str, ...], words: str) -> None:
    ran = run(*flags)
    assert ran.code == 2
    assert words in ran.err


def test_a_server_that_is_not_there_is_said_before_anything_is_written(run: Any, tmp_path: Path) -> None:
    with ScriptedServer() as server:
        url = server.url
    ran = run("--base-url", url)
    assert ran.code == 3
    assert "cannot be reached" in ran.err
    assert not (tmp_path / "out.jsonl").exists()


def test_the_batch_size_is_how_many_requests_are_under_way(run: Any) -> None:
    with ScriptedServer() as server:
        assert run("--base-url", server.url, "--max-batch-size", "3").code == 0
        assert run("--base-url", server.url, "--max-batch-size", "5000").code == 2


def test_a_default_temperature_that_the_server_refuses_is_left_out_and_one_that_is_asked_for_is_not(
    run: Any,
) -> None:
    act = where(lambda body: "temperature" in body, status(400, "temperature is not supported"))
    with ScriptedServer(always=act) as server:
        assert run("--base-url", server.url).code == 0
        ran = run("--base-url", server.url, "--temperature", "1")
    assert ran.code == 3
    assert "'temperature'" in ran.err
