"""A model behind a server that speaks OpenAI's `/v1/chat/completions`: vLLM, SGLang, llama.cpp, Ollama,
`transformers serve`, hosted ones.

Keeps many requests under way and hands out answers as they come. Loads no weights and imports no torch.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pixano_vlm.engines.base import read_parameters, refuse_prompt_limit
from pixano_vlm.engines.openai.request import ChatRequest, RequestWriter
from pixano_vlm.engines.openai.server import ChatServer, Patience
from pixano_vlm.errors import GenerationError, ModelLoadError, RunError, VLMError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.registry import register_model
from pixano_vlm.models.vlm import Key, UsageInfo, VLMInput, VLMModel, VLMOutput
from pixano_vlm.prompts.response_format import parse_json

__all__ = ["OpenAIParams", "OpenAIVLMModel"]


class OpenAIParams(BaseModel):
    """Parameters of `OpenAIVLMModel`. The key itself is none of them: configs and outputs are shown around."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    base_url: str = Field(
        description="The server's address up to and with /v1, such as http://127.0.0.1:8000/v1."
    )
    model: str | None = Field(
        default=None, min_length=1, description="The model's name there; None: the only one that it lists."
    )
    check_model: bool = Field(
        default=True, description="Whether the server must list the model; some load others when asked."
    )
    api_key_env: str | None = Field(
        default=None,
        min_length=1,
        description="The environment variable that holds the key; None: the server wants none.",
    )
    identity: str | None = Field(
        default=None,
        description="What the server runs, such as a revision: stands for its address when a run is resumed.",
    )
    concurrency: int = Field(default=16, ge=1, le=4096, description="Most requests under way at a time.")
    tries: int = Field(default=6, ge=1, description="Most tries of one request that reach the server.")
    timeout: float = Field(default=300, gt=0, description="Seconds one try may take.")
    total_timeout: float = Field(
        default=1200, gt=0, description="Seconds one record may take in all, waits included."
    )
    connect_timeout: float = Field(default=10, gt=0, description="Seconds to connect.")
    outage: float = Field(
        default=600, ge=0, description="Seconds the server may be out of reach before the run ends."
    )
    send_urls: bool = Field(
        default=False, description="Leave http(s) URLs of images to the server instead of fetching them here."
    )
    max_image_side: int | None = Field(
        default=None,
        ge=16,
        description="Make larger pictures smaller, to this many pixels on the longer side.",
    )
    limit_name: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="What the server calls the most new tokens; OpenAI's newer models know the second alone.",
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Further entries of every request, as this server knows them."
    )
    prepare_workers: int = Field(default=2, ge=1, description="Threads that decode and encode images.")

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("give an http(s) URL, such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ValueError("a URL with a password ends up in outputs; name its variable in api_key_env")
        return value.rstrip("/")


PROMPT_LIMIT = "The server knows how long a prompt may be, and refuses a longer one."

Answered = tuple[Any, VLMOutput | VLMError | RunError]


@register_model
class OpenAIVLMModel(VLMModel):
    """A model behind a server, asked over HTTP.

    Args:
        config: `model_params` are those of `OpenAIParams`.
    """

    params_class: ClassVar[type[BaseModel]] = OpenAIParams

    def __init__(self, config: ModelDeploymentConfig) -> None:
        super().__init__(config)
        self.params = read_parameters(config, OpenAIParams)
        self._server: ChatServer | None = None
        self._served_name = self.params.model or ""
        self._writer = RequestWriter(
            send_urls=self.params.send_urls,
            max_image_side=self.params.max_image_side,
            limit_name=self.params.limit_name,
            extra_body=self.params.extra_body,
        )

    def load_model(self) -> None:
        """Connects, and finds the model.

        Raises:
            ConfigError: When the run limits prompts in tokens.
            MissingPackageError: When the package `openai` is not installed.
            ModelLoadError: When the key or the server is not there, or has no such model.
        """
        if self._server is not None:
            return
        refuse_prompt_limit(self, hint=PROMPT_LIMIT)
        params = self.params
        patience = Patience(
            tries=params.tries,
            timeout=params.timeout,
            total_timeout=params.total_timeout,
            connect_timeout=params.connect_timeout,
            outage=params.outage,
        )
        server = ChatServer(params.base_url, self._key(), params.concurrency, patience)
        try:
            self._served_name = server.submit(
                server.find_model(params.model, check=params.check_model)
            ).result()
        except BaseException:
            server.close()
            raise
        self._server = server

    def _key(self) -> str | None:
        name = self.params.api_key_env
        if name is None:
            return None
        key = os.environ.get(name, "").strip()
        if not key:
            raise ModelLoadError(
                f"model {self.model_name!r} takes its key from the environment variable {name}, which is not set.",
                hint=f"Set it: export {name}=...",
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            # Refused here, for what builds the request would say so with the key in its words.
            raise ModelLoadError(
                f"model {self.model_name!r} takes its key from the environment variable {name}, whose value is no "
                "key: it holds a space, a line's end, or a character that is not ASCII.",
                hint=f"Set it anew, to the key alone: export {name}=...",
            )
        return key

    def unload(self) -> None:
        """Ends the connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def predict(self, input: VLMInput) -> VLMOutput:
        """Answers one input. Safe to call from many threads."""
        ((_, answer),) = self.stream([(0, input)])
        if isinstance(answer, VLMError):
            raise answer
        return answer

    def stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Answers many inputs, `concurrency` at a time; see `VLMModel.stream`."""
        server = self._server
        if server is None:
            raise ModelLoadError(f"model {self.model_name!r} is not loaded.", hint="Call load_model() first.")
        refuse_prompt_limit(self, hint=PROMPT_LIMIT)
        source = iter(inputs)
        answers: SimpleQueue[Answered] = SimpleQueue()
        under_way: dict[Key, Future[VLMOutput]] = {}
        # As many again as there are threads have their pictures made ready while the server is busy.
        window = self.params.concurrency + 2 * self.params.prepare_workers
        is_exhausted = False
        with ThreadPoolExecutor(self.params.prepare_workers, thread_name_prefix="pictures") as pool:
            try:
                while True:
                    while not is_exhausted and len(under_way) < window and answers.empty():
                        item = next(source, None)
                        if item is None:
                            is_exhausted = True
                            break
                        key, input = item
                        future = server.submit(self._answer_one(server, pool, input))
                        under_way[key] = future
                        future.add_done_callback(
                            lambda done, key=key: answers.put((key, _outcome(done)))  # type: ignore[misc]  # the default binds the loop's key
                        )
                    if not under_way:
                        return
                    key, answer = answers.get()
                    del under_way[key]
                    if isinstance(answer, RunError):
                        raise answer
                    yield key, answer
            finally:
                for future in under_way.values():
                    future.cancel()

    async def _answer_one(self, server: ChatServer, pool: ThreadPoolExecutor, input: VLMInput) -> VLMOutput:
        loop = asyncio.get_running_loop()
        request = await loop.run_in_executor(pool, self._writer.write, input, self.limits)
        return read_answer(await server.ask(self._served_name, request), request)

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Facts about the server."""
        return {
            "class": type(self).__name__,
            "server": self.params.base_url,
            "model": self._served_name or None,
            "concurrency": self.params.concurrency,
            "api_key_env": self.params.api_key_env,
        }

    def fingerprint(self) -> str:
        """The model's name at the server, the server, and what shapes the answers."""
        params = self.params
        shaping = [
            params.model,
            params.identity or params.base_url,
            params.max_image_side,
            sorted(params.extra_body.items(), key=lambda item: item[0]),
        ]
        return f"{type(self).__name__}:{hashlib.blake2b(repr(shaping).encode(), digest_size=16).hexdigest()}"


def _outcome(done: Future[VLMOutput]) -> VLMOutput | VLMError | RunError:
    if done.cancelled():
        return GenerationError("the request was dropped.")
    error = done.exception()
    if error is None:
        return done.result()
    if isinstance(error, (VLMError, RunError)):
        return error
    return GenerationError(f"asking the server failed: {type(error).__name__}: {error}.")


def read_answer(answer: Any, request: ChatRequest) -> VLMOutput:
    """What a `ChatCompletion` says.

    Raises:
        GenerationError: When it holds no text, and why.
    """
    choice = answer.choices[0]
    text = choice.message.content
    if choice.finish_reason == "content_filter":
        raise GenerationError("the server's content filter stopped this answer.")
    if text is None:
        refusal = getattr(choice.message, "refusal", None)
        why = f": it refuses: {refusal}" if refusal else f" (finish_reason {choice.finish_reason!r})"
        raise GenerationError(
            f"the server's answer holds no text{why}.",
            hint=None if refusal else "A model that thinks first may need more max_new_tokens.",
        )
    usage = answer.usage
    counts = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage is not None else (0, 0)
    used = request.used if usage is not None else {**request.used, "usage": "not told by the server"}
    return VLMOutput(
        generated_text=text,
        usage=UsageInfo(
            prompt_tokens=counts[0], completion_tokens=counts[1], total_tokens=counts[0] + counts[1]
        ),
        generation_config=used,
        parsed=parse_json(text) if request.wants_json else None,
        finish_reason=choice.finish_reason if choice.finish_reason in ("stop", "length") else None,
    )
