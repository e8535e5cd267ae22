"""One server's `/v1/chat/completions`: asks, and asks again where that may help, within limits of time.

The protocol is the `openai` package's; its own retries are off, since they know neither a total time nor that a
server which cannot be reached is everybody's trouble and not one record's. Knows no prompt and no picture.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pixano_vlm.engines.openai.request import ChatRequest
from pixano_vlm.errors import GenerationError, ModelLoadError, PixanoVLMError, RunError
from pixano_vlm.extras import import_extra
from pixano_vlm.nearest import nearest

__all__ = ["ChatServer", "Patience"]

Result = TypeVar("Result")

FIRST_WAIT = 0.5
"""Seconds before the second try; each further wait is twice as long."""
LONGEST_WAIT = 60.0
"""Seconds that a wait grows to, where the server names none."""
LONGEST_PROBE_WAIT = 5.0
"""Seconds between tries to reach a server that is away."""
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, and how often."""

    tries: int
    """Most tries of one request that reach the server."""
    timeout: float
    """Seconds one try may take, from connecting to the answer's last byte."""
    total_timeout: float
    """Seconds one request may take in all, waits between its tries included, outages not."""
    connect_timeout: float
    """Seconds to connect."""
    outage: float
    """Seconds the server may be out of reach before the run ends."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why one try failed, and what follows from it."""

    scope: Literal["try", "request", "outage", "run"]
    """`try`: another may do; `request`: this one never will; `outage`: nobody is there; `run`: none ever will."""
    message: str
    wait: float | None = None
    """Seconds that the server asks to wait."""
    hint: str | None = None


