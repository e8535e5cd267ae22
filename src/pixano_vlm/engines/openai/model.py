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
from typing import Any, ClassVar

from pydantic import BaseModel

from pixano_vlm.engines.base import EngineModel, read_parameters, refuse_prompt_limit
from pixano_vlm.engines.openai.answer import read_answer
from pixano_vlm.engines.openai.dialect import ServerDialect
from pixano_vlm.engines.openai.discovery import api_address, find_model
from pixano_vlm.engines.openai.params import OpenAIParams
from pixano_vlm.engines.openai.request import NO_BUDGET, RequestWriter, refuse_thinking_budget
from pixano_vlm.engines.openai.samples import ask_for_samples
from pixano_vlm.engines.openai.server import ChatServer, Patience
from pixano_vlm.errors import GenerationError, ModelLoadError, RunError, VLMError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.registry import register_model
from pixano_vlm.models.vlm import Key, VLMInput, VLMOutput

__all__ = ["OpenAIParams", "OpenAIVLMModel"]


PROMPT_LIMIT = "The server knows how long a prompt may be, and refuses a longer one."

Answered = tuple[Any, VLMOutput | VLMError | RunError]


@register_model
class OpenAIVLMModel(EngineModel):
    """A model behind a server, asked over HTTP.

    Args:
        config: `model_params` are those of `OpenAIParams`.
    """

    params_class: ClassVar[type[BaseModel]] = OpenAIParams
    takes_samples = True

    def __init__(self, config: ModelDeploymentConfig) -> None:
        super().__init__(config)
        self.params = read_parameters(config, OpenAIParams)
        self._server: ChatServer | None = None
        self._served_name = self.params.model or ""
        self._writer = RequestWriter(
            send_urls=self.params.send_urls,
            max_image_side=self.params.max_image_side,
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
        name = params.limit_name
        dialect = ServerDialect() if name is None else ServerDialect(name, may_rename=False)
        server = ChatServer(api_address(params.base_url), self._key(), params.concurrency, patience, dialect)
        try:
            server.model = self._served_name = server.submit(
                find_model(server, params.model, check=params.check_model)
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
                f"model {self.model_name!r} takes its key from the environment variable {name}, whose value is not "
                "a key: it holds a space, a line's end, or a character that is not ASCII.",
                hint=f"Set it again, to the key alone: export {name}=...",
            )
        return key

    def unload(self) -> None:
        """Ends the connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Answers many inputs, `concurrency` at a time; see `VLMModel.stream`."""
        server = self._server
        if server is None:
            raise self._not_loaded()
        refuse_prompt_limit(self, hint=PROMPT_LIMIT)
        source = iter(inputs)
        answers: SimpleQueue[Answered] = server.outcomes()
        under_way: dict[Key, Future[VLMOutput]] = {}
        # As many again as there are threads have their images made ready while the server is busy.
        window = self.params.concurrency + 2 * self.params.prepare_workers
        is_exhausted = False
        with ThreadPoolExecutor(self.params.prepare_workers, thread_name_prefix="images") as pool:
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
        if not server.is_vllm:
            refuse_thinking_budget(input)
        loop = asyncio.get_running_loop()
        request = await loop.run_in_executor(pool, self._writer.write, input, self.limits)
        if (input.n or 1) > 1:
            return await ask_for_samples(server, request, input)
        answer, used = await server.ask(request)
        return read_answer(answer, request, used)

    def cannot_budget_images(self) -> str | None:
        """The server resizes images; see `VLMModel.cannot_budget_images`."""
        return NO_BUDGET

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Properties of the server."""
        return {
            "class": type(self).__name__,
            "server": self.params.base_url if self._server is None else self._server.base_url,
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
