"""A recurrent layer's states in rows: each row's are what transformers' own layer holds for that record alone."""

from __future__ import annotations

from copy import deepcopy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.cache_utils import LinearAttentionLayer

from pixano_vlm.batching.kv_cache import CacheWindow, LayerKind, SlotCache

CHANNELS, KERNEL = 3, 4


def feed(layer: object, columns: Tensor, in_place: bool) -> Tensor:
    """What a model does with a layer: its convolution's columns, then the sum of all that it has seen."""
    past = layer.conv_states[0] if layer.has_previous_state[0] else None  # type: ignore[attr-defined]
    total = layer.recurrent_states[0] if layer.has_previous_state[0] else None  # type: ignore[attr-defined]
    if past is not None and in_place:
        seen = torch.cat([past, columns], dim=-1)
        past.copy_(seen[..., -KERNEL:])
    else:
        seen = layer.update_conv_state(columns, 0, conv_kernel_size=KERNEL)  # type: ignore[attr-defined]
    if total is not None and in_place:
        total.add_(columns.sum(-1))
    else:
        added = columns.sum(-1)
        layer.update_recurrent_state(added if total is None else total + added, 0)  # type: ignore[attr-defined]
    return seen


class Rows:
    """A cache of one attending and one recurrent layer, and beside it each record's own layer of transformers."""

    def __init__(self) -> None:
        self.cache = SlotCache([LayerKind(), LayerKind(attends=False, states=1)])
        self.alone: list[LinearAttentionLayer] = []
        self.number = 0.0

    def columns(self, rows: int, tokens: int) -> Tensor:
        self.number += 1
        return self.number + torch.arange(rows * CHANNELS * tokens).reshape(rows, CHANNELS, tokens)

    def attend(self, window: CacheWindow, rows: int, tokens: int) -> None:
        window.update(torch.zeros(rows, 1, tokens, 1), torch.zeros(rows, 1, tokens, 1), 0)

    def prefill(self, length: int, fails: bool) -> None:
        self.cache.make_room([length], steps=8, row_limit=16)
        rows = self.cache.add_rows([length])
        clock = self.cache.clock
        window = self.cache.window(rows, clock - length, clock - length, clock)
        self.attend(window, 1, length)
        new = self.columns(1, length)
        seen = feed(window.layers[1], new, in_place=False)
        if fails:
            del self.cache.lengths[rows.start :]
            return
        self.cache.commit()
        alone = LinearAttentionLayer()
        assert torch.equal(seen, feed(alone, new, in_place=False))
        self.alone.append(alone)

    def decode(self, fails: bool, in_place: bool) -> None:
        if not self.alone:
            return
        count, clock = len(self.alone), self.cache.clock
        longest = max(self.cache.lengths) + 1
        new = self.columns(count, 1)
        for first, last in ((0, count),) if not fails else ((0, count), (0, count // 2), (count // 2, count)):
            if first == last:
                continue
            window = self.cache.window(slice(first, last), clock + 1 - longest, clock, clock + 1)
            self.attend(window, last - first, 1)
            seen = feed(window.layers[1], new[first:last], in_place)
            if fails and last - first == count > 1:
                continue  # this call fails after its recurrent layer; it is tried again in halves
            self.cache.commit()
            for row in range(first, last):
                own = feed(self.alone[row], new[row : row + 1], in_place=False)
                assert torch.equal(seen[row - first], own[0])
            if fails and last == count:
                break
        self.cache.tick()

    def copy(self, row: int) -> None:
        """Another row for a record that has what one of these has."""
        if not self.alone:
            return
        row %= len(self.alone)
        kept, length = self.cache.read_row(row), self.cache.lengths[row]
        self.cache.make_room([length], steps=8, row_limit=16)
        rows = self.cache.add_rows([length])
        self.cache.write_row(rows.start, kept)
        self.alone.append(deepcopy(self.alone[row]))

    def drop(self, row: int) -> None:
        if not self.alone:
            return
        row %= len(self.alone)
        moved = self.cache.drop_row(row)
        self.alone[row] = self.alone[moved]
        self.alone.pop()

    def check(self) -> None:
        if not self.alone:
            return
        clock, longest = self.cache.clock, max(self.cache.lengths)
        window = self.cache.window(slice(0, len(self.alone)), clock + 1 - longest - 1, clock, clock + 1)
        layer = window.layers[1]
        for row, alone in enumerate(self.alone):
            assert torch.equal(layer.conv_states[0][row], alone.conv_states[0][0])
            assert torch.equal(layer.recurrent_states[0][row], alone.recurrent_states[0][0])


ACTIONS = st.one_of(
    st.tuples(st.just("prefill"), st.integers(1, 9), st.booleans()),
    st.tuples(st.just("decode"), st.booleans(), st.booleans()),
    st.tuples(st.just("drop"), st.integers(0, 9)),
    st.tuples(st.just("copy"), st.integers(0, 9)),
)


@given(st.lists(ACTIONS, min_size=1, max_size=20))
@settings(deadline=None)
def test_each_row_has_the_states_it_would_have_alone_whatever_fails_and_whoever_leaves(
    actions: list[tuple[str, int | bool]],
) -> None:
    rows = Rows()
    for name, *arguments in actions:
        getattr(rows, str(name))(*arguments)
        rows.check()


def test_states_take_memory_by_rows_and_not_by_tokens() -> None:
    rows = Rows()
    rows.prefill(5, fails=False)
    taken = rows.cache.row_bytes
    assert taken == CHANNELS * KERNEL * 4 + CHANNELS * 4 or taken == CHANNELS * KERNEL * 8 + CHANNELS * 8
    rows.prefill(40, fails=False)
    assert rows.cache.row_bytes == taken
    rows.cache.clear()
    assert rows.cache.nbytes == 0
