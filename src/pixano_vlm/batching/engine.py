"""In-flight batching of one transformers model: admit, prefill, decode, retire.

A record that ends leaves its row at once and a waiting one is admitted. What a record gets does not depend on
what else is in flight. Knows no file and no text layout (`prepare`), no policy of who goes next (`scheduler`)
and no architecture by name: `capabilities` says which of the two ways of prefilling a model allows.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pixano_vlm.batching.kv_cache import CacheWindow, SlotCache
from pixano_vlm.batching.prefix import PrefixStore, without_followers
from pixano_vlm.batching.prepare import Preparer, PromptMaker
from pixano_vlm.batching.sampling import attach_sampling, choose, settings_used
from pixano_vlm.batching.scheduler import Scheduler
from pixano_vlm.batching.sequence import Ending, PreparedImage, Sequence
from pixano_vlm.batching.vision import PIXEL_ARGUMENTS, ImageEncoder, join
from pixano_vlm.errors import GenerationError, VLMError
from pixano_vlm.models.vlm import UsageInfo, VLMInput, VLMOutput

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")
"""Inputs of a forward call that run along the prompt's tokens."""

Answer = tuple[Hashable, VLMOutput | VLMError]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model may be run in flight, and with what budgets."""

    max_rows: int
    max_tokens: int
    prefill_tokens: int
    image_bytes: int
    prefix_bytes: int
    shared_prefill: bool
    """Whether prompts may be prefilled together and from a shared prefix; else each alone and whole."""
    context: int | None
    """Most tokens, prompt and answer, or None."""


@dataclass(slots=True)
class EngineStats:
    """What a run did: counts, and seconds by part."""

    vision_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    prefill_calls: int = 0
    prefill_tokens: int = 0
    decode_steps: int = 0
    decode_rows: int = 0
    peak_cache_bytes: int = 0
    out_of_memory: int = 0

    @property
    def model_seconds(self) -> float:
        """Seconds inside the model's forward calls."""
        return self.vision_seconds + self.prefill_seconds + self.decode_seconds


