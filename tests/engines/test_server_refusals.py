"""What a refusal ends: one record, or the run; and settings that a server does not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.engines.scripted_server import Action, ScriptedServer, answer, says, status, where, words
from tests.engines.served import ask, collected, connect, impatient, picture

from pixano_vlm.errors import GenerationError, RunError, VLMError
from pixano_vlm.models import VLMInput, VLMOutput

__all__ = ["collected", "connect", "impatient"]  # fixtures

pytest.importorskip("openai")
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def bad(act: Action) -> Action:
    """Refuses the prompts that begin with "bad"."""
    return where(lambda body: words(body).startswith("bad"), act)


def stream(model: Any, prompts: list[str]) -> dict[int, Any]:
    return dict(model.stream((n, ask(prompt)) for n, prompt in enumerate(prompts)))


def failed(answers: dict[int, Any]) -> list[int]:
    return sorted(key for key, got in answers.items() if isinstance(got, VLMError))


REFUSALS = [
    status(400, "bad image"),
    status(403, "Your input was flagged by moderation"),
    status(404, "no such image"),
    status(413, "too large"),
    status(422, "unprocessable"),
    status(451, "unavailable for legal reasons"),
    says({"error": {"message": "flagged", "code": 403}}),
]


class TestOneRecord:
    @pytest.mark.parametrize("act", REFUSALS)
    def test_one_that_is_refused_after_others_were_answered_ends_nothing(
        self, connect: Any, act: Action
    ) -> None:
        with ScriptedServer(always=bad(act)) as server:
            answers = stream(connect(server, concurrency=2), ["p"] * 10 + ["bad"] + ["p"] * 10)
        assert failed(answers) == [10]

    @pytest.mark.parametrize("act", REFUSALS)
    def test_nor_does_one_that_comes_first_which_would_end_every_resumed_run(
        self, connect: Any, act: Action
    ) -> None:
        with ScriptedServer(always=bad(act)) as server:
            answers = stream(connect(server, concurrency=1), ["bad", "p", "p"])
        assert failed(answers) == [0]

    def test_a_row_of_refused_records_is_passed_when_a_plain_request_is_answered(self, connect: Any) -> None:
        with ScriptedServer(always=bad(status(403, "flagged by moderation"))) as server:
            answers = stream(connect(server, concurrency=4), ["p", "p"] + ["bad"] * 30 + ["p"])
        assert failed(answers) == list(range(2, 32))
        assert len(server.bodies) < 33 + 6

    def test_each_error_has_the_servers_words(self, connect: Any) -> None:
        act = says({"detail": [{"loc": ["body", "messages", 0], "msg": "is too long"}]}, 422)
        with ScriptedServer(always=bad(act)) as server:
            answers = stream(connect(server, concurrency=1), ["p", "bad"])
        assert str(answers[1]) == "the server answered 422: body.messages.0: is too long"

    def test_long_words_are_shortened(self, connect: Any) -> None:
        act = status(400, "cannot read data:image/png;base64," + "A" * 4_000_000)
        with ScriptedServer(always=bad(act)) as server:
            answers = stream(connect(server, concurrency=1), ["p", "bad"])
        assert len(str(answers[1])) < 400


class TestEveryRecord:
    @pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 405, 422])
    def test_what_is_refused_to_all_ends_the_run_after_a_few(self, connect: Any, code: int) -> None:
        with ScriptedServer(always=status(code, "no")) as server, pytest.raises(RunError, match=str(code)):
            stream(connect(server), ["p"] * 2000)
        assert len(server.bodies) <= 40

    def test_words_that_differ_in_ids_and_figures_are_equal(self, connect: Any) -> None:
        def refuse(handler: Any, body: Any) -> None:
            number = len(handler.server.bodies)
            status(400, f"'p{number}' is wrong (request req_{number}a7f, 12:0{number % 10})")(handler, body)

        with ScriptedServer(always=refuse) as server, pytest.raises(RunError, match="400"):
            stream(connect(server, concurrency=1), ["p"] * 2000)
        assert len(server.bodies) < 10

    def test_what_only_images_are_refused_for_ends_it_too(self, connect: Any, tmp_path: Path) -> None:
        image = picture(tmp_path / "a.jpg")
        act = where(lambda body: "image_url" in json.dumps(body), status(400, "this model takes no images"))
        with ScriptedServer(always=act) as server, pytest.raises(RunError, match="takes no images"):
            list(connect(server).stream((n, ask(images=[image])) for n in range(2000)))
        assert len(server.bodies) <= 40

    def test_so_does_a_role_that_the_server_does_not_know(self, connect: Any) -> None:
        prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}]
        act = where(
            lambda body: body["messages"][0]["role"] == "system", status(400, "system role not supported")
        )
        with ScriptedServer(always=act) as server, pytest.raises(RunError, match="system role"):
            list(connect(server).stream((n, ask(prompt)) for n in range(2000)))
        assert len(server.bodies) <= 40

    def test_a_server_error_for_all_ends_it_after_a_few_records(self, connect: Any) -> None:
        act = status(
            500, "image input is not supported - hint: if this is unexpected, you may need the mmproj"
        )
        with ScriptedServer(always=act) as server, pytest.raises(RunError, match="mmproj"):
            stream(connect(server, tries=2, concurrency=4), ["p"] * 2000)
        assert len(server.bodies) < 40

    def test_what_all_are_refused_for_and_a_plain_request_is_not_ends_it_as_well(self, connect: Any) -> None:
        """Nobody knows why, but nobody wants 2,000 of 2,000 either."""
        with ScriptedServer(always=bad(status(400, "the prompt is too long"))) as server:
            model = connect(server, concurrency=4)
            with pytest.raises(RunError, match="all of the first"):
                stream(model, ["bad"] * 2000)
        assert len(server.bodies) < 120

    def test_an_account_that_is_empty_ends_it_in_the_middle(self, connect: Any) -> None:
        def pay(handler: Any, body: Any) -> None:
            act = answer() if len(handler.server.bodies) < 20 else status(402, "Insufficient credits")
            act(handler, body)

        with ScriptedServer(always=pay) as server, pytest.raises(RunError, match="402") as raised:
            stream(connect(server, concurrency=1), ["p"] * 200)
        assert "Fill the account" in (raised.value.hint or "")
        assert len(server.bodies) < 30

    @pytest.mark.parametrize(
        "act",
        [
            says({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, 429),
            says({"error": {"message": "no balance", "type": "exceeded_current_quota_error"}}, 429),
            says({"error": {"message": "no", "code": "insufficient_quota"}}),
        ],
    )
    def test_a_quota_that_is_used_up_is_not_waited_for(self, connect: Any, act: Action) -> None:
        with ScriptedServer(always=act) as server, pytest.raises(RunError):
            connect(server).predict(ask())
        assert len(server.bodies) == 1

    def test_a_402_that_one_record_alone_gets_is_its_own(self, connect: Any) -> None:
        act = status(402, "you requested 4096 tokens and can afford 100")
        with ScriptedServer(always=bad(act)) as server:
            answers = stream(connect(server, concurrency=1), ["p", "bad", "p"])
        assert failed(answers) == [1]

    def test_a_resumed_run_asks_nothing_that_was_refused_again(
        self, cli: Callable[..., Any], write_lines: Callable[..., Path], tmp_path: Path
    ) -> None:
        asked = [json.dumps({"id": f"r{n}", "prompt": "bad" if n in (0, 3) else f"p{n}"}) for n in range(8)]
        with ScriptedServer(always=bad(status(403, "flagged"))) as server:
            params = {"base_url": server.url, "concurrency": 1}
            model = {"name": "served", "model_class": "OpenAIVLMModel", "model_params": params}
            config = write_lines("models.yaml", [json.dumps({"models": [model]})])
            flags = ["--config", config, "-m", "served", "-o", tmp_path / "out.jsonl"]
            run = ["generate", write_lines("manifest.jsonl", asked), *flags]
            assert cli(*run).code == 1
            before = len(server.bodies)
            assert cli(*run, "--resume").code == 1
            assert len(server.bodies) == before
        lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [line["id"] for line in lines if line["status"] == "error"] == ["r0", "r3"]


class TestSettings:
    def test_a_seed_that_nobody_asked_for_is_not_sent(
        self, cli: Callable[..., Any], write_lines: Callable[..., Path], tmp_path: Path
    ) -> None:
        asked = [{"prompt": "derived"}, {"prompt": "own", "seed": 7}, {"prompt": "huge", "seed": 2**62 + 5}]
        with ScriptedServer() as server:
            model = {
                "name": "served",
                "model_class": "OpenAIVLMModel",
                "model_params": {"base_url": server.url},
            }
            config = write_lines("models.yaml", [json.dumps({"models": [model]})])
            manifest = write_lines("manifest.jsonl", map(json.dumps, asked))
            run = ["generate", manifest, "--config", config, "-m", "served", "--temperature", "0.7"]
            assert cli(*run, "-o", tmp_path / "a.jsonl").code == 0
            seeds = {words(body): body.get("seed") for body in server.bodies}
            assert seeds == {"derived": None, "own": 7, "huge": 5}
            used = [json.loads(line)["generation_config"] for line in (tmp_path / "a.jsonl").open()]
            assert [settings.get("seed") for settings in used] == [None, 7, 5]
            server.bodies.clear()
            assert cli(*run, "-o", tmp_path / "b.jsonl", "--seed", "3").code == 0
            assert all(0 <= body["seed"] < 2**31 for body in server.bodies)

    @pytest.mark.parametrize(
        "act",
        [
            says(
                {
                    "error": {
                        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                        "'max_completion_tokens' instead.",
                        "param": "max_tokens",
                        "code": "unsupported_parameter",
                    }
                },
                400,
            ),
            says({"detail": [{"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "no"}]}, 422),
            status(400, "Unknown field max_tokens"),
            says({"error": {"message": "property 'max_tokens' is unsupported", "code": 400}}),
        ],
    )
    def test_the_other_name_of_the_limit_is_found_and_kept(self, connect: Any, act: Action) -> None:
        with ScriptedServer(always=where(lambda body: "max_tokens" in body, act)) as server:
            answers = stream(connect(server, concurrency=1), ["p"] * 20)
        assert all(isinstance(got, VLMOutput) for got in answers.values())
        assert [body.get("max_completion_tokens") for body in server.bodies] == [None] + [8] * 20

    def test_a_name_that_is_configured_is_kept_to(self, connect: Any) -> None:
        with ScriptedServer(always=status(400, "Unknown field max_tokens")) as server:
            model = connect(server, limit_name="max_tokens")
            with pytest.raises(RunError) as raised:
                stream(model, ["p"] * 100)
        assert "'max_tokens'" in (raised.value.hint or "")
        assert not any("max_completion_tokens" in body for body in server.bodies)

    @pytest.mark.parametrize(
        "words_of_it",
        [
            "Unsupported value: 'temperature' does not support 1.0 with this model.",
            "invalid temperature: only 0.6 is allowed for this model",
            '[{"loc": ["body", "temperature"]}]',
        ],
    )
    def test_a_default_that_is_refused_is_left_out_from_then_on(self, connect: Any, words_of_it: str) -> None:
        act = where(lambda body: "temperature" in body, status(400, words_of_it))
        inputs = [VLMInput(prompt="p", max_new_tokens=8) for _ in range(20)]
        with ScriptedServer(always=act) as server:
            answers = dict(connect(server, concurrency=1).stream(enumerate(inputs)))
        assert all(isinstance(got, VLMOutput) for got in answers.values())
        assert sum("temperature" in body for body in server.bodies) == 1
        assert "temperature" not in answers[5].generation_config

    @pytest.mark.parametrize(
        ("name", "value"),
        [("temperature", 0.0), ("top_k", 5), ("seed", 3), ("response_format", {"type": "json_object"})],
    )
    def test_a_setting_that_was_asked_for_is_never_left_out_and_the_run_says_which(
        self, connect: Any, name: str, value: Any
    ) -> None:
        act = where(lambda body: name in body, says({"error": {"message": "unknown", "param": name}}, 400))
        input = ask(**{"temperature": 0.5, name: value})
        with ScriptedServer(always=act) as server, pytest.raises(RunError) as raised:
            list(connect(server).stream((n, input) for n in range(2000)))
        assert f"'{name}'" in (raised.value.hint or "")
        assert all(name in body for body in server.bodies)
        assert len(server.bodies) <= 40

    def test_of_records_that_ask_for_it_and_others_only_the_first_fail(self, connect: Any) -> None:
        act = where(lambda body: "top_k" in body, status(400, "top_k is not supported"))
        inputs = [
            ask("p", temperature=0.5, top_k=5) if n == 7 else ask("p", temperature=0.5) for n in range(20)
        ]
        with ScriptedServer(always=act) as server:
            answers = dict(connect(server, concurrency=1).stream(enumerate(inputs)))
        assert failed(answers) == [7]
        assert "'top_k'" in (answers[7].hint or "")

    def test_two_settings_are_left_out_one_after_the_other(self, connect: Any) -> None:
        def strict(handler: Any, body: Any) -> None:
            unknown = [name for name in ("max_tokens", "temperature") if name in body]
            act = status(400, f"{unknown[0]} is not supported") if unknown else answer()
            act(handler, body)

        inputs = [VLMInput(prompt="p", max_new_tokens=8) for _ in range(5)]
        with ScriptedServer(always=strict) as server:
            answers = dict(connect(server, concurrency=1).stream(enumerate(inputs)))
        assert failed(answers) == []
        assert len(server.bodies) == 7

    def test_a_limit_that_is_too_large_for_one_prompt_is_that_records_error(self, connect: Any) -> None:
        act = status(400, "'max_tokens' or 'max_completion_tokens' is too large: the prompt has 4000 tokens")
        with ScriptedServer(always=bad(act)) as server:
            answers = stream(connect(server, concurrency=1), ["p", "bad", "p"])
            assert failed(answers) == [1]
            assert "max_tokens" in server.bodies[-1]

    def test_one_alone_gets_the_error_with_the_hint(self, connect: Any) -> None:
        with ScriptedServer(status(400, "top_k is not supported")) as server:
            model = connect(server)
            with pytest.raises(GenerationError) as raised:
                model.predict(ask(temperature=0.5, top_k=3))
        assert "'top_k'" in (raised.value.hint or "")


def test_a_witness_shows_the_server_nothing_of_the_record(connect: Any, tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), "red").save(tmp_path / "a.png")
    with ScriptedServer(status(400, "no")) as server, pytest.raises(VLMError):
        connect(server).predict(ask("secret words", images=[tmp_path / "a.png"]))
    refused, witness = server.bodies
    assert "secret" not in json.dumps(witness)
    assert len(json.dumps(witness)) < 2000
    assert {k: v for k, v in witness.items() if k != "messages"} == {
        k: v for k, v in refused.items() if k != "messages"
    }


def test_all_settings_that_a_refusal_names_are_in_the_hint(connect: Any) -> None:
    act = status(422, "Unexpected fields in the request: {'repetition_penalty', 'min_p'}")
    with ScriptedServer(always=act) as server, pytest.raises(RunError) as raised:
        connect(server).predict(ask(temperature=0.5, min_p=0.1, repetition_penalty=1.1))
    assert "'min_p'" in (raised.value.hint or "")
    assert "'repetition_penalty'" in (raised.value.hint or "")
