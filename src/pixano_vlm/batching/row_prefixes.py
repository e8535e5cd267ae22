"""Prefixes between the rows in flight and the prefix cache: restored into new rows, kept from those that have them.

Knows the cache's rows and no model; what is worth keeping `prefix` says.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pixano_vlm.batching.kv_cache import SlotCache
from pixano_vlm.batching.prefix import SHORTEST, PrefixStore, shared_length
from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.errors import is_out_of_memory

__all__ = ["RowPrefixes"]


class RowPrefixes:
    """Moves the keys and values of prompt beginnings between rows and the prefix cache.

    Args:
        store: The prefix cache.
        cache: The rows.
        image_token: The token whose places an image takes in a prompt.
    """

    def __init__(self, store: PrefixStore, cache: SlotCache, image_token: int | None) -> None:
        self._store = store
        self._cache = cache
        self._image_token = image_token

    def restore(self, sequence: Sequence) -> int:
        """Copies the longest kept beginning into the record's row; returns its length."""
        if sequence.shared_ids is None or not self._store.is_on:
            return 0
        length, states = self._store.find(sequence.shared_ids)
        length = self._not_within_image(sequence, length)
        if states is None or not length:
            return 0
        self._cache.write(sequence.row, states, length)
        self._store.reused_tokens += length
        return length

    def keep_for_later(self, group: list[Sequence], later: Iterable[Sequence]) -> None:
        """Keeps the beginnings that records still to come have in common with these, just computed."""
        if not self._store.is_on:
            return
        others = [s.shared_ids for s in later if s.shared_ids is not None]
        for sequence in group:
            if sequence.shared_ids is not None:
                count = self._store.longest_shared(sequence.shared_ids, others)
                if count:
                    self._store.keep(sequence.shared_ids[:count], self._cache.read(sequence.row, count))

    def keep_from_flight(self, admitted: Iterable[Sequence], active: Iterable[Sequence]) -> None:
        """Keeps what prompts to be computed now begin with in common with rows in flight, where that is not kept.

        When those were computed nobody knew that it would be wanted: these had not arrived.
        """
        rows = [s for s in active if s.shared_ids is not None] if self._store.is_on else []
        for sequence in admitted if rows else ():
            ids = sequence.shared_ids
            # What samples of one record have in common is copied, and need not be kept as a prefix too.
            others = [s for s in rows if s.copy is None or s.copy is not sequence.copy]
            if ids is None or not others:
                continue
            lengths = [shared_length(ids, s.shared_ids) for s in others if s.shared_ids is not None]
            longest = max(lengths)
            if longest >= self._store.kept_length(ids) + SHORTEST:
                self._keep(ids[:longest], others[lengths.index(longest)].row)

    def keep_last(self, sequence: Sequence) -> None:
        """Keeps the prompt of the last row in flight, which is about to be dropped, for whatever comes next."""
        ids = sequence.shared_ids
        if ids is not None and self._store.is_on and len(ids) >= self._store.kept_length(ids) + SHORTEST:
            self._keep(ids, sequence.row)

    def _keep(self, ids: NDArray[np.int64], row: int) -> None:
        try:
            self._store.keep(ids, self._cache.read(row, len(ids)))
        except Exception as error:
            if not is_out_of_memory(error):
                raise  # without memory for a copy it is computed again

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
