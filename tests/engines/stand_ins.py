"""Stand-ins for packages that are not installed with the tests, as far as the engines over them go.

They show that an engine keeps its contract; that it fits the package itself is shown in `heavy`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def install(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)
    return module


# --- vLLM: answers the oldest request of each step ---


@dataclass
class EngineArgs:
    model: str = ""
    revision: str | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
    disable_log_stats: bool = False
    structured_outputs_config: Any = None
    max_num_seqs: int = 4


FIRST_WORD = 100
"""From here on, tokens of the embedded checkpoint are pieces of words."""


class Engine:
    def __init__(self, args: EngineArgs) -> None:
        text = SimpleNamespace(eos_token_id=None)
        self.vllm_config = SimpleNamespace(
            scheduler_config=SimpleNamespace(max_num_seqs=args.max_num_seqs),
            model_config=SimpleNamespace(
                architecture="Toy",
                dtype="float32",
                max_model_len=100,
                hf_config=SimpleNamespace(eos_token_id=None, get_text_config=lambda decoder: text),
                try_get_generation_config=dict,
            ),
        )
        self.engine_core = SimpleNamespace(shutdown=lambda: None)
        self.waiting: list[tuple[str, Any]] = []

    @classmethod
    def from_engine_args(cls, args: EngineArgs) -> Engine:
        return cls(args)

    def add_request(self, id: str, prompt: Any, params: Any, tokenization_kwargs: Any) -> None:
        self.waiting.append((id, prompt))

    def abort_request(self, ids: list[str]) -> None:
        self.waiting = [item for item in self.waiting if item[0] not in ids]

    def step(self) -> list[Any]:
        id, prompt = self.waiting.pop(0)
        said = [FIRST_WORD + byte for byte in prompt["prompt"].encode()[-40:]]
        answer = SimpleNamespace(finish_reason="stop", token_ids=said)
        return [SimpleNamespace(request_id=id, finished=True, outputs=[answer], prompt_token_ids=[1, 2, 3])]


def install_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SimpleNamespace(FINAL_ONLY=0)
    install(monkeypatch, "vllm", EngineArgs=EngineArgs, LLMEngine=Engine, __version__="0")
    install(monkeypatch, "vllm.config", StructuredOutputsConfig=lambda **options: options)
    install(monkeypatch, "vllm.sampling_params", RequestOutputKind=params, SamplingParams=SimpleNamespace,
            StructuredOutputsParams=SimpleNamespace)  # fmt: skip


# --- Ray: an actor is an object with a thread of its own ---


class Method:
    def __init__(self, pool: ThreadPoolExecutor, call: Callable[..., Any]) -> None:
        self.pool, self.call = pool, call

    def remote(self, *args: Any) -> Future[Any]:
        return self.pool.submit(self.call, *args)


class Actor:
    def __init__(self, kind: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.target = self.pool.submit(kind, *args)

    def __getattr__(self, name: str) -> Method:
        if name == "__ray_ready__":
            return Method(self.pool, self.target.result)
        return Method(self.pool, getattr(self.target.result(), name))


class Remote:
    def __init__(self, kind: Callable[..., Any]) -> None:
        self.kind = kind

    def options(self, **options: Any) -> Remote:
        return self

    def remote(self, *args: Any) -> Actor:
        return Actor(self.kind, args)


def wait_for(
    calls: list[Any], num_returns: int = 1, timeout: float | None = None
) -> tuple[list[Any], list[Any]]:
    done, _ = wait(calls, timeout, FIRST_COMPLETED)
    return [call for call in calls if call in done][:num_returns], []


def install_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = install(
        monkeypatch, "ray.exceptions",
        RayError=type("RayError", (Exception,), {}), RayTaskError=type("RayTaskError", (Exception,), {}),
    )  # fmt: skip
    install(
        monkeypatch, "ray", exceptions=errors, remote=Remote, wait=wait_for, get=lambda call: call.result(),
        is_initialized=lambda: False, init=lambda **options: None, shutdown=lambda: None,
        kill=lambda actor: actor.pool.shutdown(wait=False), cluster_resources=lambda: {"CPU": 8.0},
        cloudpickle=SimpleNamespace(register_pickle_by_value=lambda module: None),
    )  # fmt: skip


# --- the Pixano server: its types ---


def install_pixano(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pixano_inference", "pixano_inference.configs", "pixano_inference.utils"):
        install(monkeypatch, name)
    install(monkeypatch, "pixano_inference.configs.deployment", ModelDeploymentConfig=SimpleNamespace)
    install(monkeypatch, "pixano_inference.models", VLMInput=SimpleNamespace)
    install(monkeypatch, "pixano_inference.utils.media_security", MediaPolicy=SimpleNamespace,
            set_media_policy=lambda policy: None)  # fmt: skip


class TheirModel:
    """A model written for that server."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def load_model(self) -> None: ...
    def unload(self) -> None: ...

    def predict(self, input: Any) -> Any:
        for path in input.images or ():
            if not path.is_file():
                raise FileNotFoundError(path)
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return SimpleNamespace(
            generated_text=f"said {input.prompt}", usage=SimpleNamespace(model_dump=lambda: usage),
            generation_config={"max_new_tokens": input.max_new_tokens},
        )  # fmt: skip
