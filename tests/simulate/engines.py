"""Three engines under the virtual clock: one in process, one behind a server, one on workers that die.

The first stands for any model class that answers out of order and twice. The others are this package's own, down to
the calls of the `openai` package and of Ray, which are simulated. All give the same answer to the same content.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tests.simulate.asked import Content, Ledger
from tests.simulate.server import SimulatedClient, SimulatedServer
from tests.simulate.workers import SimulatedRay
from tests.simulate.world import VirtualClock

from pixano_vlm.engines.openai.model import OpenAIVLMModel
from pixano_vlm.engines.openai.server import Patience
from pixano_vlm.engines.ray import model as ray_model
from pixano_vlm.engines.ray.model import RayVLMModel
from pixano_vlm.errors import GenerationError, ImageError, VLMError
from pixano_vlm.models import ModelDeploymentConfig, UsageInfo, VLMInput, VLMModel, VLMOutput

__all__ = ["ENGINES", "Trouble", "make_engine"]

ENGINES = ("process", "server", "workers")
PATIENCE = Patience(tries=4, timeout=20.0, total_timeout=400.0, connect_timeout=5.0, outage=120.0)


@dataclass
class Trouble:
    """What goes wrong with an engine in one run; with none of it, nothing does."""

    window: int = 1
    """Records that are under way at a time."""
    shuffle: bool = False
    twice: bool = False
    """Whether answers are given twice."""
    weather: tuple[tuple[float, str], ...] = ()
    """How long the server does what; calm after that."""
    deaths: float = 0.0
    """How likely a worker dies in an exchange."""
    hangs: float = 0.0


def make_engine(
    kind: str, ledger: Ledger, clock: VirtualClock, rng: random.Random, trouble: Trouble
) -> VLMModel:
    """One engine, not loaded."""
    if kind == "server":
        return ServedModel(ledger, clock, rng, trouble)
    if kind == "workers":
        return PooledModel(ledger, clock, rng, trouble)
    return ProcessModel(ledger, clock, rng, trouble)


def answer_to(content: Content) -> VLMOutput | VLMError:
    """What a model says, in whatever engine."""
    if content.image == 0:
        return ImageError("there is no image.")
    if content.prompt.startswith("fails"):
        return GenerationError("it was asked to fail.")
    return VLMOutput(
        generated_text=content.text,
        usage=UsageInfo(prompt_tokens=3, completion_tokens=2, total_tokens=5),
        generation_config={"max_new_tokens": content.max_new_tokens},
        finish_reason="stop",
    )


def prompt_of(input: VLMInput) -> str:
    """The prompts of a history are all texts."""
    assert isinstance(input.prompt, str)
    return input.prompt


class ProcessModel(VLMModel):
    """Answers in windows, in any order, and some of them twice."""

    def __init__(self, ledger: Ledger, clock: VirtualClock, rng: random.Random, trouble: Trouble) -> None:
        super().__init__(ModelDeploymentConfig(name="simulated", model_class="ProcessModel"))
        self.ledger, self.clock, self.rng, self.trouble = ledger, clock, rng, trouble

    def load_model(self) -> None: ...

    def predict(self, input: VLMInput) -> VLMOutput:
        raise NotImplementedError

    def stream(self, inputs: Iterable[tuple[Any, VLMInput]]) -> Iterator[tuple[Any, VLMOutput | VLMError]]:
        inputs, earlier = iter(inputs), []
        while batch := list(islice(inputs, self.trouble.window)):
            if self.trouble.shuffle:
                self.rng.shuffle(batch)
            for key, input in batch:
                answer = answer_to(self.ledger.ask(prompt_of(input)))
                self.clock.advance(self.rng.random())
                yield key, answer
                earlier.append((key, answer))
                if self.trouble.twice and self.rng.random() < 0.3:
                    yield self.rng.choice(earlier)


class PooledModel(RayVLMModel):
    """The dispatcher of this package, over workers that die, hang, and answer in any order."""

    def __init__(self, ledger: Ledger, clock: VirtualClock, rng: random.Random, trouble: Trouble) -> None:
        config = ModelDeploymentConfig(name="simulated", model_class="ProcessModel")
        inner = ProcessModel(ledger, clock, rng, trouble)
        super().__init__(config, lambda _: inner, address="simulated", workers=1 + trouble.window % 3)
        self.simulated = SimulatedRay(
            ledger, clock, rng, lambda input: answer_to(ledger.contents[prompt_of(input)]), trouble
        )

    def load_model(self) -> None:
        was, ray_model._import_ray = ray_model._import_ray, lambda: self.simulated
        try:
            super().load_model()
        finally:
            ray_model._import_ray = was


class ServedModel(OpenAIVLMModel):
    """The engine of this package behind a server, down to the calls of the client."""

    def __init__(self, ledger: Ledger, clock: VirtualClock, rng: random.Random, trouble: Trouble) -> None:
        params = {
            "base_url": "http://simulated/v1", "model": "m", "concurrency": trouble.window, "prepare_workers": 1,
        }  # fmt: skip
        super().__init__(
            ModelDeploymentConfig(name="simulated", model_class="OpenAIVLMModel", model_params=params)
        )
        self.clock = clock
        self.client = SimulatedClient(ledger, clock, rng, answer_to, trouble.weather)

    def load_model(self) -> None:
        self._server = SimulatedServer(self.clock, self.client, self.params.concurrency, PATIENCE)
