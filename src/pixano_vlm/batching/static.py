"""The safe way back: static batches through the model's own `generate`, for models the engine cannot run.

Exact because nothing is ever padded: only records whose inputs have equal shapes go together; a record that
samples goes alone, with its own random numbers.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from pixano_vlm.batching.answer import chosen_label, output
from pixano_vlm.batching.call_failure import CallFailure
from pixano_vlm.batching.engine import WAITING_BYTES, Answer
from pixano_vlm.batching.listening import Listener
from pixano_vlm.batching.penalties import processors_of
from pixano_vlm.batching.plain_scoring import probabilities_plainly
from pixano_vlm.batching.prepare import Preparer
from pixano_vlm.batching.sampling import attach_sampling, choose, generation_config
from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.batching.stop_criteria import StopCriteria
from pixano_vlm.errors import GenerationError, VLMError
from pixano_vlm.models.generation import SETTINGS
from pixano_vlm.models.samples import SampleCollector
from pixano_vlm.models.vlm import VLMInput, VLMOutput

Shape = tuple[object, ...]

SHARED = tuple(
    name for name, setting in SETTINGS.items() if name != "max_new_tokens" and not setting.sampling
)
"""Settings that the records of one batch have in common; a sampled record goes alone, with its own."""


class Start(LogitsProcessor):
    """Notes how many tokens `generate` begins with, which it returns before the new ones.

    The prompt, for most models; all of it but its end token, an encoder-decoder's start, or nothing for some.
    """

    length = 0
    _called = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Leaves the scores as they are."""
        if not self._called:
            self._called, self.length = True, input_ids.shape[1]
        return scores