class ChatServer:
    """A connection to one server, kept by a thread of its own.

    Args:
        base_url: Address up to `/v1`.
        key: Sent as a bearer token; None where the server wants none.
        concurrency: Most requests under way at a time.
        patience: Limits of time.
    """

    def __init__(self, base_url: str, key: str | None, concurrency: int, patience: Patience) -> None:
        self._openai = import_extra("openai", extra="openai", purpose="a model behind a server")
        self.base_url = base_url
        self._key = key
        self._patience = patience
        self._away_since: float | None = None
        self._not_before = 0.0
        self._client = self._openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=base_url,
            max_retries=0,
            timeout=self._openai.Timeout(patience.timeout, connect=patience.connect_timeout),
        )
        if (
            key is None
        ):  # a server that wants no key is not told whose others are: the client has that from OPENAI_*
            self._client.organization = self._client.project = None
        self._slots = asyncio.Semaphore(concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chat-server", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Starts `work` in the server's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Ends the connection and its thread; what is under way is dropped."""
        if self._thread.is_alive():
            self.submit(self._end()).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    # --- asking ---

    async def ask(self, model: str, request: ChatRequest) -> Any:
        """The server's answer, a `ChatCompletion` with at least one choice.

        Raises:
            GenerationError: When the server refuses this request, or tries and time are used up.
            RunError: When it can answer no request any more.
        """
        body = {
            "model": model,
            "messages": request.messages,
            # All settings alike: servers know more of them than the client library has names for.
            "extra_body": request.settings,
        }
        async with self._slots:
            answer = await self._try(self._client.chat.completions.create, body, self._patience.tries)
        return answer

    async def _try(self, call: Any, body: dict[str, Any], tries: int) -> Any:
        patience = self._patience
        deadline = time.monotonic() + patience.total_timeout
        failed = probes = 0
        while True:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            left = deadline - time.monotonic()
            if left <= 0:
                raise GenerationError(f"no answer within {patience.total_timeout:g} s in all.")
            trouble = await self._try_once(call, body, min(left, patience.timeout))
            if not isinstance(trouble, Trouble):
                return trouble
            if trouble.scope == "run":
                raise RunError(trouble.message, hint=trouble.hint)
            if trouble.scope == "request":
                raise GenerationError(trouble.message, hint=trouble.hint)
            if trouble.scope == "outage":
                probes += 1
                began = time.monotonic()
                await self._wait_out(trouble, probes)
                deadline += time.monotonic() - began
                continue
            probes = 0
            failed += 1
            if failed >= tries:
                times = "" if failed == 1 else f" (tried {failed} times)"
                raise GenerationError(f"{trouble.message}{times}.", hint=trouble.hint)
            wait = trouble.wait if trouble.wait is not None else _growing(failed, LONGEST_WAIT)
            if time.monotonic() + wait > deadline:
                raise GenerationError(
                    f"{trouble.message}; the next try would come {wait:.0f} s later, past the "
                    f"{patience.total_timeout:g} s that one record may take."
                )
            if trouble.wait is not None:  # the server's word is meant for all, not for this request alone
                self._not_before = max(self._not_before, time.monotonic() + wait)
            else:
                await asyncio.sleep(wait)

    async def _try_once(self, call: Any, body: dict[str, Any], seconds: float) -> Any:
        """The answer, or a `Trouble`."""
        try:
            # The client's own time limit starts anew with every byte; this one does not.
            answer = await asyncio.wait_for(call(**body), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            return Trouble("try", f"the server gave no answer within {seconds:.3g} s")
        except self._openai.OpenAIError as error:
            return self._diagnose(error, seconds)
        except (json.JSONDecodeError, UnicodeDecodeError):
            answer = None
        self._away_since = None
        if not getattr(answer, "choices", None) and not getattr(answer, "data", None):
            return Trouble("try", f"what the server at {self.base_url} answered is no chat completion")
        return answer

    async def _wait_out(self, trouble: Trouble, probes: int) -> None:
        now = time.monotonic()
        self._away_since = self._away_since or now
        away = now - self._away_since
        if away >= self._patience.outage:
            raise RunError(
                f"{trouble.message}, for {away:.0f} s now.",
                hint="Start the server again, and go on with the same command and --resume.",
            )
        await asyncio.sleep(min(_growing(probes, LONGEST_PROBE_WAIT), self._patience.outage - away + 0.01))

    # --- what went wrong ---

    def _diagnose(self, error: Exception, seconds: float) -> Trouble:
        if isinstance(error, self._openai.APIConnectionError):
            cause = type(error.__cause__).__name__
            if cause in ("ConnectError", "ConnectTimeout"):
                reason = str(error.__cause__) or "no connection in time"
                return Trouble("outage", f"the server at {self.base_url} cannot be reached: {reason}")
            self._away_since = None
            if isinstance(error, self._openai.APITimeoutError):
                return Trouble("try", f"the server gave no answer within {seconds:.3g} s")
            return Trouble("try", f"the server cut the connection: {error.__cause__ or error}")
        self._away_since = None
        if not isinstance(error, self._openai.APIStatusError):
            return Trouble("try", f"the server's answer cannot be read: {self._shown(str(error))}")
        status: int = error.status_code
        said = f"the server answered {status}: {self._shown(_server_text(error))}"
        if status in (401, 403):
            hint = (
                "Name the environment variable that holds a valid key: `api_key_env` in the model's config."
            )
            return Trouble("run", said, hint=hint)
        if status == 404:
            return Trouble("run", said, hint="Check `base_url` and `model` in the model's config.")
        if status == 429 and error.code == "insufficient_quota":  # waiting does not fill an account
            return Trouble(
                "run", said, hint="Fill the account, and go on with the same command and --resume."
            )
        if status in (408, 409, 425, 429) or (status >= 500 and status != 501):
            return Trouble("try", said, wait=retry_after(error.response.headers))
        return Trouble("request", said)

    def _shown(self, text: str) -> str:
        """Server's words for people: one line, not too long, and never the key that some of them repeat."""
        text = " ".join(text.split())
        if self._key:
            text = text.replace(self._key, "***")
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

    # --- the model's name ---

    async def find_model(self, wanted: str | None, *, check: bool) -> str:
        """The model's name at the server: `wanted`, or the only one that the server lists.

        Raises:
            ModelLoadError: When the server is not there, or has no such model; says what to do.
        """
        if wanted is not None and not check:
            return wanted
        try:
            listed = await self._list_models()
        except PixanoVLMError as error:
            raise ModelLoadError(error.message, hint=error.hint) from error
        if wanted is None and len(listed) == 1:
            return listed[0]
        names = ", ".join(listed[:20]) or "none"
        if wanted is None:
            raise ModelLoadError(
                f"the server at {self.base_url} lists {len(listed)} models: {names}.",
                hint="Name one: `model` in the model's config.",
            )
        if wanted not in listed:
            close = nearest(wanted, listed)
            raise ModelLoadError(
                f"the server at {self.base_url} lists no model {wanted!r}; it lists: {names}.",
                hint=(f"Did you mean {close[0]!r}? " if close else "")
                + "A server that loads models which it does not list: check_model: false.",
            )
        return wanted

    async def _list_models(self) -> list[str]:
        seconds = min(self._patience.timeout, 30.0)
        until = time.monotonic() + self._patience.outage
        failed = 0
        while True:
            answer = await self._try_once(self._client.models.list, {}, seconds)
            if not isinstance(answer, Trouble):
                return [model.id for model in answer.data]
            if answer.scope == "outage":
                raise ModelLoadError(
                    f"{answer.message}.",
                    hint="Start the server, or correct `base_url` in the model's config.",
                )
            failed += 1
            wait = answer.wait if answer.wait is not None else _growing(failed, LONGEST_PROBE_WAIT)
            # A server that loads its weights says 503 for a while.
            if answer.scope != "try" or time.monotonic() + wait > until or failed >= self._patience.tries:
                hint = answer.hint or "See the server's own log. With check_model: false it is not asked."
                raise ModelLoadError(f"{answer.message}.", hint=hint)
            await asyncio.sleep(wait)


def _growing(failed: int, longest: float) -> float:
    # Spread, so that requests that failed together do not come back together.
    return min(longest, FIRST_WAIT * 2.0 ** min(failed - 1, 20)) * random.uniform(0.75, 1.25)


def _server_text(error: Any) -> str:
    body = error.body
    if isinstance(body, Mapping) and isinstance(body.get("message"), str):
        return str(body["message"])
    return str(error.response.text) or str(error.response.reason_phrase)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a `Retry-After` header asks to wait: RFC 9110, 10.2.3, a number or a date. None: no word."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if float(value) < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
