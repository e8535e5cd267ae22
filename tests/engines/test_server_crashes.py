"""A server that goes down over one image, that has too much to do, and when it is asked again."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engines.scripted_server import (
    Action,
    ScriptedServer,
    answer,
    cut,
    reserved_port,
    status,
    where,
    words,
)
from tests.engines.served import ask, collected, connect, impatient

from pixano_vlm.engines.openai.concurrency import Gate
from pixano_vlm.errors import GenerationError, RunError, VLMError
from pixano_vlm.retry import RetryPolicy, retry_after

__all__ = ["collected", "connect", "impatient"]  # fixtures

pytest.importorskip("openai")
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Fragile:
    """Goes down when it is asked for a "bad" prompt: cuts every connection, and refuses some while it starts again.

    Args:
        down: What those that are under way, and those that come while it is down, are answered.
        starting: How many requests come while it is down.
    """

    def __init__(self, down: Action = cut, starting: int = 3) -> None:
        self.crashes = 0
        self._down, self._starting, self._left = down, starting, 0
        self._lock = threading.Lock()
        self._crashed = threading.Event()

    def __call__(self, handler: Any, body: Any) -> None:
        with self._lock:
            is_down = self._left > 0
            self._left -= is_down
            if not is_down and words(body).startswith("bad"):
                self.crashes += 1
                self._left = self._starting
                self._crashed.set()
                self._crashed = threading.Event()
                is_down = True
            crashed = self._crashed
        if is_down or crashed.wait(0.02):
            self._down(handler, body)
        else:
            answer()(handler, body)


def failed(answers: dict[int, Any]) -> list[int]:
    return sorted(key for key, got in answers.items() if isinstance(got, VLMError))


class TestCrashes:
    @pytest.mark.parametrize("down", [cut, status(502, "Bad Gateway")], ids=["cut", "gateway"])
    @pytest.mark.parametrize("culprits", [{20}, {0}, {3, 4, 5, 17, 31, 59}])
    def test_the_record_that_brings_a_server_down_is_found_and_no_neighbour_fails_with_it(
        self, connect: Any, culprits: set[int], down: Action
    ) -> None:
        server_of = Fragile(down)
        with ScriptedServer(always=server_of) as server:
            model = connect(server, concurrency=8)
            prompts = ["bad" if n in culprits else f"p{n}" for n in range(60)]
            answers = dict(model.stream((n, ask(prompt)) for n, prompt in enumerate(prompts)))
        assert failed(answers) == sorted(culprits)
        assert all(answers[n].generated_text == f"p{n}" for n in range(60) if n not in culprits)
        assert server_of.crashes <= 5 * len(culprits)
        assert re.search(r"went away [34] times over this record", str(answers[min(culprits)]))

    def test_with_one_request_at_a_time_it_is_found_too(self, connect: Any) -> None:
        with ScriptedServer(always=Fragile()) as server:
            model = connect(server, concurrency=1)
            answers = dict(model.stream((n, ask("bad" if n == 2 else "p")) for n in range(5)))
        assert failed(answers) == [2]

    def test_a_server_that_drops_every_connection_is_not_a_records_fault(self, connect: Any) -> None:
        with ScriptedServer(always=cut) as server, pytest.raises(RunError, match="cut the connection"):
            list(connect(server, outage=0.3).stream((n, ask()) for n in range(20)))

    def test_errors_of_a_server_that_another_record_brought_down_are_not_a_records_last_word(
        self, connect: Any
    ) -> None:
        """While it starts again it answers 500, and each neighbour uses up its attempts."""
        with ScriptedServer(always=Fragile(status(500, "engine dead"), starting=12)) as server:
            model = connect(server, concurrency=4, tries=2)
            first = model.predict(ask("p"))
            assert first.generated_text == "p"
            answers = dict(model.stream((n, ask(f"p{n}")) for n in range(8)))
        assert failed(answers) == []

    def test_a_server_that_a_lone_record_takes_away_for_good_leaves_its_error_and_ends_the_run(
        self, cli: Callable[..., Any], write_lines: Callable[..., Path], tmp_path: Path
    ) -> None:
        """Else every --resume would ask it first."""

        def die(handler: Any, body: Any) -> None:
            if words(body) == "bad":
                threading.Thread(target=handler.server.__exit__).start()
                handler.server.stopped.wait(5)
                return
            answer()(handler, body)

        asked = [json.dumps({"id": f"r{n}", "prompt": "bad" if n == 1 else f"p{n}"}) for n in range(4)]
        with reserved_port() as port:
            params = {"base_url": f"http://127.0.0.1:{port}/v1", "outage": 0.3, "concurrency": 1}
            model = {"name": "served", "model_class": "OpenAIVLMModel", "model_params": params}
            config = write_lines("models.yaml", [json.dumps({"models": [model]})])
            flags = ["--config", config, "-m", "served", "-o", tmp_path / "out.jsonl"]
            run = ["generate", write_lines("manifest.jsonl", asked), *flags]
            ScriptedServer(always=die, port=port).__enter__()
            assert cli(*run).code == 3
            with ScriptedServer(always=where(lambda body: words(body) == "bad", cut), port=port) as server:
                assert cli(*run, "--resume").code == 1
                assert {words(body) for body in server.bodies} == {"p2", "p3"}
        lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [(line["id"], line["status"]) for line in lines] == [
            ("r0", "ok"), ("r1", "error"), ("r2", "ok"), ("r3", "ok"),
        ]  # fmt: skip
        assert "with nothing else under way" in lines[1]["error"]["message"]


class TestConcurrency:
    def test_a_server_that_is_asked_too_much_is_asked_less(self, connect: Any) -> None:
        """It takes four at a time."""

        def four(handler: Any, body: Any) -> None:
            act = answer(after=0.01) if handler.server.under_way <= 4 else status(429, "slow down")
            act(handler, body)

        with ScriptedServer(always=four) as server:
            model = connect(server, concurrency=32, tries=50)
            answers = list(model.stream((n, ask(f"p{n}")) for n in range(200)))
            refused = len(server.bodies) - 200
        assert failed(dict(answers)) == []
        assert refused < 120

    def run(self, play: Any) -> Any:
        return asyncio.run(play())

    def test_half_as_many_after_a_refusal_and_one_more_after_a_run_of_answers(self) -> None:
        async def play() -> list[int]:
            gate, limits = Gate(16), []
            async with gate.enter() as first, gate.enter() as second:
                gate.too_many(first)
                gate.too_many(second)  # it was under way already
                limits.append(gate.limit)
            for _ in range(8):
                gate.answered()
            limits.append(gate.limit)
            for _ in range(1000):
                gate.answered()
            limits.append(gate.limit)
            for _ in range(20):
                async with gate.enter() as ticket:
                    gate.too_many(ticket)
            return [*limits, gate.limit]

        assert self.run(play) == [8, 9, 16, 1]

    @given(st.lists(st.booleans(), max_size=40), st.integers(1, 8))
    def test_whatever_order_they_come_in_no_more_than_the_limit_and_a_lone_one_alone(
        self, alone: list[bool], limit: int
    ) -> None:
        async def play() -> int:
            gate, under_way, most = Gate(limit), [], 0

            async def one(number: int, is_alone: bool) -> None:
                nonlocal most
                async with gate.enter(alone=is_alone) as ticket:
                    under_way.append(number)
                    most = max(most, len(under_way))
                    assert not is_alone or under_way == [number]
                    await asyncio.sleep(0)
                    assert not is_alone or (under_way == [number] and not ticket.in_company)
                    under_way.remove(number)

            await asyncio.wait_for(asyncio.gather(*map(one, range(len(alone)), alone)), 30)
            return most

        assert self.run(play) <= limit


class TestRetry:
    @given(st.integers(1, 100), st.floats(0.01, 10), st.floats(0.01, 100), st.floats(0, 0.9))
    def test_waits_double_up_to_the_longest_give_or_take_the_jitter(
        self, failed: int, first: float, longest: float, jitter: float
    ) -> None:
        policy = RetryPolicy(5, first_wait=first, max_wait=longest, jitter=jitter)
        plain = min(longest, first * 2.0 ** min(failed - 1, 20))
        assert plain * (1 - jitter) * 0.999 <= policy.wait(failed) <= plain * (1 + jitter) * 1.001
        assert policy.wait(failed, 7.5) == 7.5
        assert policy.is_spent(failed) == (failed >= 5)

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"retry-after": "3"}, 3.0),
            ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
            ({"retry-after": "inf"}, None),
            ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
            ({"retry-after": "Wed, 99 Nothing"}, None),
            ({}, None),
        ],
    )
    def test_what_a_server_asks_for_is_read(self, headers: dict[str, str], seconds: float | None) -> None:
        assert retry_after(headers) == seconds

    def test_a_record_that_fails_for_good_says_how_often_it_was_asked(self, connect: Any) -> None:
        act = where(lambda body: words(body) == "bad", status(500, "broken"))
        with ScriptedServer(always=act) as server:
            model = connect(server, tries=3)
            with pytest.raises(GenerationError, match="tried 3 times"):
                model.predict(ask("bad"))
