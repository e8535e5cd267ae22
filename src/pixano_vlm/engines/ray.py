"""Any other engine, on many devices or machines: Ray places the workers, each a process with a model of its own.

A worker's model batches as it does alone; this module keeps each of them supplied from one lazily read stream,
and gives a lost worker's records to others. It uses Ray's actors and not Ray Data: what is to be read comes one
record at a time from the run, which knows what is done already, and a dataset's batches would drain a model's
own batch at each of their ends. Imports Ray only when workers are started.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic

from pixano_vlm.engines.parameters import import_extra
from pixano_vlm.engines.ray_worker import Worker
from pixano_vlm.errors import ConfigError, GenerationError, ModelLoadError, PixanoVLMError, RunError, VLMError
from pixano_vlm.models.config import ModelDeploymentConfig
from pixano_vlm.models.registry import BUILT_IN_CLASSES
from pixano_vlm.models.vlm import Key, VLMInput, VLMModel, VLMOutput

__all__ = ["RayVLMModel", "with_ray"]

SUSPECT_AFTER = 2
"""A record that was with so many workers when they died is sent to one that has nothing else to do."""
DEATHS_WITHOUT_ANSWER = 4
"""So many workers lost one after the other, with no answer between: something is wrong with all of them."""

Create = Callable[[ModelDeploymentConfig], VLMModel]


def with_ray(
    config: ModelDeploymentConfig,
    create: Create,
    *,
    address: str | None = None,
    workers: int = 1,
    gpus_per_worker: float | None = None,
) -> RayVLMModel:
    """The model of `config`, run by Ray's workers.

    Args:
        config: Says which model, and by `num_cpus` and `num_gpus` what a worker takes.
        create: Makes the model from the config, here for its fingerprint and in each worker to run it; a
            function that can be imported on every machine.
        address: A running cluster's, such as `10.0.0.1:6379` or `auto`; None starts Ray on this machine.
        workers: How many.
        gpus_per_worker: GPUs for each; None: the config's `num_gpus`.

    Raises:
        ConfigError: When the numbers make no sense.
        MissingPackageError: When Ray is not installed.
    """
    if workers < 1:
        raise ConfigError(f"{workers} workers can do nothing.", hint="Give --workers 1 or more.")
    if gpus_per_worker is not None and gpus_per_worker < 0:
        raise ConfigError(f"{gpus_per_worker} GPUs per worker make no sense.", hint="Give 0 or more.")
    import_extra("ray", extra="ray", purpose="running on Ray")
    if gpus_per_worker is not None:
        config = config.model_copy(update={"num_gpus": gpus_per_worker})
    return RayVLMModel(config, create, address=address, workers=workers)


@dataclass(slots=True)
class _Hand(Generic[Key]):
    """One worker, as seen from here."""

    actor: Any
    call: Any
    """The reference of the call that is under way; there is always one."""
    is_loaded: bool = False
    outstanding: dict[Key, VLMInput] = field(default_factory=dict)


class RayVLMModel(VLMModel):
    """A pool of workers that is one model. Made by `with_ray`."""

    def __init__(
        self, config: ModelDeploymentConfig, create: Create, *, address: str | None, workers: int
    ) -> None:
        super().__init__(config)
        self._create = create
        self._address = address
        self._workers = workers
        self._alone = create(config)  # never loaded: it says what the answers hang on
        self._ray: Any = None
        self._owns_ray = False
        self._hands: list[_Hand[Any]] = []
        self._facts: dict[str, Any] = {}
        # What a worker's model decodes together, and as much again, so that it never runs short.
        params = config.model_params
        self._ahead = 2 * int(params.get("max_batch_size") or params.get("concurrency") or 32)

    # --- the pool ---

    def load_model(self) -> None:
        """Starts or joins Ray and loads the model in every worker; returns when the first is ready.

        Raises:
            ModelLoadError: When Ray or a cluster is not there, or a worker cannot load the model.
        """
        if self._hands:
            return
        ray = self._ray = import_extra("ray", extra="ray", purpose="running on Ray")
        if not ray.is_initialized():
            self._start(ray)
        self._check_room(ray)
        self._hands = [self._new_hand() for _ in range(self._workers)]
        try:
            ready, _ = ray.wait([hand.call for hand in self._hands], num_returns=1)
            self._facts = self._get(ready[0])
        except ray.exceptions.RayError as error:
            self.unload()
            raise ModelLoadError(f"a Ray worker died while it loaded the model: {_line(error)}.") from error
        except PixanoVLMError:
            self.unload()
            raise

    def _start(self, ray: Any) -> None:
        # Standard output is data: what workers print stays in Ray's own logs.
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
        if self._address is None:
            options |= {"address": "local", "include_dashboard": False}
        else:
            options["address"] = self._address
        try:
            ray.init(**options)
        except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and others
            where = "on this machine" if self._address is None else f"at {self._address}"
            raise ModelLoadError(
                f"Ray cannot be reached or started {where}: {_line(error)}.",
                hint="Start a cluster with `ray start --head`, and give its address.",
            ) from error
        self._owns_ray = True

    def _check_room(self, ray: Any) -> None:
        if self._address is not None:
            return  # a cluster may grow
        there = ray.cluster_resources()
        for name, each in (("CPU", self.config.num_cpus), ("GPU", self.config.num_gpus)):
            if each * self._workers > there.get(name, 0):
                wanted = each * self._workers
                self.unload()
                raise ConfigError(
                    f"{self._workers} workers of {each:g} {name}s each need {wanted:g}; Ray has "
                    f"{there.get(name, 0):g} here.",
                    hint="Use fewer workers, give each a fraction, or join a cluster by its address.",
                )

    def _new_hand(self) -> _Hand[Any]:
        # By value where the class comes from a plugin, a file that the other processes cannot import.
        cls = type(self._alone)
        if self.config.model_class not in BUILT_IN_CLASSES:
            module = sys.modules.get(cls.__module__)
            if module is not None and cls.__module__.startswith("pixano_vlm_plugin_"):
                self._ray.cloudpickle.register_pickle_by_value(module)
        plugin = None if self.config.model_class in BUILT_IN_CLASSES else cls
        # No restarts by Ray: a new worker is made here, where it is known what the old one had.
        actor = (
            self._ray.remote(Worker)
            .options(num_cpus=self.config.num_cpus, num_gpus=self.config.num_gpus, max_restarts=0)
            .remote(self.config, self._create, plugin)
        )
        return _Hand(actor, actor.load.remote())

    def _get(self, call: Any) -> Any:
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PixanoVLMError):
                raise error.cause from error
            raise RunError(f"a worker failed: {_line(error.cause)}.") from error

    def unload(self) -> None:
        """Ends the workers, and Ray where it was started here."""
        hands, self._hands = self._hands, []
        for hand in hands:
            self._ray.kill(hand.actor)
        if self._owns_ray:
            self._owns_ray = False
            self._ray.shutdown()

    # --- running ---

    def predict(self, input: VLMInput) -> VLMOutput:
        """Answers one input."""
        ((_, answer),) = self.stream([(0, input)])
        if isinstance(answer, VLMError):
            raise answer
        return answer

    def stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Answers many inputs on all workers; see `VLMModel.stream`."""
        if not self._hands:
            raise ModelLoadError(f"model {self.model_name!r} is not loaded.", hint="Call load_model() first.")
        run = _Run(iter(inputs))
        try:
            while not run.is_done:
                self._supply(run)
                if run.is_done:
                    return
                calls = {hand.call: number for number, hand in enumerate(self._hands)}
                ready, _ = self._ray.wait(list(calls), num_returns=1)
                for call in ready:
                    yield from self._collect(run, calls[call])
        finally:
            # What was not waited for would be answered to nobody: those workers start anew.
            for number, hand in enumerate(self._hands):
                if hand.outstanding:
                    self._ray.kill(hand.actor)
                    self._hands[number] = self._new_hand()

    def _supply(self, run: _Run[Key]) -> None:
        """Gives records to the workers that have least, until all have enough or there are none.

        Nothing is sent here: a worker's next call takes along what is new.
        """
        while True:
            free = [
                hand
                for hand in self._hands
                if hand.is_loaded
                and len(hand.outstanding) < self._ahead
                and not hand.outstanding.keys() & run.suspects
            ]
            if not free:
                return
            hand = min(free, key=lambda hand: len(hand.outstanding))
            item = run.next(may_be_suspect=not hand.outstanding)
            if item is None:
                return
            hand.outstanding[item[0]] = item[1]
            run.unsent.setdefault(id(hand), []).append(item)

    def _collect(self, run: _Run[Key], number: int) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        hand = self._hands[number]
        try:
            answers = self._get(hand.call)
        except (self._ray.exceptions.RayActorError, RunError) as error:
            yield from self._replace(run, number, error)
            return
        if not hand.is_loaded:
            hand.is_loaded, answers = True, []
        # The next call is made before the answers are handed on, so that the worker never waits for a slow disk.
        for key, _ in answers:
            del hand.outstanding[key]
        self._supply(run)
        hand.call = hand.actor.exchange.remote(run.unsent.pop(id(hand), []), self.limits)
        if answers:
            run.deaths = 0
        for key, answer in answers:
            run.open.discard(key)
            run.suspects.discard(key)
            yield key, answer

    def _replace(self, run: _Run[Key], number: int, error: Exception) -> Iterator[tuple[Key, VLMError]]:
        """A new worker for a lost one, whose records are done again."""
        lost = self._hands[number]
        self._ray.kill(lost.actor)  # one that is only out of reach must not go on beside its successor
        run.unsent.pop(id(lost), None)
        run.deaths += 1
        if len(lost.outstanding) == 1:
            ((key, _),) = lost.outstanding.items()
            if key in run.suspects:
                lost.outstanding.clear()
                run.open.discard(key)
                run.suspects.discard(key)
                run.deaths = 0
                yield (
                    key,
                    GenerationError(
                        f"{run.losses[key] + 1} workers died while they had this record, the last "
                        "one with no other."
                    ),
                )
        if run.deaths >= DEATHS_WITHOUT_ANSWER:
            raise RunError(
                f"{run.deaths} workers failed one after the other: {_line(error)}.",
                hint="Ray's logs say of what; go on with the same command and --resume.",
            ) from error
        run.take_back(lost.outstanding)
        lost.outstanding = {}
        self._hands[number] = self._new_hand()

    # --- facts ---

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Facts about one worker's model, and how many there are."""
        return {
            **self._facts,
            "workers": self._workers,
            "cpus_per_worker": self.config.num_cpus,
            "gpus_per_worker": self.config.num_gpus,
            "ray": self._address or "this machine",
        }

    def fingerprint(self) -> str:
        """The model's own: where it runs does not change what it answers."""
        return self._alone.fingerprint()


