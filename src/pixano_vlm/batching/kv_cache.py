"""Keys and values of all records in flight, on one shared clock.

A row's tokens end at column `clock`, whatever their number: row i of length n holds columns
[clock - n, clock). Every decode step writes the one column `clock` for all rows and moves the clock on.

        columns      0 1 2 3 4 5 6 7 | 8 = clock
        row 0        . . . a b c d e |
        row 1        . . . . . . f g |
        row 2        . h i j k l m n |

To the model this is exactly a left-padded batch, the one layout that every decoder of transformers
understands: its own code builds the masks (causal, sliding, blockwise) from a plain 2D attention mask, and the
distance between two columns is the distance between two positions. What recurrent layers keep has no columns, only
rows (`recurrent`). Knows nothing of images, prompts or scheduling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from pixano_vlm.batching.recurrent import StateLayer

SLACK = 128
"""Columns kept beyond what the longest row needs, so that making room is rare."""


@dataclass(frozen=True, slots=True)
class LayerKind:
    """What a layer of the decoder keeps of every row. A layer that uses another's keys and values keeps nothing."""

    attends: bool = True
    """Keys and values."""
    slides: bool = False
    """Its attention slides. All columns are kept all the same: the model's own mask hides what is outside."""
    states: int = 0
    """Pairs of states, of a convolution and of what a recurrence sums up."""


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A copy of all that one row holds."""

    attended: list[tuple[Tensor, Tensor] | None]
    """As of `SlotCache.read`."""
    states: list[list[dict[int, Tensor]]]
    """For each recurrent layer, as of `StateLayer.read_row`."""


class SlotCache:
    """Rows of keys and values, and of states, for as many records as are in flight.

    Args:
        kinds: For each layer of the decoder, what it keeps.
    """

    def __init__(self, kinds: Sequence[LayerKind]) -> None:
        self.rows = 0
        self.columns = 0
        self.clock = 0
        self.lengths: list[int] = []
        self._window = CacheWindow(self, kinds)

    @property
    def layers(self) -> list[SlotLayer]:
        """The layers that attend, each with its keys and values `[rows, heads, columns, head_dim]`."""
        return self._window.slot_layers

    @property
    def nbytes(self) -> int:
        """Bytes that keys, values and states take."""
        return self._column_bytes + self._state_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes in all layers; 0 before anything was written."""
        return self._column_bytes // max(1, self.rows * self.columns)

    @property
    def row_bytes(self) -> int:
        """Bytes that a row's states take, however long it is; 0 before anything was written."""
        return self._state_bytes // max(1, self.rows)

    @property
    def _column_bytes(self) -> int:
        tensors = (t for layer in self.layers for t in (layer.keys, layer.values) if t is not None)
        return sum(t.numel() * t.element_size() for t in tensors)

    @property
    def _state_bytes(self) -> int:
        return sum(layer.state_bytes for layer in self._window.state_layers)

    @property
    def first_column(self) -> int:
        """Where the longest row begins."""
        return self.clock - max(self.lengths, default=0)

    def make_room(self, lengths: Sequence[int], steps: int, row_limit: int) -> None:
        """Makes room for rows of these lengths beside those that are there, and for `steps` more columns.

        Args:
            lengths: Prompt lengths of the new rows, in tokens.
            steps: Columns that must follow the clock: the most tokens any row may still write.
            row_limit: Rows that will never be exceeded; growth stops there.
        """
        rows = len(self.lengths) + len(lengths)
        longest = max([*lengths, *self.lengths], default=0)
        need = longest + steps
        if rows > self.rows or need > self.columns:
            if need > self.columns or rows * self.columns > row_limit * (need + SLACK):
                columns = need + SLACK
            else:
                columns = self.columns
            self._reallocate(min(max(rows, 2 * self.rows), row_limit), columns, longest)
        elif self.clock < longest or self.clock + steps > self.columns:
            self._move_clock(longest)

    def add_rows(self, lengths: Sequence[int]) -> slice:
        """Appends rows whose prompts end at the clock; returns which."""
        first = len(self.lengths)
        self.lengths.extend(lengths)
        return slice(first, first + len(lengths))

    @torch.inference_mode()
    def drop_row(self, row: int) -> int:
        """Forgets a row. The last row moves into its place, so that rows stay compact; returns that row."""
        last = len(self.lengths) - 1
        used = slice(self.clock - max(self.lengths[row], self.lengths[last]), self.clock)
        for layer in self.layers:
            if layer.keys is not None:
                for states in (layer.keys, layer.values):
                    if row != last:
                        states[row, :, used] = states[last, :, used]
                    states[last, :, used] = 0  # see `SlotLayer.allocate`
        if row != last:
            for state_layer in self._window.state_layers:
                state_layer.move_row(last, row)
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        return last

    def tick(self) -> None:
        """Counts the column that a decode step wrote for every row."""
        self.clock += 1
        self.lengths = [length + 1 for length in self.lengths]

    def window(
        self, rows: slice, start: int, begin: int, end: int, valid: Tensor | None = None
    ) -> CacheWindow:
        """The cache as one forward call sees it: some rows, columns [start, end), of which it writes [begin, end).

        Args:
            rows: The rows of the call's batch.
            start: First column the call may see.
            begin: First column it writes; [start, begin) is its past.
            end: One past the last column it writes.
            valid: `[rows, 1, end - begin, 1]`, false where a row's column is padding of this call and what
                is there must stay. None: all are written.
        """
        self._window.focus(rows, start, begin, end, valid)
        return self._window

    def commit(self) -> None:
        """Keeps the states that the call of the last `window` left, now that it has succeeded.

        Keys and values need no such thing: until the clock moves on, a call's columns may be written again.
        """
        for layer in self._window.state_layers:
            layer.commit()

    def read(self, row: int, count: int) -> list[tuple[Tensor, Tensor] | None]:
        """Copies the first `count` columns of a row: for each layer keys and values `[heads, count, head_dim]`."""
        begin = self.clock - self.lengths[row]
        part = slice(begin, begin + count)
        return [
            None
            if layer.keys is None
            else (layer.keys[row, :, part].clone(), layer.values[row, :, part].clone())
            for layer in self.layers
        ]

    def write(self, row: int, states: Sequence[tuple[Tensor, Tensor] | None], count: int) -> None:
        """Puts the first `count` columns of `states`, as `read` gave them, at the beginning of a row."""
        begin = self.clock - self.lengths[row]
        part = slice(begin, begin + count)
        for layer, state in zip(self.layers, states, strict=True):
            if state is not None:
                layer.allocate(state[0], state[1])
                layer.keys[row, :, part] = state[0][:, :count]
                layer.values[row, :, part] = state[1][:, :count]

    @torch.inference_mode()
    def read_row(self, row: int) -> KeptRow:
        """Copies all that a row holds."""
        recurrent = [layer.read_row(row) for layer in self._window.state_layers]
        return KeptRow(self.read(row, self.lengths[row]), recurrent)

    @torch.inference_mode()
    def write_row(self, row: int, kept: KeptRow) -> None:
        """Puts a copy of a row of the same length into another."""
        self.write(row, kept.attended, self.lengths[row])
        for layer, states in zip(self._window.state_layers, kept.states, strict=True):
            layer.write_row(row, states)

    def clear(self) -> None:
        """Forgets every row and frees the memory."""
        self.rows = self.columns = self.clock = 0
        self.lengths = []
        for layer in self.layers:
            layer.free()
        for state_layer in self._window.state_layers:
            state_layer.free_states()

    def _reallocate(self, rows: int, columns: int, clock: int) -> None:
        old, first = self.clock, self.first_column
        self.rows, self.columns = rows, columns
        for layer in self.layers:  # layer by layer, so that only one is ever there twice
            layer.resize(len(self.lengths), first, old, clock)
        for state_layer in self._window.state_layers:
            state_layer.resize_rows(rows, len(self.lengths))
        self.clock = clock

    def _move_clock(self, clock: int) -> None:
        old, first = self.clock, self.first_column
        kept, moved = slice(first, old), slice(first + clock - old, clock)
        for layer in self.layers:
            if layer.keys is not None and self.lengths:
                for states in (layer.keys[: len(self.lengths)], layer.values[: len(self.lengths)]):
                    copy = states[:, :, kept].clone()  # since the two ranges may overlap
                    states[:, :, kept] = 0
                    states[:, :, moved] = copy
        self.clock = clock


