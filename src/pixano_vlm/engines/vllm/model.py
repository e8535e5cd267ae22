"""A model run by vLLM, in this process: vLLM batches, this module feeds it no faster than it answers.

Prompts are laid out by the model's own chat template and images opened by this project's own reader, as in the
other engines. Imports vLLM only when a model is loaded.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from itertools import count, islice
from multiprocessing import resource_tracker
from typing import Any, ClassVar, Generic

from pydantic import BaseModel

from pixano_vlm.engines.base import EngineModel, read_parameters, refuse_prompt_limit
from pixano_vlm.engines.transformers import prompting
from pixano_vlm.engines.transformers.answer_text import answer_decoder
from pixano_vlm.engines.transformers.generation_defaults import vllm_defaults
from pixano_vlm.engines.vllm.answer import AnswerReader
from pixano_vlm.engines.vllm.labels import LabelPart, LabelRun
from pixano_vlm.engines.vllm.params import VLLMParams
from pixano_vlm.engines.vllm.request import NO_BUDGET, RequestMaker, VLLMRequest
from pixano_vlm.engines.vllm.thoughts import ThoughtRules
from pixano_vlm.errors import (
    RESUME,
    ConfigError,
    ModelLoadError,
    PixanoVLMError,
    PromptError,
    RunError,
    VLMError,
    is_out_of_memory,
)
from pixano_vlm.extras import import_extra
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.registry import register_model
from pixano_vlm.models.samples import in_samples
from pixano_vlm.models.vlm import Key, VLMInput, VLMOutput
from pixano_vlm.nearest import nearest

__all__ = ["VLLMParams", "VLLMVLMModel"]

OURS = {
    "model": "path",
    "revision": "revision",
    "dtype": "dtype",
    "trust_remote_code": "trust_remote_code",
    "max_num_seqs": "max_batch_size",
    "mm_processor_kwargs": "processor_kwargs",
}
"""vLLM's engine arguments that are parameters of the class itself -> under which name."""

REFILL = 48
"""Requests that vLLM is given in a row, once as many have been answered."""

JSON_AS_HERE = {"backend": "guidance", "disable_any_whitespace": True}
"""Answers in JSON by the library that the in-process engine uses, and as it does: where any whitespace is allowed, a
model that is none too sure writes nothing else until its tokens are used up."""


@dataclass(slots=True)
class _Flow(Generic[Key]):
    """The requests of one `stream`: those to come, those being prepared, in order, and those in vLLM."""

    source: Iterator[tuple[Key, VLMInput]]
    preparing: deque[tuple[Key, VLMInput, Future[VLLMRequest]]] = field(default_factory=deque)
    running: dict[str, tuple[Key, VLMInput, bool]] = field(default_factory=dict)
    """The id that vLLM was given -> the key, the input, and whether its answer begins inside of thoughts."""
    labels: dict[str, tuple[LabelRun, LabelPart]] = field(default_factory=dict)
    """Of those that are part of a record's labels, which part."""