class _Run(Generic[Key]):
    """The records of one `stream`."""

    def __init__(self, source: Iterator[tuple[Key, VLMInput]]) -> None:
        self._source: Iterator[tuple[Key, VLMInput]] | None = source
        self._again: deque[tuple[Key, VLMInput]] = deque()
        self._alone: deque[tuple[Key, VLMInput]] = deque()
        self.open: set[Key] = set()
        self.suspects: set[Key] = set()
        self.losses: Counter[Key] = Counter()
        self.deaths = 0
        self.unsent: dict[int, list[tuple[Key, VLMInput]]] = {}
        """A hand's identity -> records that are its own and not yet sent."""

    @property
    def is_done(self) -> bool:
        return self._source is None and not self.open

    def next(self, *, may_be_suspect: bool) -> tuple[Key, VLMInput] | None:
        """The next record to send: a lost one first."""
        if self._alone and may_be_suspect:
            return self._alone.popleft()
        if self._again:
            return self._again.popleft()
        if self._source is not None:
            item = next(self._source, None)
            if item is None:
                self._source = None
            else:
                self.open.add(item[0])
            return item
        return None

    def take_back(self, lost: dict[Key, VLMInput]) -> None:
        for key, input in lost.items():
            self.losses[key] += 1
            if self.losses[key] >= SUSPECT_AFTER:
                self.suspects.add(key)
                self._alone.append((key, input))
            else:
                self._again.append((key, input))


def _line(error: BaseException | None) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."
