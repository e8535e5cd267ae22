"""One worker of a pool: a model in a process of its own, kept busy by one endless exchange of records.

Knows nothing of Ray, which runs this class as an actor, nor of the other workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from pixano_vlm.errors import PixanoVLMError, RunError
from pixano_vlm.models.config import ModelDeploymentConfig
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.registry import CLASSES
from pixano_vlm.models.vlm import VLMInput, VLMModel, VLMOutput

__all__ = ["Worker"]

Item = tuple[Hashable, VLMInput]
Answer = tuple[Hashable, VLMOutput | PixanoVLMError]

STARVED = 0.2
"""Seconds without a new record after which the model finishes those that it has."""
PATIENCE = 0.25
"""Seconds that an exchange waits for an answer before it returns without."""


class Worker:
    """A model, and the thread that runs it.

    Args:
        config: The model's.
        create: Makes it.
        plugin: Its class, where that is not one of this package.
    """

    def __init__(
        self,
        config: ModelDeploymentConfig,
        create: Callable[[ModelDeploymentConfig], VLMModel],
        plugin: type[VLMModel] | None,
    ) -> None:
        if plugin is not None and config.model_class not in CLASSES.names():
            CLASSES.register(config.model_class, plugin)
        self._model = create(config)
        self._asked: SimpleQueue[Item] = SimpleQueue()
        self._answers: SimpleQueue[Answer | Exception] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def load(self) -> dict[str, Any]:
        """Loads the model.

        Returns:
            Its own description.
        """
        self._model.load_model()
        self._thread.start()
        return self._model.describe()

    def exchange(self, items: list[Item], limits: Limits) -> list[Answer]:
        """Takes new records and returns the answers that are there, none after a while.

        Raises:
            RunError: When the model can answer nothing any more.
        """
        self._model.limits = limits
        for item in items:
            self._asked.put(item)
        answers: list[Answer] = []
        try:
            answers.append(self._checked(self._answers.get(timeout=PATIENCE)))
            while True:
                answers.append(self._checked(self._answers.get_nowait()))
        except Empty:
            return answers

    def _checked(self, answer: Answer | Exception) -> Answer:
        if isinstance(answer, PixanoVLMError):
            raise answer
        if isinstance(answer, Exception):
            raise RunError(f"the model failed: {type(answer).__name__}: {answer}.") from answer
        return answer

    def _run(self) -> None:
        try:
            while True:
                first = self._asked.get()
                for answer in self._model.stream(self._supply(first)):
                    self._answers.put(answer)
        # Whatever ends the model's thread is told to the next caller, who would wait for ever otherwise.
        except Exception as error:
            self._answers.put(error)

    def _supply(self, first: Item) -> Iterator[Item]:
        # An engine that asks for more than there is gets no more, and so finishes what it has: waiting here
        # would hold up answers for which the other side waits before it sends more.
        yield first
        while True:
            try:
                yield self._asked.get(timeout=STARVED)
            except Empty:
                return
