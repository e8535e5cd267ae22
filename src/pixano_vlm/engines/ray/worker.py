"""One worker of a pool: a model in a process of its own, kept busy by a continual exchange of records.

Knows nothing of Ray, which runs this class as an actor, nor of the other workers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from pixano_vlm.engines.ray.waiting import Asked
from pixano_vlm.errors import ManifestError, ModelLoadError, RunError, VLMError
from pixano_vlm.media.notes import NOTES, FreshNotes
from pixano_vlm.models.deferred import Deferred, DeferredReader
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.registry import CLASSES
from pixano_vlm.models.samples import answers_of
from pixano_vlm.models.vlm import VLMInput, VLMModel, VLMOutput

__all__ = ["Worker"]

Item = tuple[Hashable, Asked]
Answer = tuple[Hashable, Any]
"""A key, and an output or an error; of a deferred request, what its reader makes of these."""

LOW = 32
"""Fewer records than these not yet taken by the model: time to bring more."""
PATIENCE = 0.25
"""Seconds after which an exchange returns with nothing."""
STARVED = 0.5
"""Seconds without a new record after which the model finishes those that it has."""


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
        self._changed = threading.Condition()
        self._asked: deque[Item] = deque()
        self._more = False
        self._answers: list[Answer] = []
        self._failure: Exception | None = None
        self._reader: DeferredReader | None = None
        self._deferred: set[Hashable] = set()
        """Keys of the deferred requests that the model has."""

    def read_with(self, reader: DeferredReader | None) -> None:
        """Says what reads the deferred requests that come from now on."""
        self._reader = reader

    def load(self) -> dict[str, Any]:
        """Loads the model.

        Returns:
            Its own description.
        """
        self._model.load_model()
        threading.Thread(target=self._run, name="model", daemon=True).start()
        return self._model.describe()

    def exchange(self, items: list[Item], more: bool, limits: Limits) -> tuple[list[Answer], int, FreshNotes]:
        """Brings new records and takes the answers that are there.

        Returns when there is an answer, when the model is about to need more records, or after a while.

        Args:
            items: To be answered.
            more: Whether more will come as soon as this returns; if not, the model finishes what it has.
            limits: What a record may open.

        Returns:
            Answers; how many records the model has not taken yet; and what was noticed about images.

        Raises:
            RunError: When the model can answer nothing any more.
        """
        with self._changed:
            self._model.limits = limits
            self._asked.extend(items)
            self._more = more
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._answers or self._failure or (self._more and len(self._asked) < LOW), PATIENCE
            )
            answers, self._answers = self._answers, []
            if self._failure is not None and not answers:
                raise self._failure
            return answers, len(self._asked), NOTES.take_fresh()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._asked)
                for key, answer in answers_of(self._model, self._supply()):
                    self._answer(key, answer)
        except (ManifestError, ModelLoadError, RunError) as error:
            self._fail(error)
        # Whatever ends the model's thread is told to the next caller, who would wait for ever otherwise.
        except Exception as error:
            self._fail(RunError(f"the model failed: {type(error).__name__}: {error}."))

    def _answer(self, key: Hashable, answer: VLMOutput | VLMError) -> None:
        if key in self._deferred and self._reader is not None:
            self._deferred.discard(key)
            self._hand_over(key, self._reader.conclude(key, answer))
        else:
            self._hand_over(key, answer)

    def _hand_over(self, key: Hashable, answer: Any) -> None:
        with self._changed:
            self._answers.append((key, answer))
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def _supply(self) -> Iterator[tuple[Hashable, VLMInput]]:
        # A model asks for as many as it likes to choose from. Each time that there is none it stands still, so
        # it is told the end instead, finishes those that it has, and begins again with the next.
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or not self._more, STARVED)
                if not self._asked:
                    return
                key, asked = self._asked.popleft()
                if len(self._asked) < LOW:
                    self._changed.notify_all()
            input = self._read(key, asked) if isinstance(asked, Deferred) else asked
            if input is not None:
                yield key, input

    def _read(self, key: Hashable, deferred: Deferred) -> VLMInput | None:
        """A deferred request's input; None: it has an error, which is its answer."""
        assert self._reader is not None, "it is said before the first of them comes"
        input = self._reader.read(key, deferred)
        if input is None:
            self._hand_over(key, self._reader.conclude(key, None))
        else:
            self._deferred.add(key)
        return input
