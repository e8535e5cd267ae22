"""Several samples of one record: the seed of each, and the vote among them. Knows no engine.

Sample 0 is drawn with the record's own seed, and sample i with 63 bits of BLAKE2b over `<seed> <i>`, so that samples
of records with neighbouring seeds have nothing in common. The answer is what most samples say: the same value of
`parsed` where there is one, else the same text by the rules of `normalise.words`. Of answers that equally many
samples give, the one whose samples the model found likelier, by the sum of their `confidence`, wins; else the first.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple, cast

from pixano_vlm.errors import PromptError, VLMError
from pixano_vlm.models.normalise import words
from pixano_vlm.models.vlm import Key, Sample, UsageInfo, VLMInput, VLMModel, VLMOutput

__all__ = [
    "SampleCollector", "SampleKey", "answers_of", "ballot", "check_samples", "in_samples", "sample_inputs",
    "sample_of", "sample_seed", "vote",
]  # fmt: skip

Answer = tuple[Hashable, VLMOutput | VLMError]


class SampleKey(NamedTuple):
    """Stands for one sample of a record while it is answered."""

    key: Hashable
    """The record's."""
    place: int
    """Which of its samples, from 0."""


def sample_seed(seed: int | None, place: int) -> int | None:
    """The seed of a record's sample; None where the record has none.

    Args:
        seed: The record's.
        place: Which sample, from 0.
    """
    if seed is None or place == 0:
        return seed
    digest = blake2b(f"{seed} {place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def check_samples(input: VLMInput) -> None:
    """Checks that samples of a record can differ.

    Raises:
        PromptError: When several are asked for and it is not sampled.
    """
    if (input.n or 1) == 1:
        return
    if input.choices is not None:
        raise PromptError(
            f"n is {input.n}, and the answer is one of `choices`, whose probabilities are computed and not sampled.",
            hint="Leave n out.",
        )
    if input.temperature == 0:
        raise PromptError(
            f"n is {input.n} at temperature 0, where all samples are the same.",
            hint="Leave n out, or set a temperature above 0, such as 0.7.",
        )


def sample_inputs(input: VLMInput) -> list[VLMInput]:
    """The requests for a record's samples, each for one answer with a seed of its own; itself where it asks for one.

    Raises:
        PromptError: When they could not differ.
    """
    check_samples(input)
    if (input.n or 1) == 1:
        return [input]
    return [sample_of(input, place) for place in range(input.n or 1)]


def sample_of(input: VLMInput, place: int) -> VLMInput:
    """The request for one sample of a record, given by its place from 0."""
    asked = input.model_fields_set - {"n"}
    values = {**dict(input), "n": None, "seed": sample_seed(input.seed, place)}
    return type(input).model_construct(_fields_set=asked, **values)


def vote(input: VLMInput, outputs: list[VLMOutput]) -> VLMOutput:
    """The answer that most of a record's samples give, with all of them beside it.

    Args:
        input: What was asked.
        outputs: One for each sample, in their order; at least one.
    """
    groups: dict[str, list[VLMOutput]] = {}
    for output in outputs:
        groups.setdefault(ballot(output.generated_text, output.parsed), []).append(output)
    # The first of equal ones: groups are in the order in which their first samples were drawn.
    chosen = max(groups.values(), key=lambda group: (len(group), sum(one.confidence or 0.0 for one in group)))
    best = max(chosen, key=lambda one: one.confidence or 0.0)
    completion = sum(output.usage.completion_tokens for output in outputs)
    thoughts = [output.reasoning_tokens for output in outputs if output.reasoning_tokens is not None]
    config = {**best.generation_config, "n": len(outputs)}
    if input.seed is not None and "seed" in config:
        config["seed"] = input.seed
    return best.model_copy(
        update={
            "samples": [_sample(output) for output in outputs],
            "agreement": round(len(chosen) / len(outputs), 6),
            "usage": UsageInfo.of(outputs[0].usage.prompt_tokens, completion),
            "reasoning_tokens": sum(thoughts) if thoughts else None,
            "generation_config": config,
        }
    )


def _sample(output: VLMOutput) -> Sample:
    return Sample(**{name: getattr(output, name) for name in Sample.model_fields})


def ballot(text: str, parsed: Any = None) -> str:
    """What a sample counts for: equal for those that say the same.

    Args:
        text: The sample's.
        parsed: Its value, where it is JSON.
    """
    if parsed is not None:
        # A text of JSON cannot begin like the other kind.
        return json.dumps(_plain(parsed), sort_keys=True, ensure_ascii=False, default=str)
    return f"text {words(text)}"


def _plain(value: Any) -> Any:
    """A JSON value in which 1.0 is written as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


@dataclass(slots=True)
class _Ballots:
    """The samples of one record that have been answered so far, by their places."""

    input: VLMInput
    answers: dict[int, VLMOutput | VLMError] = field(default_factory=dict)


class SampleCollector:
    """Hands out the samples of records, and collects their answers until each record has all of its own.

    A record of which a sample fails is answered with the error of the first that did.
    """

    def __init__(self) -> None:
        self._open: dict[Hashable, _Ballots] = {}

    def clear(self) -> None:
        """Forgets the records that are not answered."""
        self._open.clear()

    def split(self, key: Hashable, input: VLMInput) -> list[tuple[Hashable, VLMInput]]:
        """A record's samples under keys of their own; the record itself where it asks for one.

        Raises:
            PromptError: When its samples could not differ.
        """
        inputs = sample_inputs(input)
        if len(inputs) == 1:
            return [(key, input)]
        self._open[key] = _Ballots(input)
        return [(SampleKey(key, place), one) for place, one in enumerate(inputs)]

    def take(self, key: Hashable, answer: VLMOutput | VLMError) -> Answer | None:
        """The record's answer, once the answer of its last sample is given; of any other key, what was given."""
        if not isinstance(key, SampleKey):
            return key, answer
        ballots = self._open.get(key.key)
        if ballots is None:  # answered more than once
            return None
        answers = ballots.answers
        answers.setdefault(key.place, answer)
        if len(answers) < (ballots.input.n or 1):
            return None
        del self._open[key.key]
        in_order = [answers[place] for place in range(len(answers))]
        failed = next((one for one in in_order if isinstance(one, VLMError)), None)
        if failed is not None:
            return key.key, failed
        return key.key, vote(ballots.input, [one for one in in_order if isinstance(one, VLMOutput)])


def answers_of(
    model: VLMModel, inputs: Iterable[tuple[Key, VLMInput]]
) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
    """The model's `stream`; where the model asks for it, each sample of a record is an input of its own there."""
    return model.stream(inputs) if model.takes_samples else in_samples(model.stream, inputs)


def in_samples(
    answer: Callable[[Iterator[tuple[Hashable, VLMInput]]], Iterator[Answer]],
    inputs: Iterable[tuple[Key, VLMInput]],
) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
    """Answers inputs of several samples by a stream that answers each of them once.

    Args:
        answer: As of `VLMModel.stream`; it is given every sample as an input of its own.
        inputs: As of `VLMModel.stream`.
    """
    collector = SampleCollector()
    refused: deque[Answer] = deque()

    def separate() -> Iterator[tuple[Hashable, VLMInput]]:
        for key, input in inputs:
            if input.n is None:
                yield key, input
                continue
            try:
                samples = collector.split(key, input)
            except VLMError as error:
                refused.append((key, error))
            else:
                yield from samples

    stream = answer(separate())
    try:
        for key, answered in stream:
            done = collector.take(key, answered)
            if done is not None:
                yield cast(tuple[Key, VLMOutput | VLMError], done)
            while refused:
                yield cast(tuple[Key, VLMOutput | VLMError], refused.popleft())
    finally:
        if hasattr(stream, "close"):
            stream.close()
    yield from cast(Iterable[tuple[Key, VLMOutput | VLMError]], refused)