class Constrained(LogitsProcessor):
    """Leaves one token: the one that this record, by its schema and its sampling, continues with."""

    def __init__(self, model: Any, sequence: Sequence, stop: StopCriteria, listener: Listener) -> None:
        self._stop = stop
        self._listener = listener
        self._sequence = sequence
        attach_sampling(model, sequence)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Minus infinity for all but the chosen token; batches of one."""
        sequence = self._sequence
        only = torch.full_like(scores, float("-inf"))
        if sequence.is_finished:
            only[0, -1] = 0.0  # whatever follows the end is not looked at
        else:
            [token] = choose(scores, [sequence], self._listener.scores)
            if isinstance(token, Exception):
                raise token
            only[0, token] = 0.0
            self._stop.append(sequence, token)
        return only


@dataclass(slots=True)
class StaticBatches:
    """Runs one model over a stream of prepared requests, in batches of equal shapes.

    Args:
        model: The transformers model, in eval mode.
        stop: When a record ends, and its text.
        max_rows: Most records in a batch.
        context: Most tokens of prompt and answer, or None.
    """

    model: Any
    stop: StopCriteria
    max_rows: int
    context: int | None
    _waiting: dict[Shape, list[Sequence]] = field(default_factory=dict)
    _samples: SampleCollector = field(default_factory=SampleCollector)

    def run(self, source: Preparer) -> Iterator[Answer]:
        """Answers every request of the source once."""
        while True:
            room = self._room()
            taken = source.take(room, 0.05 if self._waiting else None)
            for key, input, prompt in taken:
                if isinstance(prompt, VLMError):
                    yield key, prompt
                    continue
                for place, (own_key, own) in enumerate(self._samples.split(key, input)):
                    own_prompt = prompt if place == 0 else prompt.for_another_sample(with_tensors=True)
                    sequence = Sequence(own_key, own, own_prompt, self._bounded(own, prompt.length))
                    self._waiting.setdefault(self._shape(sequence, own_key), []).append(sequence)
            if not self._waiting:
                if source.is_exhausted and not source.pending:
                    return
                continue
            shape = max(self._waiting, key=lambda shape: len(self._waiting[shape]))
            if len(self._waiting[shape]) < self.max_rows:
                if taken and self._room():
                    continue  # more is under way: a fuller batch is worth a moment
                shape = next(iter(self._waiting))  # the one that has waited longest
            for key, answer in self._answer(self._take(shape)):
                done = self._samples.take(key, answer)
                if done is not None:
                    yield done

    def _room(self) -> int:
        """How many more records may wait."""
        waiting = [sequence for group in self._waiting.values() for sequence in group]
        if waiting and sum(sequence.prompt.nbytes for sequence in waiting) > WAITING_BYTES:
            return 0
        return max(0, 4 * self.max_rows - len(waiting))

    def _take(self, shape: Shape) -> list[Sequence]:
        group = self._waiting.pop(shape)
        batch, rest = group[: self.max_rows], group[self.max_rows :]
        if rest:
            self._waiting[shape] = rest  # behind the others
        return batch

    def _bounded(self, input: VLMInput, length: int) -> int:
        if self.context is None or self.model.config.is_encoder_decoder:
            return input.max_new_tokens
        return min(input.max_new_tokens, self.context - length)

    def _shape(self, sequence: Sequence, key: Hashable) -> Shape:
        """What records of one batch have in common; unlike any other for a record that must go alone."""
        input = sequence.input
        shapes = tuple(
            (name, tuple(value.shape) if isinstance(value, Tensor) else "")
            for name, value in sorted(sequence.prompt.tensors.items())
        )
        rows = {value.shape[0] for value in sequence.prompt.tensors.values() if isinstance(value, Tensor)}
        alone = (
            sequence.prompt.constraint is not None
            or sequence.prompt.labels is not None
            or input.temperature > 0
            or bool(input.stop)
            or rows != {1}
            or any(not s for _, s in shapes)
        )
        # A token that is forced at the end comes where the batch ends, which must be where the record does.
        forced = self.model.generation_config.forced_eos_token_id is not None
        last = sequence.max_new_tokens if forced else None
        asked = [repr(getattr(input, name)) for name in SHARED]
        return (*shapes, *asked, last, key if alone else None)

    def _answer(self, batch: list[Sequence]) -> Iterator[Answer]:
        if batch[0].prompt.labels is not None:
            yield batch[0].key, self._scored(batch[0])
            return
        failed = None
        try:
            rows, logs = self._generate(batch)
        except Exception as error:  # what can fail is the model's code
            failed = CallFailure.of(error)
        if failed is not None:  # halved until the one record is found that it fails on
            if len(batch) > 1:
                middle = len(batch) // 2
                yield from self._answer(batch[:middle])
                yield from self._answer(batch[middle:])
            else:
                yield batch[0].key, failed.answer
            return
        if len(rows) != len(batch):  # a model of one image, whose processor takes several for several records
            reason = GenerationError(
                "the model takes its images for records of their own: give it one image."
            )
            yield from ((sequence.key, reason) for sequence in batch)
            return
        for sequence, tokens, heard in zip(batch, rows, logs, strict=True):
            for token in tokens:
                if sequence.is_finished:
                    break
                self.stop.append(sequence, token)
            if sequence.prompt.constraint is None:
                sequence.logs += heard[: len(sequence.tokens)]
                del sequence.alternatives[len(sequence.tokens) :]
            yield sequence.key, output(sequence, self.stop)

    def _scored(self, sequence: Sequence) -> VLMOutput | VLMError:
        """A record whose answer is one of some labels."""
        tree = sequence.prompt.labels
        assert tree is not None
        try:
            probabilities = probabilities_plainly(self.model, sequence, tree, self.stop.end_ids)
        except Exception as error:  # what can fail is the model's code
            return CallFailure.of(error).answer
        return chosen_label(sequence, probabilities)

    @torch.inference_mode()
    def _generate(self, batch: list[Sequence]) -> tuple[list[list[int]], list[list[float]]]:
        """The new tokens of each record, and the logarithms of their probabilities where they were heard."""
        first = batch[0].input
        config = generation_config(self.model, first, max(s.max_new_tokens for s in batch))
        tensors = {
            name: self._place(
                torch.cat([s.prompt.tensors[name] for s in batch]) if isinstance(value, Tensor) else value
            )
            for name, value in batch[0].prompt.tensors.items()
            if value is not None  # `generate` takes what is named for what is there
        }
        with torch.random.fork_rng():
            # Or else every record would begin with the random numbers that the first began with.
            torch.manual_seed(secrets.randbits(63) if first.seed is None else first.seed)
            start, listener = Start(), Listener(first.top_logprobs or 0)
            processors: list[LogitsProcessor] = [start]
            if batch[0].prompt.constraint is None:
                processors += [listener, *processors_of(first)]
            else:
                processors.append(Constrained(self.model, batch[0], self.stop, listener))
                config.update(do_sample=False, temperature=None, top_k=None, top_p=None, min_p=None)
                config.update(repetition_penalty=1.0)  # `Constrained` sees to all of these, once
            with listener.listening(self.model):
                tokens = self.model.generate(**tensors, generation_config=config, logits_processor=processors)
        rows = [row[start.length :].tolist() for row in tokens]
        logs = listener.logs(rows)
        if batch[0].prompt.constraint is None and any(logs):
            for row, sequence in enumerate(batch):
                sequence.alternatives += listener.alternatives(row)
        return rows, logs

    def _place(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
