"""One server's `/v1/chat/completions`: asks, and asks again where that may help, within limits of time.

The connection is the `openai` package's; its own retries are off, since they know neither a total time nor that a
server which cannot be reached is everybody's trouble and not one record's. Knows no prompt and no image.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, TypeVar

from pixano_vlm.engines.openai.blame import Blame
from pixano_vlm.engines.openai.client import connection_hint, open_client, without_query
from pixano_vlm.engines.openai.concurrency import Gate, Pass
from pixano_vlm.engines.openai.dialect import ServerDialect, other_dialect, refused_settings
from pixano_vlm.engines.openai.failure import Failure, incomplete, read_response, shown
from pixano_vlm.engines.openai.request import ChatRequest, plain_request, plainest_request
from pixano_vlm.errors import RESUME, GenerationError, RunError
from pixano_vlm.extras import import_extra
from pixano_vlm.retry import RetryPolicy

__all__ = ["ChatServer", "Patience"]

Result = TypeVar("Result")

FIRST_WAIT = 0.5
"""Seconds before the second attempt; each further wait is twice as long."""
LONGEST_WAIT = 60.0
"""Seconds that a wait grows to, where the server names none."""
LONGEST_PROBE_WAIT = 5.0
"""Seconds between attempts to reach a server that is away."""
SUSPECT_AFTER = 2
"""A record over which the connection was cut so often is asked alone."""
_WITNESS_ATTEMPTS = 3
_TOO_MANY = (429, 503)
_AWAY = frozenset({429, 503, 504, *range(520, 531)})
"""Statuses of a gateway whose server is away, or of one that loads its model or takes no more for now. Once a record
was answered, they are waited out like an outage where a plain request gets one, too."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, and how often."""

    tries: int
    """Most attempts of one request that reach the server."""
    timeout: float
    """Seconds one attempt may take, from connecting to the answer's last byte."""
    total_timeout: float
    """Seconds one request may take in all, waits between its attempts included, outages not."""
    connect_timeout: float
    """Seconds to connect."""
    outage: float
    """Seconds the server may be out of reach before the run ends."""


@dataclass(slots=True, eq=False)
class Course:
    """One request on its way to an answer."""

    request: ChatRequest
    deadline: float
    downs: int
    """How often the server had gone away when it began."""
    sent: ServerDialect
    """How it was asked the last time."""
    trial: ServerDialect | None = None
    """Another way to ask, which is being tried."""
    failed: int = 0
    """Attempts that reached the server and count."""
    times_away: int = 0
    """How often a gateway's server had been waited for when the first of these failed."""
    was_up: bool = False
    """Whether a plain request was answered before its last attempt."""
    probes: int = 0
    cuts: int = 0
    """How often the connection was cut over it."""
    alone: bool = False
    """Whether it is asked with nothing else under way, after the server was seen to be up."""


