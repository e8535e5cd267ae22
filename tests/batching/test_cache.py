"""The slot cache is a list of rows, whatever it does with columns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixano_vlm.batching.kv_cache import LayerKind, SlotCache

pytestmark = pytest.mark.once

HEADS, DIM, LAYERS = 2, 3, 2


def tokens(values: list[int]) -> Tensor:
    """States `[1, heads, tokens, dim]` that say which token they are."""
    return torch.tensor(values, dtype=torch.float32)[None, None, :, None].expand(1, HEADS, len(values), DIM)


class Rows:
    """What the cache must hold: for each row the numbers of its tokens."""

    def __init__(self) -> None:
        self.cache = SlotCache([LayerKind()] * LAYERS)
        self.rows: list[list[int]] = []
        self.next = 1

    def fresh(self, count: int) -> list[int]:
        self.next += count
        return list(range(self.next - count, self.next))

    def prefill(self, lengths: list[int], steps: int) -> None:
        """New prompts of these lengths, right-aligned in one call, as the engine writes them."""
        self.cache.make_room(lengths, steps, row_limit=64)
        where = self.cache.add_rows(lengths)
        width, clock = max(lengths), self.cache.clock
        added = [self.fresh(length) for length in lengths]
        padded = torch.cat([tokens([-7] * (width - len(row)) + row) for row in added])
        counts = torch.tensor(lengths)[:, None]
        valid = (torch.arange(clock - width, clock) >= clock - counts)[:, None, :, None]
        window = self.cache.window(where, clock - width, clock - width, clock, valid)
        for layer in range(LAYERS):
            window.update(padded + layer, -padded - layer, layer)
        self.rows += added

    def decode(self) -> None:
        """One token for each row."""
        if not self.rows:
            return
        clock = self.cache.clock
        new = [self.fresh(1) for _ in self.rows]
        start = clock - max(len(row) for row in self.rows)
        window = self.cache.window(slice(0, len(self.rows)), start, clock, clock + 1)
        assert window.get_seq_length() == clock - start
        states = torch.cat([tokens(row) for row in new])
        for layer in range(LAYERS):
            keys, _ = window.update(states + layer, -states - layer, layer)
            assert keys.shape == (len(self.rows), HEADS, clock + 1 - start, DIM)
        self.cache.tick()
        self.rows = [row + added for row, added in zip(self.rows, new, strict=True)]

    def drop(self, row: int) -> None:
        moved = self.cache.drop_row(row)
        self.rows[row] = self.rows[moved]
        self.rows.pop()

    def check(self) -> None:
        clock = self.cache.clock
        assert self.cache.lengths == [len(row) for row in self.rows]
        for index, row in enumerate(self.rows):
            for number, layer in enumerate(self.cache.layers):
                part = slice(clock - len(row), clock)
                assert torch.equal(layer.keys[index, :, part], tokens(row)[0] + number)
                assert torch.equal(layer.values[index, :, part], -tokens(row)[0] - number)
                assert not torch.isnan(layer.keys).any()


ACTIONS = st.one_of(
    st.tuples(st.just("prefill"), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 30)),
    st.tuples(st.just("decode"), st.integers(1, 20)),
    st.tuples(st.just("drop"), st.integers(0, 10)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=25))
def test_rows_keep_their_tokens_whatever_comes_and_goes(actions: list[tuple]) -> None:
    state = Rows()
    for action in actions:
        if action[0] == "prefill":
            state.prefill(action[1], action[2])
        elif action[0] == "decode":
            for _ in range(action[1]):
                if state.rows:
                    state.cache.make_room([], 1, row_limit=64)
                    state.decode()
        elif state.rows:
            state.drop(action[1] % len(state.rows))
        state.check()


def test_a_prefix_read_from_one_row_can_be_written_to_another() -> None:
    state = Rows()
    state.prefill([20, 9], steps=5)
    kept = state.cache.read(0, 12)
    state.cache.write(1, kept, 6)
    state.rows[1][:6] = state.rows[0][:6]
    state.check()
