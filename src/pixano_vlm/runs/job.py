"""Requests through a model into a sink, one result at a time. Draws nothing and knows no file format."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import chain
from typing import cast

from pixano_vlm.clock import CLOCK, Clock
from pixano_vlm.errors import GenerationError, PixanoVLMError, RunError, VLMError
from pixano_vlm.models.deferred import Deferred
from pixano_vlm.models.fault import raised
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.samples import answers_of
from pixano_vlm.models.vlm import VLMInput, VLMModel, VLMOutput
from pixano_vlm.outputs.sink import Sink
from pixano_vlm.records.calibration import Calibration
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result
from pixano_vlm.runs.answered import AnswerRules, result_of
from pixano_vlm.runs.flags import other_settings
from pixano_vlm.runs.regions import RegionReader
from pixano_vlm.runs.remaining import Remaining
from pixano_vlm.runs.summary import Summary

__all__ = ["Job"]

Asked = tuple[int, VLMInput | Deferred]

GRACE_SECONDS = 10.0
"""After a stop was asked for, how long what is in flight may still take."""

WAITING = 1_000
"""Most results that were written and wait to be taken: while there are more, nothing further is started."""


class Job:
    """Answers what remains of a manifest. Iterating yields each result after it was written.

    Args:
        remaining: The requests, taken lazily. One that carries an error goes straight to the sink.
        model: Loaded already, or a function that loads it, called when the first request needs it.
        sink: An opened one; it stays open.
        stop: Once set, nothing more is started, and what is in flight may finish.
        grace: For how many seconds after `stop` it may; what takes longer is left for another run.
        retry_flagged: Ask once more, with other settings, where the answer is flagged; the answer with fewer
            flags counts.
        least_confidence: Flag answers of less; see `flags_of`.
        calibration: Applied to each confidence.
        clock: The time.
    """

    def __init__(
        self, remaining: Remaining, model: VLMModel | Callable[[], VLMModel], sink: Sink, *,
        stop: threading.Event | None = None, grace: float = GRACE_SECONDS, retry_flagged: bool = False,
        least_confidence: float | None = None,
        calibration: Calibration | None = None, clock: Clock = CLOCK,
    ) -> None:  # fmt: skip
        self.summary = Summary(reused=remaining.reused, reused_failed=remaining.reused_failed)
        self._remaining, self._requests, self._sink = remaining, iter(remaining), sink
        self._model, self._clock = model, clock
        self._stop, self._grace = stop or threading.Event(), grace
        self._in_flight: dict[int, Request] = {}
        self._retry_flagged = retry_flagged
        self._rules = AnswerRules(None, least_confidence, calibration)
        self._again: deque[tuple[Result, VLMInput]] = deque()
        """Flagged answers, and what to ask next."""
        self._flagged: dict[int, Result] = {}
        """First answers of those that are being asked again."""
        self._written: deque[Result] = deque()
        """Results that nobody has taken yet."""
        self._read_all = False
        self._is_writable = True
        self._most_new_tokens = Limits().max_new_tokens
        self._answers_with = "the model answered with"
        """How the error of an answer that is none begins."""
        self._failure: BaseException | None = None
        self._writing = threading.Lock()

    def __iter__(self) -> Iterator[Result]:
        """The results, in whatever order suits the model.

        Raises:
            ModelLoadError: When the model cannot be loaded; errors of lines before that are written.
            RunError: When the model or the disk fails; every result so far is written, and in-flight requests are
                left for another run.
        """
        started = self._clock.now()
        complete = False
        try:
            yield from self._results()
            complete = self._read_all and not self._in_flight
            self.summary.interrupted = self._stop.is_set() and not complete
        finally:
            summary, remaining = self.summary, self._remaining
            summary.seconds = self._clock.now() - started
            summary.reused, summary.reused_failed = remaining.reused, remaining.reused_failed
            self._sink.finish(complete=complete)
            summary.sidecars_written = self._sink.sidecars_written

    def run(self, on_result: Callable[[Result], None] | None = None) -> Summary:
        """Takes every result; see `__iter__`."""
        for result in self:
            if on_result is not None:
                on_result(result)
        return self.summary

    def _results(self) -> Iterator[Result]:
        try:
            first = yield from self._first()
            if first is not None:
                loaded = self._model if isinstance(self._model, VLMModel) else self._model()
                self._most_new_tokens = loaded.limits.max_new_tokens
                self._answers_with = f"{type(loaded).__name__}.stream answered with"
                self._rules = replace(self._rules, regions=RegionReader(loaded, loaded.limits))
                ready = self._clock.now()
                try:
                    yield from self._through(loaded, first)
                finally:
                    if self._is_writable:
                        self._finish_flagged()
                    self.summary.generating_seconds = self._clock.now() - ready
            self._raise_failure()
        except KeyboardInterrupt:
            self._stop.set()
        yield from self._taken()

    def _first(self) -> Generator[Result, None, Asked | None]:
        """Yields what is written meanwhile, and returns the next request that needs the model."""
        while True:
            first = next(self._admitted(), None)
            yield from self._taken()
            if first is not None or self._read_all or self._stop.is_set() or self._failure or self._sink.full:
                return first

    def _taken(self) -> Iterator[Result]:
        while self._written:
            yield self._written.popleft()

    def _through(self, model: VLMModel, first: Asked | None) -> Iterator[Result]:
        while first is not None:
            # It was admitted before the model was there.
            refused = self._refusal(self._in_flight[first[0]].input)
            if refused is not None:
                self._finish(Result(self._in_flight.pop(first[0]), error=refused))
                first = yield from self._first()
                continue
            yield from self._stream(model, chain([first], self._admitted()))
            # Admission ends early when too many results wait for a slow one; by now that one is done.
            first = None if self._stop.is_set() or self._failure else (yield from self._first())

    def _stream(self, model: VLMModel, inputs: Iterator[Asked]) -> Iterator[Result]:
        deadline = None
        # Only a model that takes deferred requests is given any.
        answers = answers_of(model, cast(Iterator[tuple[int, VLMInput]], inputs))
        try:
            for key, answer in answers:
                request = self._in_flight.pop(key, None)
                if request is not None:  # an answer nobody waits for is a second one, and the first counts
                    self._answered(request, answer)
                while self._written:  # as _taken, without another generator for each
                    yield self._written.popleft()
                if self._stop.is_set():
                    deadline = deadline or self._clock.now() + self._grace
                    if self._clock.now() > deadline:
                        return
        except PixanoVLMError:
            self._raise_failure()
            raise
        except Exception as error:  # a model class is someone else's code
            self._raise_failure()
            raise RunError(
                f"{type(model).__name__}.stream failed: {raised(error, type(model))}. "
                f"{len(self._in_flight)} records were in flight; every result before is safe.",
                hint="Resume it: the same command with --resume.",
            ) from error
        finally:
            if hasattr(answers, "close"):
                answers.close()
        self._raise_failure()
        if not self._stop.is_set():
            for request in list(self._in_flight.values()):
                del self._in_flight[request.index]
                self._answered(
                    request, GenerationError(f"{type(model).__name__} ended without answering this.")
                )

    def _admitted(self) -> Iterator[Asked]:
        """Requests for the model. A failure here must not look like one of the model that asks for them."""
        try:
            while not self._stop.is_set() and not self._sink.full and len(self._written) < WAITING:
                if self._again:
                    flagged, input = self._again.popleft()
                    index = flagged.request.index
                    self._flagged[index], self._in_flight[index] = flagged, flagged.request
                    yield index, input
                    continue
                request = next(self._requests, None)
                if request is None:
                    self._read_all = True
                    return
                asked = request.deferred or request.input
                if asked is None:
                    self._finish(Result(request, error=request.error))
                    continue
                if (refused := self._refusal(request.input)) is not None:
                    self._finish(Result(request, error=refused))
                    continue
                self._in_flight[request.index] = request
                yield request.index, asked
        except Exception as error:
            self._failure = error

    def _refusal(self, input: VLMInput | None) -> VLMError | None:
        regions = self._rules.regions
        return None if regions is None or input is None else regions.refusal(input)

    def _result_of(self, request: Request, answer: VLMOutput | VLMError) -> Result:
        return result_of(request, answer, self._answers_with, self._rules)

    def _answered(self, request: Request, answer: VLMOutput | VLMError | Result) -> None:
        """Writes a record's answer, unless it is to be asked once more.

        A deferred request's is a result already, unless nobody came to read it.
        """
        result = answer if isinstance(answer, Result) else self._result_of(request, answer)
        if request.deferred is not None:
            for settled in self._remaining.settle(result):
                self._finish(settled)
            return
        first = self._flagged.pop(request.index, None)
        if first is not None:
            better = result if result.ok and len(result.flags) < len(first.flags) else first
            self._finish(replace(better, attempts=2))
            return
        if self._retry_flagged and result.flags and request.input is not None and not self._stop.is_set():
            input = other_settings(request.input, result.flags, self._most_new_tokens)
            if input is not None:
                self._again.append((result, input))
                return
        self._finish(result)

    def _finish_flagged(self) -> None:
        """A run that is stopped writes the answers that it would have asked for once more."""
        for result, _ in self._again:
            self._finish(result)
        self._again.clear()
        for index, result in list(self._flagged.items()):
            del self._flagged[index]
            self._in_flight.pop(index, None)
            self._finish(result)

    def _finish(self, result: Result) -> None:
        with self._writing:
            try:
                written = self._sink.write(result)
            except BaseException:
                self._is_writable = False
                raise
            self.summary.add(written)
            self._written.append(written)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
