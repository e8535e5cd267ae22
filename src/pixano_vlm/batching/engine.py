"""Continuous (in-flight) batching of one transformers model: admit, prefill, decode, retire.

A record that ends leaves its row at once and a waiting one is admitted. What a record gets does not depend on
what else is in flight. Knows no file, no text layout (`prepare`), no tensor's shape (`runner`) and no
architecture by name: `capabilities` says which of the two ways of prefilling a model allows.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor

from pixano_vlm.batching.answer import output
from pixano_vlm.batching.call_failure import CallFailure
from pixano_vlm.batching.engine_stats import EngineStats
from pixano_vlm.batching.kv_cache import LayerKind
from pixano_vlm.batching.label_scorer import LabelScorer
from pixano_vlm.batching.plan import Plan
from pixano_vlm.batching.prefix import without_followers
from pixano_vlm.batching.prepare import Preparer, PromptMaker
from pixano_vlm.batching.runner import ModelRunner
from pixano_vlm.batching.sampling import choose
from pixano_vlm.batching.scheduler import Scheduler
from pixano_vlm.batching.sequence import Prompt, PromptCopy, Sequence
from pixano_vlm.batching.stop_criteria import StopCriteria
from pixano_vlm.errors import VLMError
from pixano_vlm.models.samples import SampleCollector
from pixano_vlm.models.vlm import VLMInput, VLMOutput

Answer = tuple[Hashable, VLMOutput | VLMError]

WAITING_BYTES = 2**30
"""Prepared prompts of about so many bytes may wait for a row; one may be larger."""


class Engine:
    """Runs one model over a stream of prepared requests.

    Args:
        model: The transformers model, in eval mode.
        maker: Prepares requests; its `shared_ids` are what prefixes are compared by.
        stop: When a record ends, and its text.
        kinds: For each layer of the decoder, what it keeps.
        plan: Ways and budgets.
    """

    def __init__(
        self, model: Any, maker: PromptMaker, stop: StopCriteria, kinds: tuple[LayerKind, ...], plan: Plan
    ) -> None:
        self._maker = maker
        self._stop = stop
        self._plan = plan
        self.runner = ModelRunner(
            model,
            kinds,
            image_features=plan.image_features,
            image_bytes=plan.image_bytes,
            prefix_bytes=plan.prefix_bytes if plan.shared_prefill else 0,
        )
        self._labels = LabelScorer(
            model,
            self.runner,
            stop.end_ids,
            may_be_at_once=plan.shared_prefill and not any(kind.states or kind.slides for kind in kinds),
        )
        self._samples = SampleCollector()
        self.reset()

    @property
    def stats(self) -> EngineStats:
        """Counts and seconds since `reset`."""
        return self.runner.stats

    def reset(self) -> None:
        """Forgets the records of a run that was left; what is kept for reuse stays."""
        self.runner.cache.lengths.clear()
        self.runner.stats = EngineStats()
        self.scheduler = Scheduler(self._plan.max_rows, self._plan.max_tokens)
        self._samples.clear()
        self._failed: list[tuple[Sequence, VLMError]] = []
        self._next_calls: list[Sequence] = []  # admitted, for a later prefill call of this round
        self._arrivals = 0
        self._step_seconds = 0.0

    def run(self, source: Preparer) -> Iterator[Answer]:
        """Answers every request of the source once, in the order in which they end."""
        while True:
            yield from self._receive(source)
            if not self.scheduler.waiting and not self.scheduler.active:
                if source.is_exhausted and not source.pending:
                    return
                continue
            yield from self.round()

    def round(self) -> Iterator[Answer]:
        """Fills free rows, gives every record in flight one more token, answers those that have ended."""
        self._admit()
        yield from self._retire()
        self._decode()
        yield from self._retire()

    # -- receive -----------------------------------------------------------------------------------------------

    def _receive(self, source: Preparer) -> Iterator[Answer]:
        scheduler = self.scheduler
        room = max(0, 4 * self._plan.max_rows - len(scheduler.waiting))
        if scheduler.waiting and sum(s.prompt.nbytes for s in scheduler.waiting) > WAITING_BYTES:
            room = 0
        if not scheduler.active and not scheduler.waiting:
            wait = None
        elif len(scheduler.waiting) < scheduler.free_rows:
            # Rows are empty and more is under way: a step's time is better spent waiting for it.
            wait = self._step_seconds
        else:
            wait = 0.0
        for key, input, prompt in source.take(room, wait):
            if isinstance(prompt, VLMError):
                yield key, prompt
                continue
            for sequence in self._sequences(key, input, prompt):
                scheduler.add(sequence)
            self._arrivals += 1

    def _sequences(self, key: Hashable, input: VLMInput, prompt: Prompt) -> Iterator[Sequence]:
        """A record, or each of its samples: the first that has a row computes their prompt for all of them."""
        shared_ids = self._maker.shared_ids(prompt) if self._plan.shared_prefill else None
        samples = self._samples.split(key, input)
        copy = PromptCopy(set(range(len(samples)))) if len(samples) > 1 else None
        for place, (own_key, own) in enumerate(samples):
            yield Sequence(
                own_key,
                own,
                prompt if place == 0 else prompt.for_another_sample(),
                self._bounded(own, prompt),
                self._arrivals,
                shared_ids,
                place=place,
                copy=copy,
            )

    def _bounded(self, input: VLMInput, prompt: Prompt) -> int:
        if prompt.labels is not None:
            return len(prompt.labels.tokens)  # the columns that they take, once
        context = self._plan.context
        return input.max_new_tokens if context is None else min(input.max_new_tokens, context - prompt.length)

    # -- admit, prefill ----------------------------------------------------------------------------------------

    def _admit(self) -> None:
        self._next_calls = self.scheduler.admit()
        self.runner.row_prefixes.keep_from_flight(self._next_calls, self.scheduler.active)
        while self._next_calls:
            computed = [s for s in self._next_calls if s.copy is not None and s.copy.states is not None]
            if computed:
                self._next_calls = [s for s in self._next_calls if s not in computed]
                self._copy_prompts(computed)
            else:
                group, self._next_calls = self._split_off(self._next_calls)
                self._prefill(group)

    def _split_off(self, admitted: list[Sequence]) -> tuple[list[Sequence], list[Sequence]]:
        """Splits off what to prefill in one call: no two that gain from one another, of like lengths."""
        if not self._plan.shared_prefill:
            return admitted[:1], admitted[1:]
        prefixes = self.runner.prefixes
        # One sample of each record: the others copy what it computes.
        alone = [i for i, s in enumerate(admitted) if s.copy is None or s.copy.first_of(admitted) is s]
        kept, first = dict.fromkeys(alone, 0), alone
        if prefixes.is_on:
            ids = {index: admitted[index].shared_ids for index in alone}
            kept = {i: 0 if found is None else prefixes.find(found)[0] for i, found in ids.items()}
            first = [alone[place] for place in without_followers(list(ids.values()), list(kept.values()))]
        fresh = {index: admitted[index].prompt.length - kept[index] for index in first}
        longest = max(fresh.values())
        # Padding is work for nothing: prompts under half of the longest wait for a call of their own.
        alike = sorted((index for index in first if 2 * fresh[index] >= longest), key=lambda i: -fresh[i])
        chosen = set(alike[: max(1, self._plan.prefill_tokens // longest)])
        group = [admitted[index] for index in alike if index in chosen]
        return group, [sequence for index, sequence in enumerate(admitted) if index not in chosen]

    def _prefill(self, group: list[Sequence], *, again: bool = True) -> None:
        """Computes the prompts of a group and their first tokens; in smaller groups where that fails."""
        logits = failed = None
        try:
            together = self._ready(group)
            if together or len(group) == 1:
                logits = self._compute(group, together=together)
        except Exception as error:  # what can fail is the model's code
            failed = CallFailure.of(error)
        if failed is not None:
            # Outside of the handler: the error's frames hold the memory of the call that failed.
            self._recover(group, failed, again=again)
        elif logits is None:
            for sequence in group:
                self._prefill([sequence])
        else:
            for row, sequence in enumerate(group):
                if sequence.prompt.labels is not None:
                    self._score_labels(sequence, logits[row : row + 1])
                if sequence.copy is not None:
                    self.runner.keep_prompt(sequence, sequence.copy, logits[row])
            self._start(group, logits)

    def _start(self, group: list[Sequence], logits: Tensor) -> None:
        """Records whose prompts are in their rows begin their answers."""
        for sequence in group:
            sequence.features = None
            sequence.prompt = sequence.prompt.without_tensors()
            self.scheduler.active.append(sequence)
        self._choose(logits, group)

    def _copy_prompts(self, group: list[Sequence]) -> None:
        """Begins samples whose prompts another sample of their records has computed."""
        cache = self.runner.cache
        rows, failed, logits = len(cache.lengths), None, None
        try:
            logits = self.runner.copy_prompts(group, self._take_rows(group))
        except Exception as error:  # what can fail is memory
            failed = CallFailure.of(error)
        if logits is not None:
            self._start(group, logits)
        elif failed is not None:
            self.stats.out_of_memory += failed.is_out_of_memory
            del cache.lengths[rows:]
            for sequence in group:
                if sequence.copy is not None:
                    sequence.copy.drop()
            for sequence in group:  # as if each were a record of its own
                self._prefill([sequence])

    def _score_labels(self, sequence: Sequence, after_prompt: Tensor) -> None:
        """Answers a record whose answer is one of some labels; its prompt is in its row."""
        try:
            sequence.probabilities = self._labels.score(sequence, after_prompt)
        except Exception as error:  # what can fail is the model's code
            self._fail(sequence, CallFailure.of(error))
        else:
            sequence.finish_reason = "stop"

    def _ready(self, group: list[Sequence]) -> bool:
        """Readies a group for its prefill; returns whether it may be run together."""
        for sequence in group:
            if not sequence.prompt.tensors:  # one that has been in flight already
                sequence.prompt = self._maker.make(sequence.input)
            self.runner.begin(sequence)
        return self._plan.shared_prefill and all(s.features is not None for s in group)

    def _compute(self, group: list[Sequence], *, together: bool) -> Tensor:
        """The logits after a group's prompts, which are in rows of their own then."""
        cache = self.runner.cache
        rows = len(cache.lengths)
        # What samples of one record have in common is copied, and need not be kept as a prefix too.
        copies = [sequence.copy for sequence in group if sequence.copy is not None]
        later = [s for s in (*self.scheduler.waiting, *self._next_calls) if s.copy not in copies]
        try:
            return self.runner.prefill(group, self._take_rows(group), together=together, later=later)
        except Exception:
            del cache.lengths[rows:]
            raise

    def _take_rows(self, group: list[Sequence]) -> slice:
        everyone = [*self.scheduler.active, *group]
        lengths = [sequence.prompt.length for sequence in group]
        try:
            with torch.inference_mode():
                self.runner.cache.make_room(
                    lengths,
                    steps=max(sequence.remaining for sequence in everyone),
                    row_limit=max(len(everyone), self.scheduler.row_limit(everyone)),
                )
        except Exception:
            self._begin_anew()
            raise
        return self.runner.cache.add_rows(lengths)

    def _begin_anew(self) -> None:
        """Puts every record in flight back: some layers have moved in memory and others have not."""
        active = self.scheduler.active
        if active:
            self.scheduler.shrink()
        failed = {id(sequence) for sequence, _ in self._failed}
        self.scheduler.put_back(sequence for sequence in active if id(sequence) not in failed)
        active.clear()
        self.runner.cache.clear()

    def _recover(self, group: list[Sequence], failed: CallFailure, *, again: bool) -> None:
        """After a failed prefill: smaller groups, then one record later, then that one record's error."""
        self.stats.out_of_memory += failed.is_out_of_memory
        if len(group) > 1:
            middle = len(group) // 2
            self._prefill(group[:middle])
            self._prefill(group[middle:])
        elif failed.is_out_of_memory and self.scheduler.active:
            # Alone it may fit, when those in flight have ended.
            self.scheduler.shrink()
            self.scheduler.put_back(group)
        elif failed.is_out_of_memory and again:
            # At once, while nothing else can have taken the memory that is freed here.
            group[0].restart()
            self._free_caches()
            self._prefill(group, again=False)
        else:
            self._failed.append((group[0], failed.answer))

    def _free_caches(self) -> bool:
        """Empties what is only kept for reuse; returns whether there was anything."""
        runner = self.runner
        held = runner.encoder.nbytes + runner.prefixes.nbytes
        runner.encoder.clear()
        runner.prefixes.clear()
        for sequence in (*self.scheduler.waiting, *self._next_calls):
            if sequence.copy is not None:
                held += sequence.copy.states is not None
                sequence.copy.drop()
        if not self.scheduler.active:
            runner.cache.clear()
        return held > 0

    # -- decode ------------------------------------------------------------------------------------------------

    def _decode(self) -> None:
        """One token for every record in flight."""
        active = self.scheduler.active
        if not active:
            return
        began = time.perf_counter()
        parts = self._step(0, len(active))
        self.runner.cache.tick()
        self._step_seconds = time.perf_counter() - began
        self.stats.decode_seconds += self._step_seconds
        self.stats.decode_steps += 1
        self.stats.decode_rows += len(active)
        for first, logits in parts:
            self._choose(logits, active[first : first + len(logits)])

    def _step(self, first: int, last: int, *, again: bool = True) -> list[tuple[int, Tensor]]:
        """Logits of rows [first, last) in one call; in two calls of half the rows where that fails.

        The column is the same in every try, and states are kept when a call has succeeded, so that nothing is
        lost by trying.
        """
        active = self.scheduler.active
        try:
            return [(first, self.runner.step(active[first:last], slice(first, last)))]
        except Exception as error:  # what can fail is the model's code
            failed = CallFailure.of(error)
        self.stats.out_of_memory += failed.is_out_of_memory
        if failed.is_out_of_memory and self._free_caches():
            return self._step(first, last)
        if last - first == 1 and failed.is_out_of_memory and again:
            return self._step(first, last, again=False)  # others may have given memory back
        if last - first == 1:
            self._fail(active[first], failed)
            return []
        if failed.is_out_of_memory:
            self.scheduler.shrink()
        middle = (first + last) // 2
        return self._step(first, middle) + self._step(middle, last)

    def _fail(self, sequence: Sequence, failed: CallFailure) -> None:
        """Answers a record in flight with its error."""
        sequence.finish_reason = "stop"  # leaves its row
        self._failed.append((sequence, failed.answer))

    # -- choose, retire ----------------------------------------------------------------------------------------

    def _choose(self, logits: Tensor, sequences: list[Sequence]) -> None:
        rows = [row for row, sequence in enumerate(sequences) if not sequence.is_finished]
        if len(rows) < len(sequences):  # labels, which are scored already
            logits, sequences = logits[rows], [sequences[row] for row in rows]
        if not rows:
            return
        for sequence, token in zip(sequences, choose(logits, sequences), strict=True):
            if isinstance(token, Exception):
                self._fail(sequence, CallFailure.of(token))
            else:
                self._stop.append(sequence, token)

    def _retire(self) -> Iterator[Answer]:
        """Answers the records that have ended, and frees their rows."""
        for sequence, error in self._failed:
            yield from self._answered(sequence, error)
        failed = {id(sequence) for sequence, _ in self._failed}
        self._failed.clear()
        active = self.scheduler.active
        for row in reversed(range(len(active))):
            sequence = active[row]
            if not sequence.is_finished:
                continue
            if len(active) == 1 and id(sequence) not in failed:
                self.runner.row_prefixes.keep_last(sequence)
            last = self.runner.cache.drop_row(row)
            active[row] = active[last]
            active[row].row = row
            active.pop()
            if id(sequence) not in failed:
                yield from self._answered(sequence, output(sequence, self._stop))

    def _answered(self, sequence: Sequence, answer: VLMOutput | VLMError) -> Iterator[Answer]:
        done = self._samples.take(sequence.key, answer)
        if done is not None:
            yield done
