"""The engine for OpenAI-compatible servers, against one that follows a script."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, cycle, pairwise
from pathlib import Path
from typing import Any

import pytest
from fsspec import filesystem
from PIL import Image
from tests.engines.scripted_server import (
    PATIENCE,
    ScriptedServer,
    answer,
    completion,
    cut,
    drip,
    hang,
    no_text,
    raw,
    reserved_port,
    status,
    words,
)
from tests.engines.served import ask, config, connect, impatient, picture, sent_picture

from pixano_vlm.catalog import create_model
from pixano_vlm.engines.openai import server as chat_server
from pixano_vlm.engines.openai.model import OpenAIVLMModel
from pixano_vlm.engines.openai.server import ChatServer
from pixano_vlm.errors import (
    ConfigError,
    GenerationError,
    ImageError,
    MissingPackageError,
    ModelLoadError,
    RunError,
    VLMError,
)
from pixano_vlm.models import Limits, VLMInput, VLMOutput
from pixano_vlm.retry import retry_after

__all__ = ["connect", "impatient"]  # fixtures

pytest.importorskip("openai")

# A connection that is given up while it is made leaves a coroutine or a transport behind: anyio's affair.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """What was given up is collected here, where the warning above is passed over, and not at the session's end."""
    yield
    gc.collect()


