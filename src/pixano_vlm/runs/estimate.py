"""What a run would come to, found out without running it: every record prepared, a few of them answered.

Knows requests and models, as a job does, and writes nothing.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from pixano_vlm.errors import PixanoVLMError, VLMError
from pixano_vlm.media.images import load_image
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.vlm import VLMInput, VLMModel
from pixano_vlm.prompts.messages import image_sources
from pixano_vlm.records.request import Request
from pixano_vlm.runs.token_counts import TokenCounts

__all__ = ["Estimate", "estimate"]

SAMPLE = 16
"""Records that are answered and timed, drawn evenly from all good ones."""
SHOWN = 20
"""Bad records that are kept to be listed."""
_CHUNK = 64


@dataclass(slots=True)
class Estimate:
    """What was found."""

    good: int = 0
    bad: int = 0
    problems: list[str] = field(default_factory=list)
    """The first bad records: where each stands and what is wrong with it."""
    images: int = 0
    prompts: TokenCounts = field(default_factory=TokenCounts)
    """Prompt tokens of every good record, or, of models that cannot count without answering, of those timed."""
    counted: bool = True
    """Whether `prompts` holds every good record."""
    answers: TokenCounts = field(default_factory=TokenCounts)
    """Generated tokens of the records that were timed."""
    seconds: float = 0.0
    """Wall time of answering those, together."""

    @property
    def prompt_tokens(self) -> int:
        """Of the whole run: counted, or estimated from the records that were timed."""
        return self.prompts.total if self.counted else round(self.prompts.mean * self.good)

    @property
    def completion_tokens(self) -> int:
        """Of the whole run, estimated from the records that were timed."""
        return round(self.answers.mean * self.good)

    @property
    def run_seconds(self) -> float:
        """Generating time of the whole run, estimated: a full batch is quicker than these few records."""
        return self.seconds / len(self.answers) * self.good if len(self.answers) else 0.0

    def refuse(self, request: Request, error: VLMError) -> None:
        """Counts a bad record."""
        self.bad += 1
        if len(self.problems) < SHOWN:
            text = str(error)
            self.problems.append(text if text.startswith(request.where) else f"{request.where}: {text}")


def estimate(
    requests: Iterable[Request], model: VLMModel, *, on_record: Callable[[bool], None] | None = None
) -> Estimate:
    """Prepares every request and answers a few.

    Args:
        requests: Taken lazily.
        model: Loaded, its limits set.
        on_record: Called after each record with whether it is good.

    Raises:
        RunError: When the model can answer nothing.
    """
    trial, sample = Estimate(), _Sample()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="trial") as pool:
        for request, found in _inspected(requests, model, pool):
            if isinstance(found, VLMError):
                trial.refuse(request, found)
            else:
                trial.good += 1
                trial.images += found[1]
                if found[0] is None:
                    trial.counted = False
                else:
                    trial.prompts.add(found[0])
                sample.offer(request)
            if on_record is not None:
                on_record(not isinstance(found, VLMError))
    _time(trial, sample.kept, model)
    return trial


Found = tuple[int | None, int] | VLMError
"""A record's prompt tokens and its images, or what is wrong with it."""


def _inspected(
    requests: Iterable[Request], model: VLMModel, pool: ThreadPoolExecutor
) -> Iterator[tuple[Request, Found]]:
    waiting = iter(requests)
    while chunk := list(islice(waiting, _CHUNK)):
        yield from zip(chunk, pool.map(lambda request: _inspect(request, model), chunk), strict=True)


def _inspect(request: Request, model: VLMModel) -> Found:
    if request.input is None:
        return request.error or VLMError("the record cannot be used.")
    try:
        images = _pictures(request.input)
        tokens = model.count_tokens(request.input)
        if tokens is None:  # the model has not opened them
            for image in images:
                load_image(image, model.limits)
    except VLMError as error:
        return error
    # A model class is someone else's code: whatever it raises on one input is that record's trouble.
    except Exception as error:
        return VLMError(f"preparing failed: {type(error).__name__}: {error}.")
    return tokens, len(images)


def _pictures(input: VLMInput) -> list[ImageSource]:
    listed = list(input.images or ())
    return [*listed, *(image_sources(input.prompt) if isinstance(input.prompt, list) else ())]


class _Sample:
    """A few of many, each as likely as any other, the same each time."""

    def __init__(self) -> None:
        self.kept: list[Request] = []
        self._seen = 0
        self._random = random.Random(0)

    def offer(self, request: Request) -> None:
        self._seen += 1
        if len(self.kept) < SAMPLE:
            self.kept.append(request)
        elif (place := self._random.randrange(self._seen)) < SAMPLE:
            self.kept[place] = request


def _time(trial: Estimate, sample: list[Request], model: VLMModel) -> None:
    inputs = [(index, request.input) for index, request in enumerate(sample) if request.input is not None]
    began = time.monotonic()
    for index, answer in model.stream(inputs):
        if isinstance(answer, PixanoVLMError):
            trial.good -= 1
            trial.refuse(sample[index], answer)
            continue
        trial.answers.add(answer.usage.completion_tokens)
        if not trial.counted:
            trial.prompts.add(answer.usage.prompt_tokens)
    trial.seconds = time.monotonic() - began