@register_model
class VLLMVLMModel(EngineModel):
    """A model that vLLM knows, run in this process.

    Args:
        config: `model_params` are those of `VLLMParams`.
    """

    params_class: ClassVar[type[BaseModel]] = VLLMParams
    takes_turns = True
    takes_samples = True

    def __init__(self, config: ModelDeploymentConfig) -> None:
        super().__init__(config)
        self.params = read_parameters(config, VLLMParams)
        self._engine: Any = None
        self._vllm: Any = None
        self._requests: RequestMaker
        self._answers: AnswerReader
        self._seconds = 0.0
        self._ids = count()

    # --- loading ---

    def load_model(self) -> None:
        """Starts vLLM's engine.

        Raises:
            MissingPackageError: When vLLM is not installed or does not fit.
            ConfigError: When it has no engine argument of a name in `engine_args`, or a run limits prompts in tokens.
            ModelLoadError: When it cannot run the model.
        """
        if self._engine is not None:
            return
        refuse_prompt_limit(self, hint=PROMPT_LIMIT)
        # vLLM writes its log to standard output, which is data here, and reads these when it is imported.
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        vllm = import_extra("vllm", extra="vllm", purpose="VLLMVLMModel")
        began = time.perf_counter()
        known = [entry.name for entry in fields(vllm.EngineArgs)]
        self._check_names(known)
        processor = self._load_processor()
        requests = RequestMaker(processor)
        try:
            with _deaf_to_interrupts():
                arguments = self._engine_arguments(requests.thoughts, known)
                engine = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**arguments))
        except Exception as error:  # whatever vLLM, torch or the model's code raises
            raise self._explain(error) from error
        config = engine.vllm_config.model_config
        named = config.try_get_generation_config()
        ends = requests.end_tokens(config.hf_config, named.get("eos_token_id"))
        requests.end_ids, requests.defaults = ends.ids, vllm_defaults(named)
        decoder = answer_decoder(processor, requests.renderer, ends)
        self._answers = AnswerReader(decoder, requests.renderer.thinking, requests.defaults.stop_strings)
        self._requests, self._vllm, self._engine = requests, vllm, engine
        self._seconds = time.perf_counter() - began

    def _check_names(self, names: list[str]) -> None:
        for name in self.params.engine_args:
            if name in OURS:
                raise ConfigError(
                    f"model {self.model_name!r}: engine_args has {name!r}, which is the parameter {OURS[name]!r}.",
                    hint=f"Move it out of engine_args, as {OURS[name]}.",
                )
            if name not in names:
                close = nearest(name, names)
                raise ConfigError(
                    f"model {self.model_name!r}: vLLM has no engine argument {name!r}.",
                    hint=f"Did you mean {close[0]!r}?" if close else "`vllm serve --help=all` lists them.",
                )

    def _engine_arguments(self, thoughts: ThoughtRules | None, known: list[str]) -> dict[str, Any]:
        from vllm.config import StructuredOutputsConfig

        params = self.params
        arguments: dict[str, Any] = {
            "model": params.path,
            "revision": params.revision,
            "dtype": params.dtype,
            "trust_remote_code": params.trust_remote_code,
            "disable_log_stats": True,
            "structured_outputs_config": JSON_AS_HERE,
        }
        if params.processor_kwargs:
            arguments["mm_processor_kwargs"] = params.processor_kwargs
        if params.max_batch_size is not None:
            arguments["max_num_seqs"] = params.max_batch_size
        arguments |= params.engine_args
        name = "structured_outputs_config"  # the one such argument that vLLM takes as an object alone
        if isinstance(arguments[name], dict):
            arguments[name] = StructuredOutputsConfig(**arguments[name])
        if thoughts is not None:
            thoughts.configure(arguments, known)
        return arguments

    def _load_processor(self) -> Any:
        from pixano_vlm.engines.transformers.loading import load_processor
        from pixano_vlm.models.deployment import TransformersParams

        params = self.params
        return load_processor(
            TransformersParams(
                path=params.path,
                revision=params.revision,
                trust_remote_code=params.trust_remote_code,
                processor_kwargs=params.processor_kwargs,
            )
        )

    def _explain(self, error: Exception) -> PixanoVLMError:
        text = " ".join(str(error).split())
        where = f"vLLM cannot run {self.params.path!r}"
        if is_out_of_memory(error):
            return ModelLoadError(f"{where}: out of memory: {text[:300]}", hint=LESS_MEMORY)
        return ModelLoadError(
            f"{where}: {type(error).__name__}: {text[:500]}",
            hint="Its own log, above, may say more. What it does not support, TransformersVLMModel may run.",
        )

    def unload(self) -> None:
        """Ends vLLM's engine and the processes it started."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.engine_core.shutdown()

    # --- running ---

    def stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Answers many inputs, batched by vLLM; see `VLMModel.stream`.

        Each sample of a record is a request of its own, whose prompt vLLM's prefix cache has already.
        """
        return in_samples(self._stream, inputs)

    def _stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        self._require()
        refuse_prompt_limit(self, hint=PROMPT_LIMIT)
        flow: _Flow[Key] = _Flow(iter(inputs))
        with ThreadPoolExecutor(self.params.prepare_workers, thread_name_prefix="images") as pool:
            try:
                while True:
                    yield from self._hand_over(flow, pool)
                    if not flow.running:
                        return
                    yield from self._step(flow)
            finally:
                for _, _, future in flow.preparing:
                    future.cancel()
                if flow.running and self._engine is not None:
                    with suppress(Exception):  # of a dead engine nothing is left to abort
                        self._engine.abort_request(list(flow.running))

    def _hand_over(self, flow: _Flow[Key], pool: ThreadPoolExecutor) -> Iterator[tuple[Key, VLMError]]:
        """Gives vLLM what is prepared, as far as it has room, and prepares more; waits only where vLLM would."""
        # A whole batch and more wait inside vLLM: where all of one end together, another is ready at once.
        batch = max(4, self._batch_size())
        room = batch + max(batch, 2 * REFILL)
        # Several at a time: vLLM's model works beside this, but while `step` waits for it nothing is added.
        if len(flow.running) > room - REFILL:
            return
        while len(flow.running) < room:
            for key, input in islice(flow.source, REFILL // 2 - len(flow.preparing)):
                future = pool.submit(self._requests.prepare, input, self.limits)
                flow.preparing.append((key, input, future))
            if not flow.preparing or (flow.running and not flow.preparing[0][2].done()):
                return
            yield from self._add(flow, *flow.preparing.popleft())

    def _add(
        self, flow: _Flow[Key], key: Key, input: VLMInput, future: Future[VLLMRequest]
    ) -> Iterator[tuple[Key, VLMError]]:
        """Gives vLLM one request; yields its error where it cannot."""
        try:
            ready = future.result()
            if ready.labels is not None:
                self._add_labels(flow, key, input, LabelRun(ready, self._requests.end_ids))
            else:
                flow.running[self._start(ready)] = (key, input, ready.thinks)
        except Exception as error:  # vLLM refuses a request with whatever its processor raises
            yield key, self._refusal(error)

    def _refusal(self, error: Exception) -> VLMError:
        """What a record is answered with that cannot be asked."""
        if isinstance(error, VLMError):
            return error
        self._raise_if_dead(error)
        return PromptError(f"vLLM refuses this request: {' '.join(str(error).split())[:300]}")

    def _start(self, ready: VLLMRequest) -> str:
        """Gives vLLM one request; returns its id."""
        id = str(next(self._ids))
        self._engine.add_request(id, ready.prompt, ready.params, tokenization_kwargs=ready.tokenization)
        return id

    def _add_labels(self, flow: _Flow[Key], key: Key, input: VLMInput, run: LabelRun) -> bool:
        """Gives vLLM the next parts of a record's labels; returns whether there are any.

        Where one cannot be given, none is left behind.
        """
        parts, begun = run.next_parts(), list[str]()
        try:
            for part in parts:
                begun.append(id := self._start(run.request(part)))
                flow.running[id], flow.labels[id] = (key, input, False), (run, part)
        except Exception:
            for id in begun:
                del flow.running[id], flow.labels[id]
            self._engine.abort_request(begun)
            raise
        return bool(parts)

    def _step(self, flow: _Flow[Key]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        try:
            outputs = self._engine.step()
        except Exception as error:
            self._raise_if_dead(error)
            raise RunError(f"vLLM failed: {type(error).__name__}: {error}.", hint=RESUME) from error
        for output in outputs:
            if output.finished:
                key, input, thinks = flow.running.pop(output.request_id)
                part_of = flow.labels.pop(output.request_id, None)
                if part_of is None:
                    yield key, self._answer_of(output, input, thinks=thinks)
                else:
                    yield from self._labels_of(flow, key, input, *part_of, output)

    def _labels_of(
        self, flow: _Flow[Key], key: Key, input: VLMInput, run: LabelRun, part: LabelPart, output: Any
    ) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Takes a part of a record's labels, and answers the record with its last one."""
        if not run.take(part, output):
            return
        try:
            if not self._add_labels(flow, key, input, run):
                yield key, run.answer(input)
        except Exception as error:  # as in `_add`
            yield key, self._refusal(error)

    def _answer_of(self, output: Any, input: VLMInput, *, thinks: bool) -> VLMOutput | VLMError:
        return self._answers.read(output, input, thinks=thinks)

    def _raise_if_dead(self, error: Exception) -> None:
        if is_out_of_memory(error):
            raise RunError(f"out of memory: {str(error)[:300]}", hint=f"{LESS_MEMORY} {RESUME}") from error
        if type(error).__name__ == "EngineDeadError":
            raise RunError(
                "vLLM's engine has died; its own log, above, says of what.",
                hint=f"If of memory: {LESS_MEMORY} {RESUME}",
            ) from error

    def _batch_size(self) -> int:
        return int(self._engine.vllm_config.scheduler_config.max_num_seqs)

    def _require(self) -> None:
        if self._engine is None:
            raise self._not_loaded()

    def cannot_budget_images(self) -> str | None:
        """Images are processed by the model's own settings; see `VLMModel.cannot_budget_images`."""
        return NO_BUDGET

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Facts about the loaded model."""
        self._require()
        config = self._engine.vllm_config.model_config
        return {
            "class": type(self).__name__,
            "path": self.params.path,
            "architecture": config.architecture,
            "dtype": str(config.dtype).removeprefix("torch."),
            "load_seconds": round(self._seconds, 2),
            "chat_template": self._requests.renderer.has_template,
            "thinking": prompting.thinking(self._requests.renderer),
            "generation_defaults": prompting.generation_defaults(self._requests.defaults),
            "context_length": config.max_model_len,
            "image_token": self._requests.renderer.image_token,
            "engine": f"vLLM {self._vllm.__version__}, {self._batch_size()} records together",
        }

    def notices(self) -> list[str]:
        """What people should know of the checkpoint; see `VLMModel.notices`."""
        self._require()
        return prompting.notices(self._requests.renderer, self._requests.defaults, expects_template=False)

    def fingerprint(self) -> str:
        """Identity of the weights and of what shapes the answers, from files and parameters alone."""
        from pixano_vlm.engines.transformers.model import TransformersVLMModel

        shared = {
            name: getattr(self.params, name) for name in ("path", "revision", "dtype", "processor_kwargs")
        }
        weights = TransformersVLMModel(self.config.model_copy(update={"model_params": shared})).fingerprint()
        asked = f"{weights}:{sorted(self.params.engine_args.items(), key=lambda item: item[0])!r}"
        return f"{type(self).__name__}:{hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()}"


PROMPT_LIMIT = "Set max_model_len in engine_args: vLLM refuses longer prompts."
LESS_MEMORY = (
    "Lower max_batch_size, or max_model_len or gpu_memory_utilization in engine_args "
    "(on a CPU the environment variable VLLM_CPU_KVCACHE_SPACE, in GiB)."
)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """While entered, processes that are started never hear Ctrl-C, which a terminal sends to them too.

    They would drop at once what this process wants to see answered before it ends the run, and them with it.
    """
    resource_tracker.ensure_running()  # started later, by any of them, it would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
