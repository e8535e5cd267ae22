"""Any other engine, on many devices or machines: Ray places the workers, each a process with a model of its own.

A worker's model batches as it does alone; this module keeps each of them supplied from one lazily read stream,
and gives a lost worker's records to others. Imports Ray only when workers are started.

It uses Ray's actors, and not Ray Data on top of them: docs/decisions/actors-not-ray-data.md
says why, with measurements.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic

from pixano_vlm.engines.base import EngineModel
from pixano_vlm.engines.ray.shares import Share, Shares
from pixano_vlm.engines.ray.worker import Worker
from pixano_vlm.errors import (
    RESUME,
    ConfigError,
    GenerationError,
    ModelLoadError,
    PixanoVLMError,
    RunError,
    VLMError,
)
from pixano_vlm.extras import import_extra
from pixano_vlm.media.notes import NOTES
from pixano_vlm.models.deferred import DeferredReader, TakesDeferred
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.registry import BUILT_IN_CLASSES
from pixano_vlm.models.vlm import Key, VLMInput, VLMModel, VLMOutput

__all__ = ["RayVLMModel", "with_ray"]

FAILURES = 3
"""A worker lost so many times, with no answer between, is not started again."""
KNOCK_SECONDS = 10
"""How long a cluster's head may take to answer at all."""
PLACEMENT_SECONDS = 300
"""How long a cluster may take to find room for the first worker: it may have to start a machine."""

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
        raise ConfigError(f"{gpus_per_worker:g} GPUs per worker make no sense.", hint="Give 0 or more.")
    _import_ray()
    if gpus_per_worker is not None:
        config = config.model_copy(update={"num_gpus": gpus_per_worker})
    return RayVLMModel(config, create, address=address, workers=workers)


@dataclass(slots=True, eq=False)
class _Seat(Generic[Key]):
    """A place in the pool: a worker, or the one that follows when it is lost."""

    actor: Any = None
    call: Any = None
    """The reference of the call that is under way; there is always one where there is an actor."""
    is_loaded: bool = False
    failures: int = 0
    """Workers lost here since the last answer."""
    share: Share[Key] = field(default_factory=Share)