@dataclass(slots=True)
class _Span:
    """What the current forward call sees and writes."""

    rows: slice
    start: int
    begin: int
    end: int
    valid: Tensor | None


class CacheWindow(Cache):
    """A `Cache` for one forward call: a window on a `SlotCache`."""

    def __init__(self, slots: SlotCache, kinds: Sequence[LayerKind]) -> None:
        self.span = _Span(slice(0, 0), 0, 0, 0, None)
        layers = [_layer(slots, self, kind) for kind in kinds]
        self.slot_layers = [layer for layer in layers if isinstance(layer, SlotLayer)]
        self.state_layers = [layer for layer in layers if isinstance(layer, StateLayer)]
        super().__init__(layers=list(layers))

    def focus(self, rows: slice, start: int, begin: int, end: int, valid: Tensor | None) -> None:
        """Turns the window to the next call."""
        self.span = _Span(rows, start, begin, end, valid)
        for layer in self.state_layers:
            layer.focus(rows, has_past=begin > start)


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # its __init_subclass__ is untyped
    """One layer's keys and values `[rows, heads, columns, head_dim]`, allocated when their shape is first seen."""

    is_compileable = False

    def __init__(self, slots: SlotCache, window: CacheWindow, is_sliding: bool) -> None:
        CacheLayerMixin.__init__(self)  # type: ignore[no-untyped-call]
        self.keys: Any = None
        self.values: Any = None
        self.is_sliding = is_sliding
        self._slots = slots
        self._window = window

    def allocate(self, keys: Tensor, values: Tensor) -> None:
        """Allocates for states shaped `[..., heads, tokens, head_dim]`, if that was not done yet."""
        if self.keys is None:
            # Zeros, not whatever memory holds: a masked column still meets a probability of 0, and 0 * NaN is NaN.
            rows, columns = self._slots.rows, self._slots.columns
            self.keys, self.values = (  # both or, where memory runs out, neither
                states.new_zeros((rows, states.shape[-3], columns, states.shape[-1]))
                for states in (keys, values)
            )
            self.is_initialized = True

    def resize(self, used: int, first: int, last: int, clock: int) -> None:
        """Moves columns [first, last) of the first `used` rows into new memory, so that they end at `clock`."""
        if self.keys is None:
            return
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros((self._slots.rows, old.shape[1], self._slots.columns, old.shape[3]))
            new[:used, :, clock - (last - first) : clock] = old[:used, :, first:last]
            setattr(self, name, new)

    def free(self) -> None:
        """Forgets keys and values."""
        self.keys = self.values = None
        self.is_initialized = False

    # What follows is the interface that transformers' models call.

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocates on the first update."""
        self.allocate(key_states, value_states)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes the call's columns `[batch, heads, tokens, head_dim]`; returns all that it may see."""
        self.allocate(key_states, value_states)
        span = self._window.span
        keys, values = self.keys[span.rows], self.values[span.rows]  # views
        new_keys, new_values = keys[:, :, span.begin : span.end], values[:, :, span.begin : span.end]
        if span.valid is None:
            new_keys.copy_(key_states)
            new_values.copy_(value_states)
        else:
            new_keys.copy_(torch.where(span.valid, key_states, new_keys))
            new_values.copy_(torch.where(span.valid, value_states, new_values))
        return keys[:, :, span.start : span.end], values[:, :, span.start : span.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` returns."""
        return self._window.span.begin - self._window.span.start + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens before this call, padding included."""
        return self._window.span.begin - self._window.span.start

    def get_max_length(self) -> int:
        """No bound: the slots grow."""
        return -1


class StateSlotLayer(StateLayer, SlotLayer):  # type: ignore[no-untyped-call,override]  # of transformers
    """A layer with a recurrence beside its attention."""

    def __init__(self, slots: SlotCache, window: CacheWindow, kind: LayerKind) -> None:
        StateLayer.__init__(self, kind.states)
        SlotLayer.__init__(self, slots, window, kind.slides)


def _layer(slots: SlotCache, window: CacheWindow, kind: LayerKind) -> SlotLayer | StateLayer:
    if not kind.states:
        return SlotLayer(slots, window, kind.slides)
    return StateSlotLayer(slots, window, kind) if kind.attends else StateLayer(kind.states)