class Engine:
    """Runs one model over a stream of prepared requests.

    Args:
        model: The transformers model, in eval mode.
        maker: Prepares requests; its `shared_ids` are what prefixes are compared by.
        ending: When a record ends, and its text.
        sliding: For each layer of the decoder, whether its attention slides.
        plan: Ways and budgets.
    """

    def __init__(
        self, model: Any, maker: PromptMaker, ending: Ending, sliding: list[bool], plan: Plan
    ) -> None:
        self._model = model
        self._maker = maker
        self._ending = ending
        self._plan = plan
        self._device = model.device
        self._arguments = frozenset(inspect.signature(model.forward).parameters)
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in self._arguments else {}
        self._image_token = getattr(model.config, "image_token_id", None)
        self.encoder = ImageEncoder(model, plan.image_bytes)
        self.prefixes = PrefixStore(plan.prefix_bytes if plan.shared_prefill else 0)
        self.cache = SlotCache(sliding)
        self.scheduler = Scheduler(plan.max_rows, plan.max_tokens)
        self.stats = EngineStats()
        self._failed: list[tuple[Sequence, VLMError]] = []
        self._admitted_later: list[Sequence] = []  # admitted, in a later prefill call of this step
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
            self._admit_and_prefill()
            yield from self._retire()
            self._decode()
            yield from self._retire()

    def reset(self) -> None:
        """Forgets the records of a run that was left; what is kept for reuse stays."""
        self.cache.lengths.clear()
        self.scheduler = Scheduler(self._plan.max_rows, self._plan.max_tokens)
        self.stats = EngineStats()
        self._failed.clear()

    # -- receive -------------------------------------------------------------------------------------------

    def _receive(self, source: Preparer) -> Iterator[Answer]:
        scheduler = self.scheduler
        room = max(1, 4 * self._plan.max_rows - len(scheduler.waiting))
        if not scheduler.active and not scheduler.waiting:
            wait = None
        elif len(scheduler.waiting) < scheduler.free_rows:
            # Rows stand empty and more is under way: a step's time is better spent waiting for it.
            wait = self._step_seconds
        else:
            wait = 0.0
        for key, input, prompt in source.take(room, wait):
            if isinstance(prompt, VLMError):
                yield key, prompt
                continue
            sequence = Sequence(key, input, prompt, self._bounded(input, prompt.length), self._arrivals)
            self._arrivals += 1
            if self._plan.shared_prefill:
                sequence.shared_ids = self._maker.shared_ids(prompt)
            scheduler.add(sequence)

    def _bounded(self, input: VLMInput, length: int) -> int:
        context = self._plan.context
        return input.max_new_tokens if context is None else min(input.max_new_tokens, context - length)

    # -- admit, prefill ------------------------------------------------------------------------------------

    def _admit_and_prefill(self) -> None:
        self._admitted_later = self.scheduler.admit()
        while self._admitted_later:
            group, self._admitted_later = self._next_group(self._admitted_later)
            self._prefill(group)

    def _next_group(self, admitted: list[Sequence]) -> tuple[list[Sequence], list[Sequence]]:
        """Splits off what to prefill in one call: no two that gain from one another, of like lengths."""
        if not self._plan.shared_prefill:
            return admitted[:1], admitted[1:]
        if self.prefixes.is_on:
            kept = [0 if s.shared_ids is None else self.prefixes.find(s.shared_ids)[0] for s in admitted]
            first = set(without_followers([s.shared_ids for s in admitted], kept))
            fresh = {id(s): s.prompt.length - kept[i] for i, s in enumerate(admitted)}
        else:
            first = set(range(len(admitted)))
            fresh = {id(s): s.prompt.length for s in admitted}
        leaders = sorted((admitted[i] for i in first), key=lambda s: -fresh[id(s)])
        longest = fresh[id(leaders[0])]
        # Padding is work for nothing: prompts under half of the longest wait for a call of their own.
        group = [s for s in leaders if 2 * fresh[id(s)] >= longest][
            : max(1, self._plan.prefill_tokens // longest)
        ]
        chosen = set(map(id, group))
        return group, [s for s in admitted if id(s) not in chosen]

    def _prefill(self, group: list[Sequence]) -> None:
        """Computes the prompts of a group and their first tokens; halves the group where that fails."""
        rows = len(self.cache.lengths)
        try:
            logits = self._forward_prompts(group)
        except Exception as error:  # what can fail is the model's code: sorted below
            del self.cache.lengths[rows:]
            self._recover(group, error)
            return
        for sequence in group:
            sequence.features = None
            self.scheduler.active.append(sequence)
        self._choose(logits, group)

    def _recover(self, group: list[Sequence], error: Exception) -> None:
        starved = is_out_of_memory(error)
        self.stats.out_of_memory += starved
        if isinstance(error, _Apart):
            for sequence in group:
                self._prefill([sequence])
        elif len(group) > 1:
            middle = len(group) // 2
            self._prefill(group[:middle])
            self._prefill(group[middle:])
        elif starved and self.scheduler.active:
            # Alone it may fit, when those in flight have ended.
            self.scheduler.shrink()
            self.scheduler.put_back(group)
        elif starved and not group[0].was_alone:
            group[0].was_alone = True
            self._free_caches()
            self.scheduler.put_back(group)
        else:
            self._failed.append((group[0], _failure(error, starved)))

    def _free_caches(self) -> bool:
        """Empties what is only kept for reuse; returns whether there was anything."""
        held = self.encoder.nbytes + self.prefixes.nbytes
        self.encoder.clear()
        self.prefixes.clear()
        if not self.scheduler.active:
            self.cache.clear()
        return held > 0

    @torch.inference_mode()
    def _forward_prompts(self, group: list[Sequence]) -> Tensor:
        """Encodes images, takes rows, runs the prompts; logits `[group, vocabulary]` of the last positions."""
        began = time.perf_counter()
        for sequence in group:
            if sequence.processors is None:
                attach_sampling(self._model, sequence)
            if sequence.positions is None:
                sequence.positions = self._position_ids(sequence)
            if sequence.features is None and self.encoder.is_available:
                sequence.features = self._encode(sequence)
        self.stats.vision_seconds += time.perf_counter() - began
        together = self._plan.shared_prefill and all(sequence.features is not None for sequence in group)
        if not together and len(group) > 1:
            raise _Apart
        lengths = [sequence.prompt.length for sequence in group]
        everyone = [*self.scheduler.active, *group]
        self.cache.make_room(
            lengths,
            steps=max(sequence.remaining for sequence in everyone),
            row_limit=max(len(everyone), self.scheduler.row_limit(everyone)),
        )
        rows = self.cache.add_rows(lengths)
        for row, sequence in enumerate(group, start=rows.start):
            sequence.row = row
        began = time.perf_counter()
        logits = self._prefill_together(group, rows) if together else self._prefill_alone(group[0])
        self.stats.prefill_seconds += time.perf_counter() - began
        self.stats.prefill_calls += 1
        self.stats.peak_cache_bytes = max(self.stats.peak_cache_bytes, self.cache.nbytes)
        return logits

    def _prefill_together(self, group: list[Sequence], rows: slice) -> Tensor:
        clock = self.cache.clock
        for sequence in group:
            sequence.prefix = self._restore_prefix(sequence)
        fresh = [sequence.prompt.length - sequence.prefix for sequence in group]
        width, longest = max(fresh), max(sequence.prompt.length for sequence in group)
        begin, start = clock - width, clock - longest
        inputs = self._align_right(group, fresh, width)
        lengths = torch.tensor([sequence.prompt.length for sequence in group], device=self._device)
        columns = torch.arange(start, clock, device=self._device)
        ragged = any(sequence.prompt.length < longest for sequence in group)
        padded = any(count < width for count in fresh)
        valid = None
        if padded:
            counts = torch.tensor(fresh, device=self._device)
            valid = (torch.arange(begin, clock, device=self._device) >= clock - counts[:, None])[
                :, None, :, None
            ]
        window = self.cache.window(rows, start, begin, clock, valid)
        features = [f for sequence in group for f in self._fresh_features(sequence)]
        logits = self._forward(
            inputs,
            window,
            is_first_iteration=True,
            attention_mask=(columns >= clock - lengths[:, None]).long() if ragged else None,
            **({"mm_encoder_outputs": join(features)} if features else {}),
        )
        self.stats.prefill_tokens += sum(fresh)
        self._keep_prefixes(group)
        return logits

    def _align_right(self, group: list[Sequence], fresh: list[int], width: int) -> dict[str, Tensor]:
        """The new tokens of each prompt at the right edge of `[group, width]`, and what runs along them."""
        first = group[0]
        assert first.positions is not None
        # Padding repeats a token of the first prompt: any id would do that is no placeholder.
        ids = torch.full((len(group), width), int(first.prompt.ids[-1]), dtype=torch.long)
        positions = torch.zeros((*first.positions.shape[:-1], len(group), width), dtype=torch.long)
        kinds = {
            name: torch.zeros((len(group), width), dtype=torch.long)
            for name in TOKEN_TYPES
            if name in self._arguments and any(name in sequence.prompt.tensors for sequence in group)
        }
        for row, (sequence, count) in enumerate(zip(group, fresh, strict=True)):
            assert sequence.positions is not None
            ids[row, width - count :] = torch.from_numpy(sequence.prompt.ids[sequence.prefix :])
            positions[..., row, width - count :] = sequence.positions[..., sequence.prefix :]
            for name, kind in kinds.items():
                if name in sequence.prompt.tensors:
                    kind[row, width - count :] = sequence.prompt.tensors[name][0, sequence.prefix :]
        inputs = {"input_ids": ids, "position_ids": positions, **kinds}
        return {name: value.to(self._device) for name, value in inputs.items()}

    def _prefill_alone(self, sequence: Sequence) -> Tensor:
        """One whole prompt through the model's own preparation, as `generate` does it."""
        clock, length = self.cache.clock, sequence.prompt.length
        window = self.cache.window(
            slice(sequence.row, sequence.row + 1), clock - length, clock - length, clock
        )
        tensors = {name: self._place(value) for name, value in sequence.prompt.tensors.items()}
        tensors.pop("attention_mask", None)
        if sequence.features is not None:
            for name in PIXEL_ARGUMENTS:
                tensors.pop(name, None)
            if sequence.features:
                tensors["mm_encoder_outputs"] = join(sequence.features)
        assert sequence.positions is not None
        tensors["position_ids"] = sequence.positions.to(self._device)[..., None, :]
        self.stats.prefill_tokens += length
        return self._forward(tensors, window, is_first_iteration=True, attention_mask=None)

    def _forward(self, tensors: dict[str, Any], window: CacheWindow, **options: Any) -> Tensor:
        """One forward call, prepared by the model itself as in `generate`; the last positions' logits."""
        inputs = self._model.prepare_inputs_for_generation(
            **tensors, **options, past_key_values=window, use_cache=True, **self._last_only
        )
        logits: Tensor = self._model(**inputs).logits[:, -1]
        return logits

    def _position_ids(self, sequence: Sequence) -> Tensor:
        """The model's own position ids of a prompt: `[length]`, or `[axes, length]`."""
        tensors = {k: self._place(v) for k, v in sequence.prompt.tensors.items() if k not in PIXEL_ARGUMENTS}
        positions: Tensor = self._model._prepare_position_ids_for_generation(tensors["input_ids"], tensors)
        return positions.squeeze(-2).cpu()

    def _place(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self._device, self._model.dtype if value.is_floating_point() else None)

    # -- images and prefixes -------------------------------------------------------------------------------

    def _encode(self, sequence: Sequence) -> Any:
        """The record's encoded images in placeholder order; None where they do not fill the places."""
        images = sequence.prompt.images
        if not images:
            return None if any(name in sequence.prompt.tensors for name in PIXEL_ARGUMENTS) else []
        places = int((sequence.prompt.ids == self._image_token).sum())
        features = [self.encoder.encode(image) for image in images]
        if sum(f.tokens for f in features) != places:
            # This model looks at images differently when there are several: then all of the record's as one.
            everything = b"".join(image.digest for image in images)
            features = [self.encoder.encode(PreparedImage(everything, sequence.prompt.tensors))]
        return features if sum(f.tokens for f in features) == places else None

    def _restore_prefix(self, sequence: Sequence) -> int:
        """Copies the longest kept beginning into the record's row; returns its length."""
        if sequence.shared_ids is None or not self.prefixes.is_on:
            return 0
        length, states = self.prefixes.find(sequence.shared_ids)
        length = self._not_within_image(sequence, length)
        if states is None or not length:
            return 0
        self.cache.write(sequence.row, states, length)
        self.prefixes.reused_tokens += length
        return length

    def _not_within_image(self, sequence: Sequence, length: int) -> int:
        """The length, shortened where it would cut an image in two."""
        if not sequence.features:
            return length
        places = (sequence.prompt.ids == self._image_token).nonzero()[0]
        covered = int((places < length).sum())
        end = 0
        for features in sequence.features:
            if end < covered < end + features.tokens:
                return int(places[end])
            end += features.tokens
        return length

    def _fresh_features(self, sequence: Sequence) -> list[Any]:
        """Features of the images that stand after the restored prefix."""
        covered = int((sequence.prompt.ids[: sequence.prefix] == self._image_token).sum())
        fresh, end = [], 0
        for features in sequence.features or []:
            if end >= covered:
                fresh.append(features)
            end += features.tokens
        return fresh

    def _keep_prefixes(self, group: list[Sequence]) -> None:
        """Keeps the beginnings that records still to come have in common with these."""
        if not self.prefixes.is_on:
            return
        chosen = set(map(id, group))
        others = [
            s.shared_ids
            for s in (*self.scheduler.waiting, *self._admitted_later)
            if s.shared_ids is not None and id(s) not in chosen
        ]
        for sequence in group:
            if sequence.shared_ids is not None:
                count = self.prefixes.longest_shared(sequence.shared_ids, others)
                if count:
                    self.prefixes.keep(sequence.shared_ids[:count], self.cache.read(sequence.row, count))

    # -- decode --------------------------------------------------------------------------------------------

    def _decode(self) -> None:
        """One token for every record in flight."""
        active = self.scheduler.active
        if not active:
            return
        began = time.perf_counter()
        logits = self._decode_rows(0, len(active))
        self.cache.tick()
        self._step_seconds = time.perf_counter() - began
        self.stats.decode_seconds += self._step_seconds
        self.stats.decode_steps += 1
        self.stats.decode_rows += len(active)
        for first, rows in logits:
            self._choose(rows, active[first : first + len(rows)])

    def _decode_rows(self, first: int, last: int, *, again: bool = True) -> list[tuple[int, Tensor]]:
        """Logits of rows [first, last) in one call; in two calls of half the rows where that fails.

        The column is the same in every try, so that nothing is lost by trying.
        """
        try:
            return [(first, self._forward_step(first, last))]
        except Exception as error:  # what can fail is the model's code: sorted below
            starved = is_out_of_memory(error)
            self.stats.out_of_memory += starved
            if starved and self._free_caches():
                return self._decode_rows(first, last)
            if last - first == 1 and starved and again:
                return self._decode_rows(first, last, again=False)  # others may have given memory back
            if last - first == 1:
                sequence = self.scheduler.active[first]
                sequence.finish_reason = "stop"  # leaves its row
                self._failed.append((sequence, _failure(error, starved)))
                return []
            if starved:
                self.scheduler.shrink()
            middle = (first + last) // 2
            return self._decode_rows(first, middle) + self._decode_rows(middle, last)

    @torch.inference_mode()
    def _forward_step(self, first: int, last: int) -> Tensor:
        rows = self.scheduler.active[first:last]
        clock = self.cache.clock
        lengths = self.cache.lengths[first:last]
        longest = max(lengths)
        start = clock - longest
        ids = torch.tensor([[sequence.last_token] for sequence in rows], device=self._device)
        mask = None
        if min(lengths) < longest:
            columns = torch.arange(start, clock + 1, device=self._device)
            mask = (columns >= clock - torch.tensor(lengths, device=self._device)[:, None]).long()
        inputs = {"input_ids": ids, "position_ids": self._step_positions(rows).to(self._device)}
        window = self.cache.window(slice(first, last), start, clock, clock + 1)
        return self._forward(inputs, window, is_first_iteration=False, attention_mask=mask)

    @staticmethod
    def _step_positions(rows: list[Sequence]) -> Tensor:
        """Position ids `[rows, 1]` or `[axes, rows, 1]`: one past the last on every axis, as in `generate`."""
        steps = []
        for sequence in rows:
            assert sequence.positions is not None
            steps.append(sequence.positions[..., -1:] + len(sequence.tokens))
        return torch.stack(steps, dim=-2)

    # -- choose, retire ------------------------------------------------------------------------------------

    def _choose(self, logits: Tensor, sequences: list[Sequence]) -> None:
        for sequence, token in zip(sequences, choose(logits, sequences), strict=True):
            self._ending.append(sequence, token)

    def _retire(self) -> Iterator[Answer]:
        """Answers the records that have ended, and frees their rows."""
        for sequence, error in self._failed:
            yield sequence.key, error
        failed = {id(sequence) for sequence, _ in self._failed}
        self._failed.clear()
        active = self.scheduler.active
        for row in reversed(range(len(active))):
            sequence = active[row]
            if not sequence.is_finished:
                continue
            last = self.cache.drop_row(row)
            active[row] = active[last]
            active[row].row = row
            active.pop()
            if id(sequence) not in failed:
                yield sequence.key, self.output(sequence)

    def output(self, sequence: Sequence) -> VLMOutput:
        """The answer of a record that has ended."""
        count = len(sequence.tokens)
        return VLMOutput(
            generated_text=self._ending.text(sequence),
            usage=UsageInfo(
                prompt_tokens=sequence.prompt.length,
                completion_tokens=count,
                total_tokens=sequence.prompt.length + count,
            ),
            generation_config=settings_used(sequence.input, sequence.max_new_tokens),
            finish_reason=sequence.finish_reason,
        )


class _Apart(Exception):
    """These prompts cannot be prefilled in one call."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU allocator raises a plain RuntimeError; its text is all there is to tell it by.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _failure(error: Exception, starved: bool) -> VLMError:
    if isinstance(error, VLMError):
        return error
    if starved:
        return GenerationError(
            "memory ran out on this record alone.",
            hint="Use smaller images, fewer new tokens, or a smaller dtype.",
        )
    return GenerationError(f"the model failed on this record: {type(error).__name__}: {error}")