class RayVLMModel(EngineModel, TakesDeferred):
    """A pool of workers that is one model. Made by `with_ray`."""

    takes_samples = True  # each worker sees to those of its own model

    def __init__(
        self, config: ModelDeploymentConfig, create: Create, *, address: str | None, workers: int
    ) -> None:
        super().__init__(config)
        self._create = create
        self._address = address
        self._model = create(config)  # never loaded: it says what the answers hang on
        self._ray: Any = None
        self._owns_ray = False
        self._seats: list[_Seat[Any]] = [_Seat() for _ in range(workers)]
        self._facts: dict[str, Any] | None = None
        self._reader: DeferredReader | None = None

    @property
    def parts_at_once(self) -> int:
        """One for each worker."""
        return len(self._seats)

    def read_with(self, reader: DeferredReader | None) -> None:
        """Says what reads the deferred requests of the next streams, in the workers."""
        self._reader = reader
        for seat in self._seats:
            self._bring_reader(seat)

    # --- the pool ---

    def load_model(self) -> None:
        """Starts or joins Ray and loads the model in every worker; returns when the first is ready.

        Raises:
            ConfigError: When this machine has no room for the workers.
            ModelLoadError: When Ray or a cluster is not there, or a worker cannot load the model.
        """
        if self._facts is not None:
            return
        ray = self._ray = _import_ray()
        try:
            if not ray.is_initialized():
                self._start(ray)
            self._check_room(ray.cluster_resources())
            for seat in self._seats:
                self._fill_seat(seat)
            self._wait_for_room(ray)
            ready, _ = ray.wait([seat.call for seat in self._seats], num_returns=1)
            self._facts = self._get(ready[0])
        except ray.exceptions.RayError as error:
            self.unload()
            raise ModelLoadError(f"a Ray worker died while it loaded the model: {_line(error)}.") from error
        except BaseException:
            self.unload()
            raise

    def _start(self, ray: Any) -> None:
        # Standard output is data: what workers print stays in Ray's own logs.
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address is None:
            options |= {"address": "local", "include_dashboard": False}
        else:
            options["address"] = self._address
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            if self._address is not None:
                _knock(self._address)
            ray.init(**options)
        except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and others
            where = "be started on this machine" if self._address is None else f"reach {self._address}"
            raise ModelLoadError(
                f"Ray cannot {where}: {_line(error)}.",
                hint="Start a cluster with `ray start --head`, and give its address. One that asks for a token "
                "also wants RAY_AUTH_MODE=token in the environment.",
            ) from error
        finally:
            # Ray puts its own handler there, which ends the process: a run that is stopped would lose what is
            # under way.
            if on_sigterm is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_sigterm)
        self._owns_ray = True

    def _check_room(self, there: dict[str, float]) -> None:
        config, workers = self.config, len(self._seats)
        may_use_gpu = str(config.model_params.get("device", "auto")) != "cpu"
        if there.get("GPU") and may_use_gpu and "num_gpus" not in config.model_fields_set:
            raise ConfigError(
                f"Ray has {there['GPU']:g} GPUs, and nothing says how many a worker of model {config.name!r} takes.",
                hint="Give --gpus-per-worker 1, a fraction to share one, or 0 to use none.",
            )
        if self._address is not None:
            return  # a cluster may grow
        for name, each in (("CPU", config.num_cpus), ("GPU", config.num_gpus)):
            if each * workers > there.get(name, 0):
                raise ConfigError(
                    f"{workers} workers of {each:g} {name}s each need {each * workers:g}; Ray has "
                    f"{there.get(name, 0):g} here.",
                    hint="Use fewer workers, give each a fraction, or join a cluster by its address.",
                )

    def _wait_for_room(self, ray: Any) -> None:
        placed = [seat.actor.__ray_ready__.remote() for seat in self._seats]
        if not ray.wait(placed, num_returns=1, timeout=PLACEMENT_SECONDS)[0]:
            there = ray.cluster_resources()
            raise ModelLoadError(
                f"no worker found room within {PLACEMENT_SECONDS} seconds: each takes {self.config.num_cpus:g} CPUs "
                f"and {self.config.num_gpus:g} GPUs, and the cluster has {there.get('CPU', 0):g} and "
                f"{there.get('GPU', 0):g} in all.",
                hint="`ray status` shows what is in use.",
            )

    def _fill_seat(self, seat: _Seat[Any]) -> None:
        plugin: type[VLMModel] | None = None
        if self.config.model_class not in BUILT_IN_CLASSES:
            plugin = type(self._model)
            module = sys.modules.get(plugin.__module__)
            # By value where it comes from a plugin's file, which the other processes cannot import.
            if module is not None and plugin.__module__.startswith("pixano_vlm_plugin_"):
                self._ray.cloudpickle.register_pickle_by_value(module)
        # No restarts by Ray: a new worker is made here, where it is known what the old one had.
        seat.actor = (
            self._ray.remote(Worker)
            .options(num_cpus=self.config.num_cpus, num_gpus=self.config.num_gpus, max_restarts=0)
            .remote(self.config, self._create, plugin)
        )
        seat.call = seat.actor.load.remote()
        seat.is_loaded = False
        self._bring_reader(seat)

    def _bring_reader(self, seat: _Seat[Any]) -> None:
        if seat.actor is not None:  # calls of one actor run in their order: before the first records
            seat.actor.read_with.remote(self._reader)

    def _clear_seat(self, seat: _Seat[Any]) -> None:
        if seat.actor is not None:
            # One that is only out of reach must not work beside its successor.
            self._ray.kill(seat.actor)
        seat.actor = seat.call = None
        seat.share = Share()

    def _get(self, call: Any) -> Any:
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PixanoVLMError):
                raise error.cause from error
            raise RunError(f"a worker failed: {_line(error.cause)}.") from error

    def unload(self) -> None:
        """Ends the workers, and Ray where it was started here."""
        for seat in self._seats:
            self._clear_seat(seat)
        self._facts = None
        if self._owns_ray:
            self._owns_ray = False
            self._ray.shutdown()

    # --- running ---

    def stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Answers many inputs on all workers; see `VLMModel.stream`."""
        if self._facts is None:
            raise self._not_loaded()
        shares: Shares[Key] = Shares(iter(inputs), len(self._seats))
        for seat in self._seats:
            if seat.actor is None:
                self._fill_seat(seat)
        try:
            while not shares.is_done():
                seats = {seat.call: seat for seat in self._seats if seat.actor is not None}
                self._ray.wait(list(seats), num_returns=1)
                # All that are ready, or those at the list's end would starve when there are many.
                ready, _ = self._ray.wait(list(seats), num_returns=len(seats), timeout=0)
                for call in ready:
                    yield from self._collect(shares, seats[call])
        finally:
            for seat in self._seats:
                if seat.share.held:  # left in the middle: it would be answered to nobody
                    self._clear_seat(seat)

    def _collect(self, shares: Shares[Key], seat: _Seat[Key]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        answers: list[tuple[Key, VLMOutput | VLMError]] = []
        try:
            if seat.is_loaded:
                answers, seat.share.waiting, noticed = self._get(seat.call)
                NOTES.add(noticed)
            else:
                self._get(seat.call)
                seat.is_loaded = True
        except (self._ray.exceptions.RayError, PixanoVLMError) as error:
            yield from self._replace(shares, seat, error)
            return
        answers = [item for item in answers if shares.answered(seat.share, item[0])]
        if answers:
            seat.failures = 0
        # The next call is made before the answers are handed on: no worker waits for a slow disk.
        more = shares.fill(seat.share)
        seat.call = seat.actor.exchange.remote(seat.share.take_unsent(), more, self.limits)
        yield from answers

    def _replace(
        self, shares: Shares[Key], seat: _Seat[Key], error: Exception
    ) -> Iterator[tuple[Key, VLMError]]:
        """A new worker for a lost one, whose records are asked again."""
        if len(seat.share.held) == 1 and shares.is_suspect(key := next(iter(seat.share.held))):
            workers = shares.losses(key) + 1
            shares.answered(seat.share, key)
            yield key, GenerationError(f"{workers} workers died with this record, the last had no other.")
        else:
            seat.failures += 1
        shares.lost(seat.share)
        self._clear_seat(seat)
        if seat.failures < FAILURES:
            self._fill_seat(seat)
        elif not any(other.actor for other in self._seats):
            hint = error.hint if isinstance(error, PixanoVLMError) else None
            raise RunError(
                f"every worker failed {FAILURES} times with no answer between, the last time: {_line(error)}.",
                hint=hint or f"Ray's logs say why. {RESUME}",
            ) from error

    # --- facts ---

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Facts about one worker's model, and how many there are."""
        return {
            **(self._facts or {}),
            "workers": len(self._seats),
            "cpus_per_worker": self.config.num_cpus,
            "gpus_per_worker": self.config.num_gpus,
            "ray": self._address or "this machine",
        }

    def fingerprint(self) -> str:
        """The model's own: where it runs does not change what it answers."""
        return self._model.fingerprint()


def _knock(address: str) -> None:
    """Finds out within seconds that nobody is there; Ray itself takes minutes.

    Raises:
        OSError: When nobody is.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _import_ray() -> Any:
    # Its submodule first: a mere folder named `ray` in the current one passes for the package itself.
    import_extra("ray.exceptions", extra="ray", purpose="running on Ray")
    return import_extra("ray", extra="ray", purpose="running on Ray")


def _line(error: BaseException | None) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 300 else f"{text[:300]}..."
