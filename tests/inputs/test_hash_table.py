"""The table keeps every entry, in memory and past it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_vlm.inputs.hash_table import HashTable

pytestmark = pytest.mark.once

keys = st.integers(1, 2**64 - 1) | st.integers(1, 50).map(lambda n: n << 20 | 0x3FF)  # many of one place


@given(st.lists(keys, max_size=300), st.sampled_from([0, 1 << 16, 1 << 20]))
def test_a_key_is_new_once(numbers: list[int], memory: int) -> None:
    table, seen = HashTable(memory=memory), set()
    for number in numbers:
        assert table.add(number) is (number not in seen)
        seen.add(number)
    assert len(table) == len(seen)
    table.close()


@given(st.lists(st.tuples(keys, st.integers(1, 2**40)), max_size=300), st.sampled_from([0, 1 << 20]))
def test_every_value_of_a_key_is_found(entries: list[tuple[int, int]], memory: int) -> None:
    table = HashTable(values=True, memory=memory)
    for key, value in entries:
        table.insert(key, value)
    for key, _ in entries:
        assert sorted(table.find(key)) == sorted(value for other, value in entries if other == key)
    assert list(table.find(2**63 + 12345)) == [v for k, v in entries if k == 2**63 + 12345]
    table.close()


@pytest.mark.parametrize("memory", [1 << 16, 1 << 24])
def test_it_grows_past_memory(memory: int) -> None:
    table = HashTable(memory=memory)
    numbers = [(n * 0x9E3779B97F4A7C15) % 2**64 or 1 for n in range(1, 20_000)]
    assert all(table.add(number) for number in numbers)
    assert not any(table.add(number) for number in numbers)
    table.close()