class ChatServer:
    """A connection to one server, kept by a thread of its own.

    Args:
        base_url: Address up to `/v1`; a query goes along with every request.
        key: Sent as a bearer token; None where the server wants none.
        concurrency: Most requests under way at a time.
        patience: Limits of time.
        dialect: How it is asked at first.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None,
        concurrency: int,
        patience: Patience,
        dialect: ServerDialect,
    ) -> None:
        self._openai = import_extra("openai", extra="openai", purpose="a model behind a server")
        self.base_url = base_url
        self.model = ""
        """The model's name there."""
        self.is_vllm = False
        """Whether its list of models says that it is vLLM."""
        self.key = key
        self.patience = patience
        self.retry = RetryPolicy(patience.tries, first_wait=FIRST_WAIT, max_wait=LONGEST_WAIT)
        self._probing = RetryPolicy(patience.tries, first_wait=FIRST_WAIT, max_wait=LONGEST_PROBE_WAIT)
        self._dialect = dialect
        self._gate = Gate(concurrency)
        self._blame = Blame()
        self._away_since: float | None = None
        self._downs = 0
        self._cut_alone: set[Course] = set()
        """Requests that had nothing beside them when the server went away."""
        self._not_before = 0.0
        self._asking_whether_up = asyncio.Lock()
        self._times_away = 0
        """How often a gateway's server was waited for."""
        timeout = self._openai.Timeout(patience.timeout, connect=patience.connect_timeout)
        self.client = self._open_client(timeout)
        self._loop = self._start()

    def _open_client(self, timeout: Any) -> Any:
        return open_client(self._openai, self.base_url, self.key, timeout)

    def _start(self) -> asyncio.AbstractEventLoop:
        """The event loop on which everything is asked, and by whose clock; here in a thread of its own."""
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="chat-server", daemon=True)
        self._thread.start()
        return loop

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Starts `work` in the server's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def outcomes(self) -> SimpleQueue[Any]:
        """A queue for what becomes of submitted work; whoever takes from it waits for the server's thread."""
        return SimpleQueue()

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
        await self.client.close()

    def move(self, base_url: str) -> None:
        """Takes another address for the API from now on."""
        self.base_url = base_url
        self.client.base_url = without_query(base_url)

    # --- asking ---

    async def ask(self, request: ChatRequest) -> tuple[dict[str, Any], dict[str, Any]]:
        """The server's answer.

        Returns:
            A chat completion with at least one choice, and the settings that were sent, under this project's names.

        Raises:
            GenerationError: When the server refuses this request, or attempts and time are used up.
            RunError: When it can answer no request any more.
        """
        course = Course(request, self._loop.time() + self.patience.total_timeout, self._downs, self._dialect)
        try:
            while True:
                outcome, ticket = await self._attempt(course)
                if not isinstance(outcome, Failure):
                    self._dialect = course.trial or self._dialect
                    self._blame.answered()
                    self._gate.answered()
                    return outcome, course.sent.used(request)
                if outcome.status in _TOO_MANY:
                    self._gate.too_many(ticket)
                await self._go_on(course, outcome, ticket)
        finally:
            self._cut_alone.discard(course)

    async def _attempt(self, course: Course) -> tuple[dict[str, Any] | Failure, Pass]:
        waited = self._loop.time()
        async with self._gate.enter(alone=course.alone) as ticket:
            course.deadline += self._loop.time() - waited
            await asyncio.sleep(max(0.0, self._not_before - self._loop.time()))
            if course.alone:
                await self._until_up(course)
            ticket.began = self._loop.time()
            left = course.deadline - self._loop.time()
            if left <= 0:
                raise GenerationError(f"no answer within {self.patience.total_timeout:g} s in all.")
            course.sent = course.trial or self._dialect
            outcome = await self._complete(course.request, course.sent, min(left, self.patience.timeout))
        return outcome, ticket

    async def _complete(
        self, request: ChatRequest, dialect: ServerDialect, seconds: float
    ) -> dict[str, Any] | Failure:
        # All settings alike: servers know more of them than the client library has names for.
        body = {"model": self.model, "messages": request.messages, "extra_body": dialect.body(request)}
        answer = await self.call(self.client.chat.completions.with_raw_response.create, body, seconds)
        if isinstance(answer, Failure):
            return answer
        return incomplete(answer, self.key) or answer

    async def _go_on(self, course: Course, failure: Failure, ticket: Pass) -> None:
        """Waits until the request may be tried again; raises where it may not."""
        if failure.kind == "outage":
            course.probes += 1
            await self._sit_out(course, failure)
            return
        course.probes = 0
        if failure.is_html and failure.status == 200 and self._blame.has_answered:
            failure = replace(
                failure, kind="passing"
            )  # the address is right: a proxy has nothing behind it now
        if failure.kind == "account":
            raise RunError(f"{failure.message}.", hint=failure.run_hint)
        if failure.kind == "cut":
            await self._after_cut(course, failure, ticket)
        elif failure.kind == "refused":
            await self._after_refusal(course, failure)
        else:
            await self._after_trouble(course, failure)

    # --- one kind of failure each ---

    async def _after_refusal(self, course: Course, failure: Failure) -> None:
        refused = refused_settings(course.sent, failure, course.request)
        if refused:
            if course.trial is None and course.sent != self._dialect:
                return  # what another request has learned meanwhile may do
            other = other_dialect(course.sent, refused, course.request)
            if other is not None:
                course.trial = other
                return
        hint = failure.hint
        if refused and hint is None:
            names = " and ".join(map(repr, refused))
            hint = f"It is about {names}: leave that out, or give a value that this server takes."
            failure = replace(failure, run_hint=failure.run_hint or hint)
        await self._judge(failure, course)
        raise GenerationError(failure.message if hint is None else f"{failure.message}.", hint=hint)

    async def _after_trouble(self, course: Course, failure: Failure) -> None:
        course.failed += 1
        if course.failed == 1:
            course.times_away = self._times_away
        if self.retry.is_spent(course.failed):
            if self._downs > course.downs and not course.alone:
                # Another record may have brought the server down each time: this one's last attempt is its own.
                course.alone, course.failed = True, course.failed - 1
                return
            if failure.status in _AWAY and self._blame.has_answered and not course.was_up:
                # Its last attempt is after a plain request was answered.
                waited = await self._waited_out(course)
                course.failed, course.was_up = (0, False) if waited else (course.failed - 1, True)
                return
            await self._judge(failure, course)
            times = "" if course.failed == 1 else f" (tried {course.failed} times)"
            raise GenerationError(f"{failure.message}{times}.", hint=failure.hint)
        wait = self.retry.wait(course.failed, failure.wait)
        if self._loop.time() + wait > course.deadline:
            too_late = (
                f"{failure.message}; the next attempt would come {wait:.0f} s later, past the "
                f"{self.patience.total_timeout:g} s that one record may take"
            )
            if failure.wait is not None:  # it is the server's word, which the next record would get as well
                self._blame.refused_for_now(replace(failure, message=too_late))
            raise GenerationError(f"{too_late}.")
        if failure.wait is not None:  # the server's word is meant for all, not for this request alone
            self._not_before = max(self._not_before, self._loop.time() + wait)
        else:
            await asyncio.sleep(wait)

    async def _waited_out(self, course: Course) -> bool:
        """Waits until a plain request is answered; says whether one has failed alike since this one first did."""
        probes = 0
        async with self._asking_whether_up:  # of all that fail so one asks
            while self._loop.time() < course.deadline:
                seen = await self._complete(plain_request(course.request), course.sent, self.patience.timeout)
                if not isinstance(seen, Failure) or (seen.kind != "outage" and seen.status not in _AWAY):
                    self._away_since = None
                    break
                probes += 1
                await self._wait_out(course, seen, probes)
            self._times_away += probes > 0
        return self._times_away > course.times_away

    async def _after_cut(self, course: Course, failure: Failure, ticket: Pass) -> None:
        """A server that went away over several requests was brought down by one of them: which, is found out."""
        course.cuts += 1
        self._downs += 1
        if course.alone:  # it was up, and nothing else was under way
            raise _brought_down(failure, course)
        if not ticket.in_company:
            self._cut_alone.add(course)
        # A gateway that says "bad gateway" has other reasons, too.
        course.alone = course.cuts >= SUSPECT_AFTER + (failure.status is not None)
        began = self._loop.time()
        await asyncio.sleep(self.retry.wait(course.cuts, failure.wait))
        course.deadline += self._loop.time() - began

    async def _until_up(self, course: Course) -> None:
        """Waits until a plain request is answered, or refused: before that, nothing is this record's fault."""
        began = self._loop.time()
        probes = 0
        while self._loop.time() - began < self.patience.outage:
            seen = await self._complete(plain_request(course.request), course.sent, self.patience.timeout)
            if not isinstance(seen, Failure) or seen.kind in ("refused", "account"):
                break
            probes += 1
            await self._wait_out(course, seen, probes)
        course.deadline += self._loop.time() - began

    async def _sit_out(self, course: Course, failure: Failure) -> None:
        if course.probes == 1 and self._away_since is None:
            self._downs += 1
        began = self._loop.time()
        await self._wait_out(course, failure, course.probes)
        course.deadline += self._loop.time() - began

    async def _wait_out(self, course: Course, failure: Failure, probes: int) -> None:
        """Waits for a server that is away, until the run has waited long enough."""
        now = self._loop.time()
        self._away_since = self._away_since or now
        away = now - self._away_since
        if away < self.patience.outage:
            wait = self._probing.wait(probes, failure.wait)
            await asyncio.sleep(min(wait, self.patience.outage - away + 0.01))
            return
        if (
            course in self._cut_alone
        ):  # else every --resume would ask it first, and bring the server down again
            raise _brought_down(failure, course)
        while self._cut_alone:  # such a record is answered before the run ends
            await asyncio.sleep(FIRST_WAIT / 10)
        raise RunError(
            f"{failure.message}, for {away:.0f} s now.",
            hint=f"Start the server again. {RESUME} Where it goes down over one "
            "image, `concurrency: 1` in the model's config finds out which.",
        )

    async def _judge(self, failure: Failure, course: Course) -> None:
        plain, plainest = plain_request(course.request), plainest_request(course.request)
        await self._blame.judge(
            failure,
            lambda: self._witness(plain, course.sent),
            None if plainest == plain else lambda: self._witness(plainest, course.sent),
        )

    async def _witness(self, request: ChatRequest, dialect: ServerDialect) -> Failure | None:
        """Of `Blame`: why a request that nothing can be wrong with fails, None where it is answered."""
        for attempt in range(1, _WITNESS_ATTEMPTS + 1):
            seen = await self._complete(request, dialect, self.patience.timeout)
            if not isinstance(seen, Failure):
                return None
            if seen.kind == "refused" or attempt == _WITNESS_ATTEMPTS:
                return seen
            await asyncio.sleep(min(self._probing.wait(attempt, seen.wait), LONGEST_WAIT))
        return None

    # --- one call ---

    async def call(self, endpoint: Any, arguments: dict[str, Any], seconds: float) -> Any:
        """The JSON that one endpoint of the client answers with, or the `Failure` that says why there is none."""
        try:
            # The client's own time limit starts again with every byte; this one does not.
            response = await asyncio.wait_for(endpoint(**arguments), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            return Failure("passing", f"the server gave no answer within {seconds:.3g} s", words="no answer")
        except self._openai.OpenAIError as error:
            return self._diagnose(error, seconds)
        return self._read(response.http_response)

    def _read(self, response: Any) -> Any:
        answer = read_response(response.status_code, response.headers, _text(response), key=self.key)
        if not isinstance(answer, Failure) or (answer.kind != "cut" and answer.status not in _AWAY):
            self._away_since = None
        return answer

    def _diagnose(self, error: Exception, seconds: float) -> Failure:
        if isinstance(error, self._openai.APIConnectionError):
            cause = type(error.__cause__).__name__
            if cause in ("ConnectError", "ConnectTimeout", "ProxyError"):
                reason = shown(str(error.__cause__), self.key) or "no connection in time"
                message = f"the server at {self.base_url} cannot be reached: {reason}"
                return Failure("outage", message, run_hint=connection_hint(self.base_url, reason))
            if isinstance(error, self._openai.APITimeoutError):
                return Failure(
                    "passing", f"the server gave no answer within {seconds:.3g} s", words="no answer"
                )
            reason = shown(str(error.__cause__ or error), self.key)
            if cause == "DecodingError":
                return Failure("passing", f"the server's answer cannot be unpacked: {reason}", words=cause)
            return Failure("cut", f"the server cut the connection: {reason}", words="cut")
        if isinstance(error, self._openai.APIStatusError):
            failure: Failure = self._read(error.response)
            return failure
        return Failure("passing", f"the server's answer cannot be read: {shown(str(error), self.key)}")


def _brought_down(failure: Failure, course: Course) -> GenerationError:
    times = "" if course.cuts == 1 else f" {course.cuts} times"
    return GenerationError(
        f"{failure.message}: the server went away{times} over this record, the last time with nothing else under "
        "way.",
        hint="The server's own log may say why. `max_image_side` makes an image smaller that is too large for it.",
    )


def _text(response: Any) -> str:
    """JSON is UTF-8, whatever its header says."""
    try:
        return str(response.content.decode("utf-8"))
    except UnicodeDecodeError:
        return str(response.text)
