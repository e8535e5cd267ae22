"""What of Ray the dispatcher calls, with workers that die in the middle, hang, and answer in any order and twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.simulate.asked import Content, Ledger
from tests.simulate.world import Stuck, VirtualClock

from pixano_vlm.models import VLMInput

__all__ = ["SimulatedRay"]

HANG = 60.0


class RayError(Exception):
    """A worker is gone."""


class RayTaskError(RayError):
    """A worker has raised something."""

    cause: Exception | None = None


class Call:
    """A call that is under way."""

    def __init__(self, due: float, outcome: Callable[[], Any]) -> None:
        self.due, self.outcome = due, outcome


class SimulatedRay:
    """The module, by the virtual clock."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(
        self, ledger: Ledger, clock: VirtualClock, rng: random.Random, answer: Callable[[VLMInput], Any], trouble: Any
    ) -> None:  # fmt: skip
        self.ledger, self.clock, self.rng, self.answer, self.trouble = ledger, clock, rng, answer, trouble
        self.holders: dict[Content, Worker] = {}
        """Which living worker has which record."""
        self.deaths = 0

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 64.0}

    def remote(self, cls: type) -> Any:
        made = SimpleNamespace(remote=lambda *_: Worker(self))
        return SimpleNamespace(options=lambda **_: made)

    def wait(
        self, calls: list[Call], num_returns: int, timeout: float | None = None
    ) -> tuple[list[Call], list[Call]]:
        if not calls:
            raise Stuck("the dispatcher waits for no call")
        if timeout is None:
            first = min(call.due for call in calls)
            self.clock.advance(first - self.clock.now())
        ready = [call for call in calls if call.due <= self.clock.now()][:num_returns]
        return ready, [call for call in calls if call not in ready]

    def get(self, call: Call) -> Any:
        return call.outcome()

    def kill(self, worker: Worker) -> None:
        worker.gone()


class Worker:
    """One actor."""

    def __init__(self, ray: SimulatedRay) -> None:
        self.ray = ray
        self.held: dict[Any, VLMInput] = {}
        self.earlier: list[tuple[Any, Any]] = []
        self.is_dead = False
        self.load = SimpleNamespace(remote=self._load)
        self.exchange = SimpleNamespace(remote=self._exchange)
        self.read_with = SimpleNamespace(remote=lambda _: None)
        self.__ray_ready__ = SimpleNamespace(remote=lambda: Call(ray.clock.now(), lambda: None))

    def gone(self) -> None:
        for input in self.held.values():
            content = self.ray.ledger.contents[str(input.prompt)]
            if self.ray.holders.get(content) is self:
                del self.ray.holders[content]
        self.held.clear()
        self.is_dead = True

    def _call(self, outcome: Callable[[], Any]) -> Call:
        ray = self.ray
        seconds = HANG if ray.rng.random() < ray.trouble.hangs else ray.rng.random()
        if ray.rng.random() < ray.trouble.deaths:
            outcome = self._die
        return Call(ray.clock.now() + seconds, outcome)

    def _die(self) -> Any:
        self.ray.deaths += 1
        raise RayError("the worker died")

    def _load(self) -> Call:
        return self._call(lambda: {"class": "ProcessModel"})

    def _exchange(self, items: list[tuple[Any, VLMInput]], more: bool, limits: Any) -> Call:
        ray = self.ray
        for key, input in items:
            content = ray.ledger.ask(str(input.prompt), again=True)
            other = ray.holders.get(content)
            if other is not None and not other.is_dead:
                ray.ledger.violate(f"{content} is with two workers at a time")
            ray.holders[content] = self
            self.held[key] = input
        if any(str(input.prompt).startswith("kills") for input in self.held.values()) and ray.trouble.deaths:
            return Call(ray.clock.now() + ray.rng.random(), self._die)
        return self._call(self._answers)

    def _answers(self) -> tuple[list[tuple[Any, Any]], int, dict[Any, Any]]:
        ray, keys = self.ray, list(self.held)
        if ray.trouble.shuffle:
            ray.rng.shuffle(keys)
        answers = []
        for key in keys[: ray.rng.randint(1, max(1, len(keys)))]:
            input = self.held.pop(key)
            del ray.holders[ray.ledger.contents[str(input.prompt)]]
            answers.append((key, ray.answer(input)))
        self.earlier += answers
        if ray.trouble.twice and self.earlier and ray.rng.random() < 0.2:
            answers.append(ray.rng.choice(self.earlier))
        return answers, ray.rng.randint(0, len(self.held)), {}
