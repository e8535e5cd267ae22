"""One forward call of the model: tensors in, logits out. Prompts as they enter their rows, and decode steps.

Every call is prepared by the model's own `prepare_inputs_for_generation`, as in `generate`. Knows no policy: who
is called with whom, and what happens when a call fails, is the engine's.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pixano_vlm.batching.cache_argument import cache_argument, pass_cache
from pixano_vlm.batching.engine_stats import EngineStats
from pixano_vlm.batching.kv_cache import CacheWindow, LayerKind, SlotCache
from pixano_vlm.batching.label_logits import take_logits
from pixano_vlm.batching.prefix import PrefixStore
from pixano_vlm.batching.row_prefixes import RowPrefixes
from pixano_vlm.batching.sampling import attach_sampling
from pixano_vlm.batching.sequence import PreparedImage, PromptCopy, Sequence
from pixano_vlm.batching.vision import PIXEL_ARGUMENTS, ImageEncoder, ImageFeatures, join
from pixano_vlm.errors import is_out_of_memory
from pixano_vlm.prompts.labels import LabelScores, LabelTree

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")
"""Inputs of a forward call that run along the prompt's tokens."""

MOST_SCORES = 2**26
"""Scores of labels' tokens that are computed at a time."""


class ModelRunner:
    """Calls one model on rows of a `SlotCache`.

    Args:
        model: The transformers model, in eval mode.
        kinds: For each layer of the decoder, what it keeps.
        image_features: Whether to encode images apart from the prompts, if the model takes them so.
        image_bytes: Budget for encoded images kept for reuse.
        prefix_bytes: Budget for keys and values of shared prefixes.
    """

    def __init__(
        self,
        model: Any,
        kinds: tuple[LayerKind, ...],
        *,
        image_features: bool,
        image_bytes: int,
        prefix_bytes: int,
    ) -> None:
        self._model = model
        self._device = model.device
        self._arguments = frozenset(inspect.signature(model.forward).parameters)
        self._cache_argument = cache_argument(model.forward)
        # A class of someone else's may take it on, unnamed, to transformers' own.
        self._prepared_as = cache_argument(model.prepare_inputs_for_generation) or self._cache_argument
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in self._arguments else {}
        self._vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
        self._image_token = getattr(model.config, "image_token_id", None)
        self.cache = SlotCache(kinds)
        self.encoder = ImageEncoder(model, image_bytes)
        self.encodes = image_features and self.encoder.is_available
        self.prefixes = PrefixStore(prefix_bytes)
        self.row_prefixes = RowPrefixes(self.prefixes, self.cache, self._image_token)
        self.stats = EngineStats()

    # -- before the prompt -----------------------------------------------------------------------------------

    @torch.inference_mode()
    def begin(self, sequence: Sequence) -> None:
        """Readies a record for its prefill: its sampling, its position ids, its images encoded."""
        began = time.perf_counter()
        if sequence.processors is None:
            attach_sampling(self._model, sequence)
        if sequence.positions is None:
            sequence.positions = self._position_ids(sequence)
        if sequence.features is None and self.encodes:
            sequence.features = self._encode(sequence)
        self.stats.vision_seconds += time.perf_counter() - began

    def _position_ids(self, sequence: Sequence) -> Tensor:
        """The model's own position ids of a prompt: `[length]`, or `[axes, length]`."""
        tensors = {k: self._place(v) for k, v in sequence.prompt.tensors.items() if k not in PIXEL_ARGUMENTS}
        positions: Tensor = self._model._prepare_position_ids_for_generation(tensors["input_ids"], tensors)
        return positions.squeeze(-2).cpu()

    def _encode(self, sequence: Sequence) -> list[ImageFeatures] | None:
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

    # -- prefill ---------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def prefill(
        self, group: list[Sequence], rows: slice, *, together: bool, later: Iterable[Sequence]
    ) -> Tensor:
        """Runs the prompts of a group into their rows.

        Args:
            group: Records that `begin` has readied; one alone unless `together`.
            rows: Their rows, already taken.
            together: Whether prompts may be padded, and begin with a prefix that is kept.
            later: Records still to come, whose common beginnings are worth keeping.

        Returns:
            Logits `[group, vocabulary]` at each prompt's last position.
        """
        began = time.perf_counter()
        for row, sequence in enumerate(group, start=rows.start):
            sequence.row = row
        if together:
            logits = self._prefill_together(group, rows)
            self.row_prefixes.keep_for_later(group, later)
        else:
            logits = self._prefill_alone(group[0])
        self.stats.prefill_seconds += time.perf_counter() - began
        self.stats.prefill_calls += 1
        self.stats.prefill_tokens += sum(s.prompt.length - s.prefix for s in group)
        self.stats.peak_cache_bytes = max(self.stats.peak_cache_bytes, self.cache.nbytes)
        return logits

    def _prefill_together(self, group: list[Sequence], rows: slice) -> Tensor:
        clock = self.cache.clock
        for sequence in group:
            sequence.prefix = self.row_prefixes.restore(sequence)
        lengths = [sequence.prompt.length for sequence in group]
        fresh = [sequence.prompt.length - sequence.prefix for sequence in group]
        width, longest = max(fresh), max(lengths)
        valid = None
        if min(fresh) < width:
            written = torch.arange(clock - width, clock, device=self._device)
            counts = torch.tensor(fresh, device=self._device)
            valid = (written >= clock - counts[:, None])[:, None, :, None]  # [rows, 1, width, 1]
        features = [f for sequence in group for f in self._fresh_features(sequence)]
        return self._forward(
            self._align_right(group, fresh, width),
            self.cache.window(rows, clock - longest, clock - width, clock, valid),
            is_first_iteration=True,
            attention_mask=self._mask(lengths, longest),
            **({"mm_encoder_outputs": join(features)} if features else {}),
        )

    def _prefill_alone(self, sequence: Sequence) -> Tensor:
        """One whole prompt with all that its processor gave, as `generate` runs it."""
        clock, length = self.cache.clock, sequence.prompt.length
        tensors = {name: self._place(value) for name, value in sequence.prompt.tensors.items()}
        tensors.pop("attention_mask", None)
        if sequence.features is not None:
            for name in PIXEL_ARGUMENTS:
                tensors.pop(name, None)
            if sequence.features:
                tensors["mm_encoder_outputs"] = join(sequence.features)
        assert sequence.positions is not None
        tensors["position_ids"] = sequence.positions.to(self._device)[..., None, :]
        rows = slice(sequence.row, sequence.row + 1)
        window = self.cache.window(rows, clock - length, clock - length, clock)
        return self._forward(tensors, window, is_first_iteration=True, attention_mask=None)

    def _align_right(self, group: list[Sequence], fresh: list[int], width: int) -> dict[str, Tensor]:
        """The new tokens of each prompt at the right edge of `[group, width]`, and what runs along them."""
        first = group[0]
        assert first.positions is not None
        ids = torch.full((len(group), width), _padding(first.prompt.ids, self._image_token), dtype=torch.long)
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

    def keep_prompt(self, sequence: Sequence, copy: PromptCopy, logits: Tensor) -> None:
        """Keeps what a prompt left in its row for the samples that have no row yet.

        Args:
            sequence: The sample that has computed it, just now.
            copy: What the samples share.
            logits: `[vocabulary]`, those after the prompt.
        """
        copy.has_row(sequence.place)
        if not copy.missing or copy.states is not None:
            return
        try:
            copy.positions, copy.logits = sequence.positions, logits.clone()
            copy.states = self.cache.read_row(sequence.row)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            copy.drop()  # each of the others computes it again, when it has a row

    @torch.inference_mode()
    def copy_prompts(self, group: list[Sequence], rows: slice) -> Tensor:
        """Puts prompts that other samples have computed into rows, already taken; logits `[group, vocabulary]`."""
        began = time.perf_counter()
        logits = []
        for row, sequence in enumerate(group, start=rows.start):
            copy = sequence.copy
            assert copy is not None
            assert copy.states is not None
            assert copy.logits is not None
            sequence.positions = copy.positions
            if sequence.processors is None:
                attach_sampling(self._model, sequence)
            self.cache.write_row(row, copy.states)
            logits.append(copy.logits)
            sequence.row, sequence.prefix = row, sequence.prompt.length
        for sequence in group:
            assert sequence.copy is not None
            sequence.copy.has_row(sequence.place)
        self.stats.prefill_seconds += time.perf_counter() - began
        self.stats.peak_cache_bytes = max(self.stats.peak_cache_bytes, self.cache.nbytes)
        return torch.stack(logits)

    # -- decode ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self, sequences: list[Sequence], rows: slice) -> Tensor:
        """Feeds each record its last token; logits `[rows, vocabulary]`. Does not move the cache's clock."""
        clock = self.cache.clock
        lengths = [length + 1 for length in self.cache.lengths[rows]]
        longest = max(lengths)
        ids = torch.tensor([[sequence.last_token] for sequence in sequences], device=self._device)
        return self._forward(
            {"input_ids": ids, "position_ids": _next_positions(sequences).to(self._device)},
            self.cache.window(rows, clock + 1 - longest, clock, clock + 1),
            is_first_iteration=False,
            attention_mask=self._mask(lengths, longest),
        )

    @torch.inference_mode()
    def score_labels(self, sequence: Sequence, tree: LabelTree, scores: LabelScores) -> None:
        """Computes all labels behind a prompt that is in its row, in columns that nothing else uses yet.

        Each token sees the prompt and the tokens before it in its own label.
        """
        step = max(1, MOST_SCORES // self._vocabulary)
        columns: dict[int, int] = {}
        while wave := scores.next_nodes():
            for nodes in (wave[first : first + step] for first in range(0, len(wave), step)):
                columns.update({node: len(columns) + place for place, node in enumerate(nodes)})
                take_logits(scores, nodes, self._scores_after(sequence, tree, nodes, columns))

    def _scores_after(
        self, sequence: Sequence, tree: LabelTree, nodes: list[int], columns: dict[int, int]
    ) -> Tensor:
        """`[nodes, vocabulary]`, after nodes that come next in the columns behind a prompt.

        Args:
            sequence: The record.
            tree: Of its labels.
            nodes: Those to compute.
            columns: The column of each node, counted from the prompt's end; of these and those before them.
        """
        clock, length = self.cache.clock, sequence.prompt.length
        assert sequence.positions is not None
        last = len(columns)
        first = last - len(nodes)
        depths = torch.tensor([tree.depths[node] for node in nodes])
        positions = (sequence.positions[..., -1:] + depths)[..., None, :].to(self._device)
        sees = torch.zeros(len(nodes), length + last, dtype=torch.bool)
        sees[:, :length] = True
        for row, node in enumerate(nodes):
            sees[row, [length + columns[before] for before in tree.path(node)]] = True
        mask = torch.zeros(sees.shape, dtype=self._model.dtype)
        mask.masked_fill_(~sees, torch.finfo(self._model.dtype).min)
        window = self.cache.window(
            slice(sequence.row, sequence.row + 1), clock - length, clock + first, clock + last
        )
        logits = self._call(
            {
                "input_ids": torch.tensor([[tree.tokens[node] for node in nodes]], device=self._device),
                "position_ids": positions,
            },
            window,
            is_first_iteration=True,
            attention_mask=mask[None, None].to(self._device),
            **({"logits_to_keep": len(nodes)} if self._last_only else {}),
        )
        return logits[0]

    # -- both ------------------------------------------------------------------------------------------------

    def _forward(self, tensors: dict[str, Any], window: CacheWindow, **options: Any) -> Tensor:
        logits = self._call(tensors, window, **self._last_only, **options)[:, -1]
        self.cache.commit()
        return logits

    def _call(self, tensors: dict[str, Any], window: CacheWindow, **options: Any) -> Tensor:
        assert self._cache_argument is not None  # a model without one is not batched by an engine
        assert self._prepared_as is not None
        inputs = self._model.prepare_inputs_for_generation(
            **tensors, **options, **{self._prepared_as: window}, use_cache=True
        )
        logits: Tensor = self._model(**pass_cache(inputs, self._cache_argument)).logits
        return logits

    def _mask(self, lengths: list[int], longest: int) -> Tensor | None:
        """2D attention mask `[rows, longest]` of rows that all end at the right; None where there is no padding."""
        if min(lengths) == longest:
            return None
        columns = torch.arange(longest, device=self._device)
        return (columns >= longest - torch.tensor(lengths, device=self._device)[:, None]).long()

    def _place(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self._device, self._model.dtype if value.is_floating_point() else None)

    # -- prefixes --------------------------------------------------------------------------------------------

    def _fresh_features(self, sequence: Sequence) -> list[ImageFeatures]:
        """Features of the images that stand after the restored prefix."""
        covered = int((sequence.prompt.ids[: sequence.prefix] == self._image_token).sum())
        fresh, end = [], 0
        for features in sequence.features or []:
            if end >= covered:
                fresh.append(features)
            end += features.tokens
        return fresh


def _next_positions(sequences: list[Sequence]) -> Tensor:
    """Position ids `[rows, 1]` or `[axes, rows, 1]`: one past the last on every axis, as in `generate`."""
    steps = []
    for sequence in sequences:
        assert sequence.positions is not None
        steps.append(sequence.positions[..., -1:] + len(sequence.tokens))
    return torch.stack(steps, dim=-2)


def _padding(ids: NDArray[Any], image_token: int | None) -> int:
    """A token to pad with: any of the prompt's own that is not a placeholder for an image."""
    words = ids[ids != image_token] if image_token is not None else ids
    return int(words[0]) if len(words) else 0
