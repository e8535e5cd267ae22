"""One record on its way through a batch: what it asks, what it has generated, when it ends.

Knows no model and no cache.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pixano_vlm.batching.constraint import Constraint
from pixano_vlm.batching.kv_cache import KeptRow
from pixano_vlm.batching.thinking_constraint import ThinkingConstraint
from pixano_vlm.models.region import ImageSize
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.labels import LabelTree

FinishReason = Literal["stop", "length"]


@dataclass(slots=True, frozen=True)
class PreparedImage:
    """One image as the vision encoder wants it."""

    digest: bytes
    """Of the encoded file and of how it was processed: equal content and options, equal digest, whatever the path."""
    pixels: dict[str, Any]
    """What the model's image processor made of this image alone."""


@dataclass(slots=True, frozen=True)
class Prompt:
    """One record's prompt, ready for the model. Everything is for a batch of one."""

    ids: NDArray[np.int64]
    """Token ids `[length]`, image placeholders included."""
    tensors: dict[str, Any]
    """All that the processor gave, `input_ids` and `attention_mask` too."""
    images: tuple[PreparedImage, ...]
    nbytes: int
    """Memory this prompt holds, for bounding what is prepared ahead."""
    constraint: Constraint | ThinkingConstraint | None = None
    """What its answer may say, where a schema was asked for."""

    labels: LabelTree | None = None
    """What its answer is one of, where that was asked for."""

    thinks: bool = False
    """Whether it ends inside of thoughts, which the answer begins with."""

    image_sizes: tuple[ImageSize, ...] | None = None
    """Those of its images, where somebody asked for them."""

    @property
    def length(self) -> int:
        """Tokens in the prompt."""
        return len(self.ids)

    def for_another_sample(self, *, with_tensors: bool = False) -> Prompt:
        """The same for another sample of the record; without tensors for one that copies what the first computes."""
        constraint = None if self.constraint is None else self.constraint.fresh()
        tensors = self.tensors if with_tensors else {}
        return replace(self, tensors=tensors, nbytes=self.ids.nbytes, constraint=constraint)

    def without_tensors(self) -> Prompt:
        """The same for one that has been computed: pixels of many megabytes are not held while it is answered."""
        return replace(self, tensors={}, images=(), nbytes=self.ids.nbytes)


@dataclass(slots=True, eq=False)
class PromptCopy:
    """What a prompt left in the row of one sample, kept for the other samples of its record that have no row yet."""

    missing: set[int]
    """The places of these."""
    states: KeptRow | None = None
    """What the row held; None: nobody has computed it, or it was dropped."""
    logits: Tensor | None = None
    """`[vocabulary]`, the model's after the prompt."""
    positions: Tensor | None = None
    """The prompt's position ids, as of `Sequence`."""

    def first_of(self, sequences: list[Sequence]) -> Sequence | None:
        """The first of the record's samples in a list."""
        return next((sequence for sequence in sequences if sequence.copy is self), None)

    def has_row(self, place: int) -> None:
        """A sample has the prompt in its row; once all have, nothing is kept."""
        self.missing.discard(place)
        if not self.missing:
            self.drop()

    def drop(self) -> None:
        """Frees what is kept; samples that want it still compute it themselves."""
        self.states = self.logits = None


@dataclass(slots=True, eq=False)
class Sequence:
    """One record in flight."""

    key: Hashable
    input: VLMInput
    prompt: Prompt
    max_new_tokens: int
    """As asked, or less where the model's context ends earlier."""
    arrival: int = 0
    """Which record of the stream this is."""
    shared_ids: NDArray[np.int64] | None = None
    """Token ids in which image placeholders stand for their image's content: equal prefixes, equal keys and
    values. None when this prompt's prefixes cannot be shared."""
    place: int = 0
    """Which sample of its record this is."""
    copy: PromptCopy | None = None
    """Where its record has several samples, what they share; one object for all of them."""
    positions: Tensor | None = None
    """Position ids `[length]` or `[axes, length]`."""
    features: Any = None
    """Encoded images, from encoding to prefill."""
    processors: Any = None
    """Logits processors; empty for plain greedy decoding."""
    generator: Any = None
    """This record's own random numbers; None for greedy decoding."""
    row: int = -1
    prefix: int = 0
    """Leading tokens whose keys and values came from the prefix store."""
    tokens: list[int] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)
    """Of each of `tokens`, the logarithm of its probability; see `likelihood`."""
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    """Of each of `tokens`, the likeliest tokens in its place and their logarithms, where that was asked for."""
    probabilities: dict[str, float] | None = None
    """Of each label."""
    finish_reason: FinishReason | None = None

    @property
    def length(self) -> int:
        """Tokens in the cache once the last generated one has been fed."""
        return self.prompt.length + len(self.tokens)

    @property
    def remaining(self) -> int:
        """Tokens it may still generate."""
        return self.max_new_tokens - len(self.tokens)

    @property
    def last_token(self) -> int:
        """The token that the next decode step feeds."""
        return self.tokens[-1]

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.finish_reason is not None

    def restart(self) -> None:
        """Forgets what was generated, to begin again from the prompt."""
        self.tokens.clear()
        self.logs.clear()
        self.alternatives.clear()
        self.probabilities = None
        self.finish_reason = None
        self.processors = self.generator = self.features = None
        if self.prompt.constraint is not None:
            self.prompt.constraint.restart()
        if self.copy is not None:
            self.copy.missing.add(self.place)
        self.row, self.prefix = -1, 0
