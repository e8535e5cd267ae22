"""What a run would come to, found out without running it: every record prepared, a sample of them timed.

Knows requests and models, as a job does, and writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from pixano_vlm.errors import VLMError
from pixano_vlm.media.images import load_image
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.vlm import VLMInput, VLMModel
from pixano_vlm.prompts.messages import image_sources
from pixano_vlm.records.request import Request
from pixano_vlm.runs.timing import Timing
from pixano_vlm.runs.token_counts import TokenCounts

__all__ = ["RunEstimate", "estimate"]

SHOWN = 20
"""Bad records that are kept to be listed."""
_CHUNK = 64


@dataclass(slots=True)
class RunEstimate:
    """What was found."""

    timing: Timing
    """The sample that was answered."""
    good: int = 0
    bad: int = 0
    problems: list[str] = field(default_factory=list)
    """The first bad records: where each is and what is wrong with it."""
    images: int = 0
    counts: TokenCounts = field(default_factory=TokenCounts)
    """Prompt tokens of every good record."""
    is_counted: bool = True
    """Whether `counts` holds every good record: some models cannot count without answering."""

    @property
    def prompts(self) -> TokenCounts:
        """Prompt tokens of every good record, or of those that were timed."""
        return self.counts if self.is_counted else self.timing.prompts

    @property
    def prompt_tokens(self) -> int:
        """Of the whole run: counted, or estimated from the records that were timed."""
        return self.counts.total if self.is_counted else round(self.timing.prompts.mean * self.good)

    @property
    def completion_tokens(self) -> int:
        """Of the whole run, estimated from the records that were timed."""
        return round(self.timing.answers.mean * self.good)

    @property
    def run_seconds(self) -> float:
        """Generating time of the whole run, estimated."""
        return self.timing.seconds_per_record * self.good

    def refuse(self, request: Request, error: VLMError) -> None:
        """Counts a bad record."""
        self.bad += 1
        if len(self.problems) < SHOWN:
            text = str(error)
            self.problems.append(text if text.startswith(request.where) else f"{request.where}: {text}")


def estimate(
    requests: Iterable[Request],
    model: VLMModel,
    timing: Timing,
    *,
    on_record: Callable[[bool], None] | None = None,
) -> RunEstimate:
    """Prepares every request.

    Args:
        requests: Taken lazily.
        model: Loaded, its limits set.
        timing: A sample of them, answered.
        on_record: Called after each record with whether it is good.
    """
    found, failed = RunEstimate(timing), timing.failed
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="estimate") as pool:
        for request, prepared in _inspected(requests, model, pool):
            # The model may fail on what could be prepared.
            error = prepared if isinstance(prepared, VLMError) else failed.get(request.index)
            if error is not None:
                found.refuse(request, error)
            elif not isinstance(prepared, VLMError):
                tokens, images = prepared
                found.good += 1
                found.images += images
                if tokens is None:
                    found.is_counted = False
                else:
                    found.counts.add(tokens)
            if on_record is not None:
                on_record(error is None)
    return found


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