class TestWhatIsSent:
    def test_settings_that_a_record_leaves_open_are_left_to_the_server(self, connect: Any) -> None:
        with ScriptedServer() as server:
            connect(server).predict(ask())
        assert server.bodies == [
            {
                "model": "toy",
                "messages": [{"role": "user", "content": "What?"}],
                "max_tokens": 8,
                "temperature": 0.0,
            }
        ]

    def test_each_record_sends_its_own_sampling(self, connect: Any) -> None:
        settings = {
            "top_p": 0.9,
            "top_k": 5,
            "min_p": 0.1,
            "seed": 7,
            "repetition_penalty": 1.2,
            "stop": ["."],
        }
        with ScriptedServer() as server:
            output = connect(server).predict(ask(temperature=0.7, **settings))
        assert {name: server.bodies[0][name] for name in settings} == settings
        assert output.generation_config == {
            "max_new_tokens": 8,
            "do_sample": True,
            "temperature": 0.7,
            **settings,
        }

    def test_greedy_decoding_sends_no_setting_of_sampling(self, connect: Any) -> None:
        with ScriptedServer() as server:
            connect(server).predict(ask(top_p=0.9, seed=3))
        assert not {"top_p", "seed"} & set(server.bodies[0])

    def test_a_plain_image_is_sent_as_it_is(self, connect: Any, tmp_path: Path) -> None:
        path = picture(tmp_path / "a.jpg")
        with ScriptedServer() as server:
            connect(server).predict(ask(images=[path]))
        (image, text) = server.bodies[0]["messages"][0]["content"]
        head, data, _ = sent_picture(image["image_url"]["url"])
        assert (head, data) == ("data:image/jpeg;base64", path.read_bytes())
        assert text == {"type": "text", "text": "What?"}

    def test_an_image_that_servers_may_see_differently_is_sent_upright_as_png(
        self, connect: Any, tmp_path: Path
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = picture(tmp_path / "turned.jpg", exif=exif)
        rare = picture(tmp_path / "rare.tiff")
        with ScriptedServer() as server:
            connect(server).predict(ask(images=[turned, rare]))
        first, second, _ = server.bodies[0]["messages"][0]["content"]
        upright = sent_picture(first["image_url"]["url"])[2]
        assert upright.size == (10, 20)
        assert 0x0112 not in upright.getexif()
        assert sent_picture(second["image_url"]["url"])[2].format == "PNG"

    def test_a_large_image_is_made_smaller_when_asked(self, connect: Any, tmp_path: Path) -> None:
        path = picture(tmp_path / "a.jpg", (400, 200))
        with ScriptedServer() as server:
            connect(server, max_image_side=100).predict(ask(images=[path]))
        image, _ = server.bodies[0]["messages"][0]["content"]
        assert sent_picture(image["image_url"]["url"])[2].size == (100, 50)

    def test_pillows_own_limit_of_an_images_size_does_not_hold(
        self, connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = picture(tmp_path / "a.jpg")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        with ScriptedServer() as server:
            connect(server).predict(ask(images=[path]))
        image, _ = server.bodies[0]["messages"][0]["content"]
        assert base64.b64decode(image["image_url"]["url"].partition(",")[2]) == path.read_bytes()

    def test_damaged_exif_leaves_the_image_as_it_is(self, connect: Any, tmp_path: Path) -> None:
        path = picture(tmp_path / "a.png", exif=b"Exif\0\0garbage!")
        with ScriptedServer() as server:
            connect(server).predict(ask(images=[path]))
        image, _ = server.bodies[0]["messages"][0]["content"]
        assert sent_picture(image["image_url"]["url"])[1] == path.read_bytes()

    def test_urls_are_left_to_the_server_when_asked(self, connect: Any) -> None:
        url = "https://example.org/a.jpg"
        with ScriptedServer() as server:
            connect(server, send_urls=True).predict(ask(images=[url]))
        assert server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"] == url

    def test_no_url_is_left_to_the_server_where_none_is_allowed(self, connect: Any) -> None:
        with ScriptedServer() as server:
            model = connect(server, send_urls=True)
            model.limits = Limits(allow_urls=False)
            with pytest.raises(ImageError, match="URLs are not allowed in this run"):
                model.predict(ask(images=["https://example.org/a.jpg"]))
        assert server.bodies == []

    def test_objects_of_a_store_are_never_left_to_the_server(self, connect: Any, tmp_path: Path) -> None:
        filesystem("memory").pipe("/kept/a.png", picture(tmp_path / "a.png").read_bytes())
        with ScriptedServer() as server:
            connect(server, send_urls=True).predict(ask(images=["memory://kept/a.png"]))
        sent = server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
        assert sent.startswith("data:image/png")

    def test_messages_keep_their_roles_and_places_and_are_not_changed(
        self, connect: Any, tmp_path: Path
    ) -> None:
        path = picture(tmp_path / "a.png")
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image"}]},
        ]
        before = json.dumps(messages)
        with ScriptedServer(answer("ok")) as server:
            connect(server).predict(ask(messages, images=[path]))
        assert json.dumps(messages) == before
        system, user = server.bodies[0]["messages"]
        assert system == {"role": "system", "content": "Be brief."}
        assert [part["type"] for part in user["content"]] == ["text", "image_url"]

    def test_further_entries_of_the_body_and_the_newer_name_of_the_limit(self, connect: Any) -> None:
        with ScriptedServer() as server:
            connect(server, limit_name="max_completion_tokens", extra_body={"top_a": 1}).predict(ask())
        assert server.bodies[0]["max_completion_tokens"] == 8
        assert server.bodies[0]["top_a"] == 1
        assert "max_tokens" not in server.bodies[0]

    def test_a_schema_is_sent_with_a_name_and_the_answer_is_parsed(self, connect: Any) -> None:
        schema = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
        with ScriptedServer(answer('{"a": 1}')) as server:
            output = connect(server).predict(ask(response_format=schema))
        assert output.parsed == {"a": 1}
        assert server.bodies[0]["response_format"]["json_schema"] == {
            "name": "answer",
            "schema": {"type": "object"},
        }


class TestWhatComesBack:
    def test_text_usage_and_the_reason_are_the_servers(self, connect: Any) -> None:
        with ScriptedServer(answer("a cat", finish="length")) as server:
            output = connect(server).predict(ask())
        assert (output.generated_text, output.finish_reason) == ("a cat", "length")
        assert output.usage.model_dump() == {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
        }

    def test_an_answer_without_usage_says_so(self, connect: Any) -> None:
        body = {**completion("x"), "usage": None}
        with ScriptedServer(raw(json.dumps(body).encode())) as server:
            output = connect(server).predict(ask())
        assert output.generation_config["usage"] == "not told by the server"

    @pytest.mark.parametrize(
        ("finish", "says"), [("content_filter", "content filter"), ("stop", "holds no text")]
    )
    def test_an_answer_without_text_is_an_error_that_says_why(
        self, connect: Any, finish: str, says: str
    ) -> None:
        with ScriptedServer(no_text(finish)) as server, pytest.raises(GenerationError, match=says):
            connect(server).predict(ask())

    def test_a_damaged_image_is_its_records_error_and_is_never_sent(
        self, connect: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
        with ScriptedServer() as server:
            answers = dict(
                connect(server).stream(
                    [(0, ask(images=[tmp_path / "bad.jpg"])), (1, ask("fine", images=None))]
                )
            )
        assert isinstance(answers[0], ImageError)
        assert isinstance(answers[1], VLMOutput)
        assert len(server.bodies) == 1


class TestStream:
    def test_no_more_than_so_many_are_under_way_and_every_key_is_answered_once(self, connect: Any) -> None:
        with ScriptedServer(always=answer(after=0.02)) as server:
            answers = list(connect(server, concurrency=5).stream((n, ask(f"p{n}")) for n in range(60)))
        assert sorted(key for key, _ in answers) == list(range(60))
        assert all(got.generated_text == f"p{key}" for key, got in answers)
        assert 4 <= server.most <= 5

    def test_inputs_are_taken_no_faster_than_answers_come(self, connect: Any) -> None:
        taken = 0

        def endless() -> Iterator[tuple[int, VLMInput]]:
            nonlocal taken
            while True:
                taken += 1
                yield taken, ask()

        with ScriptedServer() as server:
            stream = connect(server, concurrency=3).stream(endless())
            for _ in range(20):
                next(stream)
            assert taken < 20 + 3 + 8
            stream.close()

    def test_one_record_that_the_server_refuses_does_not_end_the_stream(self, connect: Any) -> None:
        def refuse_one(handler: Any, body: Any) -> None:
            act = status(400, "prompt too long") if words(body) == "p3" else answer()
            act(handler, body)

        with ScriptedServer(always=refuse_one) as server:
            answers = dict(connect(server).stream((n, ask(f"p{n}")) for n in range(8)))
        assert [key for key, got in answers.items() if isinstance(got, VLMError)] == [3]
        assert str(answers[3]) == "the server answered 400: prompt too long"

    def test_it_can_be_closed_in_the_middle(self, connect: Any) -> None:
        with ScriptedServer(always=answer(after=0.05)) as server:
            model = connect(server, concurrency=2)
            stream = model.stream((n, ask()) for n in range(100))
            next(stream)
            stream.close()
            assert model.predict(ask("again")).generated_text == "again"


class TestTrouble:
    @pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
    def test_what_may_pass_is_tried_again(self, connect: Any, code: int) -> None:
        with ScriptedServer(status(code), status(code)) as server:
            assert connect(server).predict(ask("yes")).generated_text == "yes"
        assert len(server.bodies) == 3

    @pytest.mark.parametrize("code", [429, 503])
    def test_retry_after_is_waited_out_by_all(self, connect: Any, code: int) -> None:
        with ScriptedServer(status(code, Retry_After="1")) as server:
            answers = list(connect(server, concurrency=1).stream((n, ask()) for n in range(3)))
        assert len(answers) == 3
        assert server.times[1] - server.times[0] >= 0.95

    def test_waits_grow(self, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chat_server, "FIRST_WAIT", 0.1)
        with ScriptedServer(status(503), status(503), status(503)) as server:
            connect(server).predict(ask())
        waits = [after - before for before, after in pairwise(server.times)]
        # Spread by a quarter; a busy machine makes them longer.
        assert [wait >= least for wait, least in zip(waits, (0.075, 0.15, 0.3), strict=True)] == [True] * 3

    @pytest.mark.parametrize("act", [cut, raw(b"{not json"), raw(b"[]"), raw(b'{"choices": []}')])
    def test_a_cut_or_senseless_answer_is_tried_again(self, connect: Any, act: Any) -> None:
        with ScriptedServer(act) as server:
            assert connect(server).predict(ask("yes")).generated_text == "yes"
        assert len(server.bodies) == 2

    def test_tries_run_out_and_the_error_names_the_status(self, connect: Any) -> None:
        with (
            ScriptedServer(always=status(503, "overloaded")) as server,
            pytest.raises(GenerationError, match=r"answered 503: overloaded \(tried 3 times\)"),
        ):
            connect(server, tries=3).predict(ask())

    @pytest.mark.parametrize("act", [hang, drip])
    def test_a_server_that_hangs_or_drips_costs_no_more_than_the_limit(self, connect: Any, act: Any) -> None:
        with ScriptedServer(act) as server:
            began = time.monotonic()
            assert connect(server, timeout=0.3).predict(ask("yes")).generated_text == "yes"
            assert time.monotonic() - began < PATIENCE / 2

    def test_the_total_limit_holds_over_all_tries(self, connect: Any) -> None:
        with ScriptedServer(always=hang) as server:
            model = connect(server, timeout=0.3, total_timeout=0.8, tries=100)
            began = time.monotonic()
            with pytest.raises(GenerationError, match="no answer within"):
                model.predict(ask())
            assert time.monotonic() - began < PATIENCE / 2

    def test_a_wait_that_is_too_long_is_not_waited(self, connect: Any) -> None:
        with (
            ScriptedServer(always=status(429, Retry_After="3600")) as server,
            pytest.raises(GenerationError, match="3600 s later"),
        ):
            connect(server, total_timeout=5).predict(ask())

    @pytest.mark.parametrize("code", [401, 403, 404])
    def test_what_no_record_will_get_past_ends_the_run(self, connect: Any, code: int) -> None:
        with ScriptedServer(always=status(code, "no")) as server, pytest.raises(RunError, match=str(code)):
            list(connect(server).stream((n, ask()) for n in range(50)))
        assert len(server.bodies) <= 24

    def test_a_server_that_is_often_in_trouble_answers_every_record_in_the_end(self, connect: Any) -> None:
        """Every third request is refused for now, cut off, or never answered."""
        troubles = cycle([status(429, Retry_After="0"), status(503), cut, hang])
        numbers = count()

        def now_and_then(handler: Any, body: Any) -> None:
            with handler.server.lock:
                act = next(troubles) if next(numbers) % 3 == 0 else answer()
            act(handler, body)

        with ScriptedServer(always=now_and_then) as server:
            model = connect(server, concurrency=16, tries=50, timeout=0.5)
            answers = list(model.stream((n, ask(f"p{n}")) for n in range(96)))
        assert sorted(key for key, _ in answers) == list(range(96))
        assert all(got.generated_text == f"p{key}" for key, got in answers)
        assert len(server.bodies) > 96

    def test_a_server_that_stops_and_starts_again_loses_nothing(
        self, connect: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It starts again when the client has noticed, however long that takes."""
        noticed = threading.Event()
        wait_out = ChatServer._wait_out

        async def note(self: ChatServer, *trouble: Any) -> None:
            noticed.set()
            await wait_out(self, *trouble)

        monkeypatch.setattr(ChatServer, "_wait_out", note)
        with reserved_port() as port, ThreadPoolExecutor(1) as pool:
            with ScriptedServer(port=port) as server:
                stream = connect(server, concurrency=4).stream((n, ask(f"p{n}")) for n in range(40))
                answers = [next(stream) for _ in range(10)]
            rest = pool.submit(list, stream)
            assert noticed.wait(60)
            with ScriptedServer(port=port):
                answers += rest.result(60)
        assert sorted(key for key, _ in answers) == list(range(40))
        assert all(isinstance(got, VLMOutput) for _, got in answers)

    def test_the_time_that_a_server_is_away_is_not_the_records(
        self, connect: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An hour passes, by the engine's clock, while it is."""
        passed = 0.0
        wait_out = ChatServer._wait_out

        async def an_hour(self: ChatServer, *trouble: Any) -> None:
            nonlocal passed
            await wait_out(self, *trouble)
            passed = 3600.0
            noticed.set()

        noticed = threading.Event()
        monkeypatch.setattr(ChatServer, "_wait_out", an_hour)
        made = asyncio.new_event_loop

        def loop_of_an_hour_later() -> asyncio.AbstractEventLoop:
            loop = made()
            by_its_own_clock = loop.time
            monkeypatch.setattr(loop, "time", lambda: by_its_own_clock() + passed)
            return loop

        monkeypatch.setattr(asyncio, "new_event_loop", loop_of_an_hour_later)
        with reserved_port() as port, ThreadPoolExecutor(1) as pool:
            with ScriptedServer(port=port) as server:
                model = connect(server, concurrency=1, total_timeout=600, outage=1e9)
            answer = pool.submit(model.predict, ask("yes"))
            assert noticed.wait(60)
            with ScriptedServer(port=port):
                assert answer.result(60).generated_text == "yes"

    def test_a_run_that_lost_its_server_continues_with_resume(
        self, cli: Callable[..., Any], write_lines: Callable[..., Path], tmp_path: Path
    ) -> None:
        asked = [json.dumps({"id": f"r{n}", "prompt": f"p{n}", "max_new_tokens": 8}) for n in range(96)]
        numbers = count()

        def stop_after_thirty(handler: Any, body: Any) -> None:
            if next(numbers) == 30:
                threading.Thread(target=handler.server.__exit__).start()
            answer()(handler, body)

        with reserved_port() as port:
            served = {"name": "served", "model_class": "OpenAIVLMModel"}
            params = {"base_url": f"http://127.0.0.1:{port}/v1", "outage": 0.3}
            models = write_lines(
                "models.yaml", [json.dumps({"models": [{**served, "model_params": params}]})]
            )
            flags = ["--config", models, "-m", "served", "-o", tmp_path / "out.jsonl"]
            run = ["generate", write_lines("manifest.jsonl", asked), *flags]
            ScriptedServer(always=stop_after_thirty, port=port).__enter__()
            lost = cli(*run)
            assert lost.code == 3
            assert "Start the server again. Resume it: the same command with --resume." in lost.err
            with ScriptedServer(port=port) as server:
                assert cli(*run, "--resume").code == 0
            assert 0 < len(server.bodies) < 80
        lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [(line["id"], line["generated_text"]) for line in lines] == [
            (f"r{n}", f"p{n}") for n in range(96)
        ]

    def test_a_server_that_stays_away_ends_the_run_and_says_how_to_resume(self, connect: Any) -> None:
        with ScriptedServer() as server:
            model = connect(server, outage=0.5)
        with pytest.raises(RunError, match="cannot be reached") as raised:
            list(model.stream((n, ask()) for n in range(20)))
        assert "--resume" in (raised.value.hint or "")


class TestLoading:
    def test_the_only_model_is_taken(self, connect: Any) -> None:
        with ScriptedServer() as server:
            assert connect(server).describe()["model"] == "toy"

    def test_of_several_models_one_must_be_named(self, connect: Any) -> None:
        with ScriptedServer() as server:
            server.models = ["a", "b"]
            with pytest.raises(ModelLoadError, match="lists 2 models: a, b"):
                connect(server)
            assert connect(server, model="b").describe()["model"] == "b"

    def test_a_wrong_name_is_told_with_the_nearest(self, connect: Any) -> None:
        with ScriptedServer() as server:
            server.models = ["SmolVLM-256M", "other"]
            with pytest.raises(ModelLoadError, match="SmolVLM-256M, other") as raised:
                connect(server, model="SmolVLM-256")
        assert "Did you mean 'SmolVLM-256M'?" in (raised.value.hint or "")

    def test_a_server_that_is_down_is_a_load_error_that_says_what_to_do(self) -> None:
        with ScriptedServer() as server:
            url = server.url
        with pytest.raises(ModelLoadError, match="cannot be reached") as raised:
            OpenAIVLMModel(config(url)).load_model()
        assert "Start the server" in (raised.value.hint or "")

    def test_an_unknown_parameter_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match="base_ulr") as raised:
            create_model(config("http://x/v1", base_ulr="y"))
        assert raised.value.hint == "Did you mean 'base_url'?"

    @pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://user:secret@x/v1"])
    def test_an_address_that_cannot_be_one_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigError, match="base_url") as raised:
            create_model(config(url))
        assert "secret" not in raised.value.message + (raised.value.hint or "")

    def test_a_missing_package_says_which_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "openai", None)
        with pytest.raises(MissingPackageError) as raised:
            OpenAIVLMModel(config("http://127.0.0.1:1/v1")).load_model()
        assert raised.value.hint == "Run: pip install 'pixano-vlm[openai]'."

    def test_importing_the_engine_imports_neither_torch_nor_the_client(self) -> None:
        code = (
            "import pixano_vlm.engines.openai.model, sys; "
            "assert not {'torch', 'openai', 'transformers'} & set(sys.modules), sorted(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestKeys:
    def test_the_key_is_sent_and_stands_nowhere_else(
        self, connect: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("MY_KEY", "sk-very-secret")
        caplog.set_level(logging.DEBUG)
        with ScriptedServer(always=status(401, "Incorrect key: sk-very-secret")) as server:
            model = connect(server, api_key_env="MY_KEY")
            with pytest.raises(RunError) as raised:
                model.predict(ask())
        assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
        shown = [str(raised.value), raised.value.hint, model.describe(), model.fingerprint(), model.config]
        assert "very-secret" not in repr(shown)
        assert "very-secret" not in caplog.text

    def test_a_key_that_is_not_set_is_a_load_error_that_names_the_variable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MY_KEY", raising=False)
        with pytest.raises(ModelLoadError, match="MY_KEY"):
            OpenAIVLMModel(config("http://127.0.0.1:1/v1", api_key_env="MY_KEY")).load_model()

    @pytest.mark.parametrize("key", ["sk-secret\nsk-secret", "sk-secret x", "sk-secret\x7f", "sk-secrét"])
    def test_what_can_be_no_key_is_refused_without_being_shown(
        self, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_KEY", key)
        with ScriptedServer() as server, pytest.raises(ModelLoadError, match="MY_KEY") as raised:
            OpenAIVLMModel(config(server.url, api_key_env="MY_KEY")).load_model()
        assert "secr" not in f"{raised.value!r} {raised.value.hint} {raised.value.__cause__}"
        assert server.headers == []

    def test_a_key_in_the_environment_that_nobody_named_is_not_sent(
        self, connect: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
            monkeypatch.setenv(name, "of-somebody-else")
        with ScriptedServer() as server:
            connect(server).predict(ask())
        assert "of-somebody-else" not in json.dumps(server.headers)


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("nan", None), ("soon", None), (None, None)]
)
def test_retry_after_is_read_as_seconds(value: str | None, seconds: float | None) -> None:
    assert retry_after({} if value is None else {"retry-after": value}) == seconds


def test_retry_after_is_read_as_a_date() -> None:
    from email.utils import formatdate

    assert retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)


def test_the_fingerprint_follows_the_model_and_not_how_often_it_is_tried() -> None:
    first = OpenAIVLMModel(config("http://a/v1", model="m", tries=3)).fingerprint()
    assert OpenAIVLMModel(config("http://a/v1", model="m", tries=9)).fingerprint() == first
    assert OpenAIVLMModel(config("http://a/v1", model="n")).fingerprint() != first
    assert OpenAIVLMModel(config("http://b/v1", model="m")).fingerprint() != first


def test_an_identity_stands_for_the_address() -> None:
    prints = {
        OpenAIVLMModel(config(f"http://{host}/v1", model="m", identity="v1")).fingerprint() for host in "ab"
    }
    assert len(prints) == 1


def test_limits_hold_for_images(connect: Any, tmp_path: Path) -> None:
    with ScriptedServer() as server:
        model = connect(server)
        model.limits = Limits(max_image_pixels=10)
        with pytest.raises(ImageError, match="the limit is 10"):
            model.predict(ask(images=[picture(tmp_path / "a.png")]))
