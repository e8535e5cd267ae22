"""What recurrent layers keep of the rows in flight: a state for each row, instead of keys and values.

A state is overwritten by every token, so that a forward call that fails half way leaves some layers a token ahead
of others. A call therefore works on copies, and `commit` puts them back when the whole of it has succeeded. Knows
nothing of columns, nor of keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import LinearAttentionCacheLayerMixin


class RowStates(dict[int, Any]):
    """One kind of state, by its number in the layer: as the current call sees it, and as it is kept.

    The call's view is a dict of tensors `[batch, ...]`, each copied from `kept` when first asked for: a model
    may write into it, or put another tensor in its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Tensor] = {}
        """For each number `[rows, ...]`."""
        self._rows = slice(0, 0)
        self._has_past = False

    def focus(self, rows: slice, has_past: bool) -> None:
        """Turns to the next call; what the last one left uncommitted is forgotten."""
        self.clear()
        self._rows = rows
        self._has_past = has_past

    def __missing__(self, index: int) -> Tensor | None:
        if not self._has_past or index not in self.kept:
            return None
        self[index] = self.kept[index][self._rows].clone()
        state: Tensor = self[index]
        return state

    def commit(self, rows: int) -> None:
        """Keeps the call's states, in memory for so many rows."""
        for index, state in self.items():
            if index not in self.kept:
                self.kept[index] = state.new_zeros((rows, *state.shape[1:]))
            self.kept[index][self._rows] = state
        self.clear()


class StateLayer(LinearAttentionCacheLayerMixin):
    """A recurrent layer's states `[rows, ...]`: of its convolution, and of what it sums up.

    Args:
        number_of_states: How many of each kind the layer keeps.
    """

    is_compileable = False

    def __init__(self, number_of_states: int) -> None:
        super().__init__(number_of_states)
        self.conv_states = self._convolved = RowStates()
        self.recurrent_states = self._summed = RowStates()
        self._rows = 0

    def focus(self, rows: slice, has_past: bool) -> None:
        """Turns to the next call: its rows, and whether tokens came before it."""
        for states in self._kinds():
            states.focus(rows, has_past)
        self.has_previous_state = dict.fromkeys(range(self.number_of_states), has_past)

    def commit(self) -> None:
        """Keeps what the call made of its rows' states."""
        for states in self._kinds():
            states.commit(self._rows)

    @property
    def state_bytes(self) -> int:
        """Bytes that the states of all rows take."""
        return sum(state.numel() * state.element_size() for state in self._kept())

    def move_row(self, source: int, target: int) -> None:
        """Copies a row over another."""
        for state in self._kept():
            state[target] = state[source]

    def read_row(self, row: int) -> list[dict[int, Tensor]]:
        """Copies a row's states: of each kind, by its number, `[...]`."""
        return [{index: state[row].clone() for index, state in kind.kept.items()} for kind in self._kinds()]

    def write_row(self, row: int, states: list[dict[int, Tensor]]) -> None:
        """Puts states, as `read_row` gave them, into a row."""
        for kind, of_kind in zip(self._kinds(), states, strict=True):
            for index, state in of_kind.items():
                if index not in kind.kept:
                    kind.kept[index] = state.new_zeros((self._rows, *state.shape))
                kind.kept[index][row] = state

    def resize_rows(self, rows: int, used: int) -> None:
        """Moves the first `used` rows into memory for so many."""
        self._rows = rows
        for states in self._kinds():
            for index, old in states.kept.items():
                new = old.new_zeros((rows, *old.shape[1:]))
                new[:used] = old[:used]
                states.kept[index] = new

    def free_states(self) -> None:
        """Forgets the states of every row."""
        for states in self._kinds():
            states.clear()
            states.kept.clear()

    def _kinds(self) -> tuple[RowStates, RowStates]:
        return self._convolved, self._summed

    def _kept(self) -> Iterator[Tensor]:
        for states in self._kinds():
            yield from states.kept.values()

    # What follows is the interface that transformers' models call.

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do before the first commit."""

    def update_conv_state(
        self, conv_states: Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **kwargs: Any
    ) -> Tensor:
        """Takes in the call's columns `[batch, channels, tokens]`; returns them after what came before.

        As the convolution wants them: a prompt shorter than its kernel is padded on the left.
        """
        size = conv_states.shape[-1] if conv_kernel_size is None else conv_kernel_size
        past = self.conv_states[state_idx]
        if past is not None:
            size = past.shape[-1]
            columns = torch.cat([past, conv_states], dim=-1)
        else:
            columns = torch.nn.functional.pad(conv_states, (max(0, size - conv_states.shape[-1]), 0))
        # A copy, since a view would hold the whole prompt's columns until the commit.
        self.conv_states[state_idx] = columns[..., -size:].clone()
        self.has_previous_state[state_idx] = True
        return columns

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **kwargs: Any) -> Tensor:
        """Takes the state `[batch, ...]` after the call's last token."""
        self.recurrent_states[state_idx] = recurrent_states
        return recurrent_states
