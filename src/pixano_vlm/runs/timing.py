"""How long a run would take, from a sample that is answered and timed. Knows requests and models; writes nothing.

The sample is blocks of consecutive records, because a run shares what neighbours have in common (an image, the
beginning of a prompt), and is answered before anything else has opened its images. So what is timed holds all that a
record costs: reading and decoding its image, encoding it, its prompt and its answer, several records at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from pixano_vlm.errors import VLMError
from pixano_vlm.models.samples import answers_of
from pixano_vlm.models.vlm import VLMInput, VLMModel
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result
from pixano_vlm.runs.token_counts import TokenCounts

__all__ = ["Timing", "time_sample"]

BLOCKS, BLOCK = 6, 32
"""Blocks of the sample, and records of each: enough for a batch to be filled and refilled."""
FEW = 16
"""Records of the sample where even a few take long, and fewest answers that are waited for."""
FIRST = 4
"""Records that are answered beforehand, to see whether a few take long. They are not in the sample."""
LONG_SECONDS = 20.0
"""What is long, for those."""
BUDGET_SECONDS = 30.0
"""After this time no more of the sample is answered."""


@dataclass(slots=True)
class Timing:
    """What the sample came to."""

    results: list[Result] = field(default_factory=list)
    """Answers and errors."""
    seconds: float = 0.0
    """Wall time of the sample."""
    started: int = 0
    """Records of the sample that the model took."""
    answers: TokenCounts = field(default_factory=TokenCounts)
    """Generated tokens."""
    prompts: TokenCounts = field(default_factory=TokenCounts)
    """Prompt tokens of the records that were answered."""

    @property
    def seconds_per_record(self) -> float:
        """Wall time that one record takes of a long run."""
        done = len(self.results)
        # What was under way when the time was up is half done, on the average.
        done_and_half = done + min(self.started - done, done) / 2
        return self.seconds / done_and_half if done_and_half else 0.0

    @property
    def failed(self) -> dict[int, VLMError]:
        """Place of a record -> why the model could not answer it."""
        return {result.request.index: result.error for result in self.results if result.error is not None}

    def add(self, request: Request, answer: object) -> None:
        """Notes one answer."""
        if isinstance(answer, VLMError):
            self.results.append(Result(request, error=answer))
            return
        result = Result(request, output=answer)  # type: ignore[arg-type]  # a model answers with one of the two
        self.results.append(result)
        if result.output is not None:
            self.answers.add(result.output.usage.completion_tokens)
            self.prompts.add(result.output.usage.prompt_tokens)


def time_sample(requests: Callable[[], Iterable[Request]], count: int | None, model: VLMModel) -> Timing:
    """Answers a sample of a run's records and times it.

    Args:
        requests: The run's records, from the start at each call.
        count: How many there are; None: they are counted first.
        model: Loaded, its limits set.

    Raises:
        RunError: When the model can answer nothing.
    """
    if count is None:
        count = sum(1 for _ in requests())
    sample = [request for request in _blocks(requests(), count) if request.input is not None]
    if len(sample) <= BLOCK:
        return _time(sample, model)
    first = sample[:FIRST]
    beforehand = _time(first, model)
    rest = sample[FIRST:]
    timing = _time(_spread(rest, FEW) if beforehand.seconds > LONG_SECONDS else rest, model)
    per_record = timing.seconds_per_record
    for result in beforehand.results:
        timing.add(result.request, result.output or result.error)
        timing.started += 1
        timing.seconds += per_record
    return timing


def _blocks(requests: Iterable[Request], count: int) -> Iterator[Request]:
    """All requests where these are few, else blocks of neighbours, evenly spread."""
    if count <= BLOCKS * BLOCK:
        yield from requests
        return
    starts = [place * (count - BLOCK) // (BLOCKS - 1) for place in range(BLOCKS)]
    for place, request in enumerate(requests):
        if any(start <= place < start + BLOCK for start in starts):
            yield request


def _spread(requests: list[Request], count: int) -> list[Request]:
    step = max(len(requests) // count, 1)
    return list(islice(requests[::step], count))


def _time(sample: list[Request], model: VLMModel) -> Timing:
    timing = Timing()

    def taken() -> Iterator[tuple[int, VLMInput]]:
        for place, request in enumerate(sample):
            if request.input is not None:
                timing.started += 1
                yield place, request.input

    began = time.monotonic()
    answers = answers_of(model, taken())
    for place, answer in answers:
        timing.add(sample[place], answer)
        timing.seconds = time.monotonic() - began
        if timing.seconds > BUDGET_SECONDS and len(timing.results) >= FEW:
            break
    if hasattr(answers, "close"):
        answers.close()
    return timing
