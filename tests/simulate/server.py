"""A server with weather: storms of 429, answers of 5xx, connections that are cut, hang, or do not come about."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import openai
from tests.simulate.asked import Content, Ledger
from tests.simulate.world import VirtualClock, VirtualLoop

from pixano_vlm.engines.openai.dialect import ServerDialect
from pixano_vlm.engines.openai.server import ChatServer, Patience
from pixano_vlm.errors import VLMError
from pixano_vlm.models import VLMOutput

__all__ = ["WEATHERS", "SimulatedClient", "SimulatedServer"]

WEATHERS = ("calm", "429", "500", "503", "502", "cut", "down", "hang", "half", "html")
MOST_500 = 6
"""Four attempts that count, and one of its own where the server was down meanwhile."""


class ConnectError(Exception):
    """Named as the one of httpx, by which a server that is away is told from one that cut the connection."""


class RemoteProtocolError(Exception):
    """Likewise."""


class Outcomes:
    """A queue whose reader lets time pass until there is something."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop, self._items = loop, deque[Any]()
        self._waiter: Any = None

    def put(self, item: Any) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def empty(self) -> bool:
        return not self._items

    def get(self) -> Any:
        while not self._items:
            self._waiter = self._loop.create_future()
            self._loop.run_until_complete(self._waiter)
        return self._items.popleft()


class SimulatedServer(ChatServer):
    """The connection of this package, by the virtual clock and to the simulated client."""

    def __init__(
        self, clock: VirtualClock, client: SimulatedClient, concurrency: int, patience: Patience
    ) -> None:
        self._clock, self._simulated = clock, client
        super().__init__("http://simulated/v1", None, concurrency, patience, ServerDialect())
        self.model = "m"

    def _open_client(self, timeout: Any) -> Any:
        return self._simulated

    def _start(self) -> VirtualLoop:
        return VirtualLoop(self._clock)

    def outcomes(self) -> Any:
        return Outcomes(self._loop)  # type: ignore[arg-type]

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._end())
            self._loop.close()


class SimulatedClient:
    """What of `openai.AsyncOpenAI` is called."""

    def __init__(
        self,
        ledger: Ledger,
        clock: VirtualClock,
        rng: random.Random,
        answer: Callable[[Content], VLMOutput | VLMError],
        weather: tuple[tuple[float, str], ...],
    ) -> None:
        self.ledger, self.clock, self.rng, self.answer = ledger, clock, rng, answer
        self.began, self.weather = clock.now(), weather
        self.answered: set[Content] = set()
        self.failures: Counter[Content] = Counter()
        """How often a record got a 500, which counts as an attempt."""
        self.chat = SimpleNamespace(
            completions=SimpleNamespace(with_raw_response=SimpleNamespace(create=self.create))
        )

    async def close(self) -> None: ...

    async def create(self, *, model: str, messages: list[dict[str, Any]], extra_body: dict[str, Any]) -> Any:
        prompt = text_of(messages[-1]["content"])
        content = None if prompt == "Hello." else self.ledger.ask(prompt, again=True)
        if content in self.answered:
            self.ledger.violate(f"{content} was asked again, although its answer was delivered")
        kind = self._weather()
        if kind == "down":
            await asyncio.sleep(0.01)
            raise openai.APIConnectionError(message="no", request=None) from ConnectError("refused")  # type: ignore[arg-type]
        await asyncio.sleep(self.rng.random() * (1000 if kind == "hang" else 2))
        if kind in ("429", "500", "502", "503"):
            if kind == "500" and content is not None:
                self._count(content)
            headers = {"retry-after": str(self.rng.randint(1, 5))} if self.rng.random() < 0.4 else {}
            raise refusal(int(kind), {"error": {"message": "not now"}}, headers)
        if kind == "cut":
            raise openai.APIConnectionError(message="cut", request=None) from RemoteProtocolError("cut")  # type: ignore[arg-type]
        if kind == "html":
            return raw(200, b"<html><body>It works!</body></html>")
        if content is None:
            return raw(200, body_of("Hello."))
        answer = self.answer(content)
        if isinstance(answer, VLMError):
            raise refusal(
                400, {"error": {"message": "it was asked to fail", "type": "invalid_request_error"}}
            )
        body = body_of(answer.generated_text)
        if kind == "half":
            return raw(200, body[: len(body) // 2])
        self.answered.add(content)
        return raw(200, body)

    def _count(self, content: Content) -> None:
        self.failures[content] += 1
        if self.failures[content] > MOST_500:
            self.ledger.violate(f"{content} was tried {self.failures[content]} times over an error 500")

    def _weather(self) -> str:
        passed = self.clock.now() - self.began
        for seconds, kind in self.weather:
            if passed < seconds:
                # Most of what comes in a storm meets it.
                return kind if self.rng.random() < 0.8 else "calm"
            passed -= seconds
        return "calm"


def text_of(content: Any) -> str:
    """The text of a turn."""
    return content if isinstance(content, str) else next(p["text"] for p in content if p["type"] == "text")


def body_of(text: str) -> bytes:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def response(status: int, content: bytes, headers: dict[str, str]) -> Any:
    """What of `httpx.Response` is looked at."""
    return SimpleNamespace(
        status_code=status, content=content, headers=headers, text=content.decode(), request=None
    )


def raw(status: int, content: bytes) -> Any:
    """What a call gives back."""
    return SimpleNamespace(http_response=response(status, content, {}))


def refusal(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Exception:
    """What a call raises."""
    return openai.APIStatusError(
        "refused", response=response(status, json.dumps(body).encode(), headers or {}), body=body
    )
