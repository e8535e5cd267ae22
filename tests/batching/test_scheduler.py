"""Who goes next: within the budgets, images together, long answers first, nobody left behind."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pixano_vlm.batching.kv_cache import SLACK
from pixano_vlm.batching.scheduler import PATIENCE, SAMPLE_ROWS, Scheduler
from pixano_vlm.batching.sequence import PreparedImage, Prompt, PromptCopy, Sequence
from pixano_vlm.models import VLMInput


def sequence(arrival: int, length: int = 10, new: int = 5, image: str | None = None) -> Sequence:
    images = (PreparedImage(image.encode(), {}),) if image else ()
    prompt = Prompt(np.arange(length), {}, images, 0)
    return Sequence(
        arrival, VLMInput(prompt="", max_new_tokens=new), prompt, max_new_tokens=new, arrival=arrival
    )


SEQUENCES = st.lists(
    st.tuples(st.integers(1, 400), st.integers(1, 64), st.sampled_from([None, "a", "b", "c"])), max_size=40
)


@given(SEQUENCES, st.integers(1, 8), st.integers(1, 3000))
def test_everything_is_admitted_once_and_budgets_hold(
    sizes: list[tuple[int, int, str | None]], rows: int, tokens: int
) -> None:
    scheduler = Scheduler(rows, tokens)
    for arrival, (length, new, image) in enumerate(sizes):
        scheduler.add(sequence(arrival, length, new, image))
    seen: list[int] = []
    while scheduler.waiting:
        admitted = scheduler.admit()
        assert admitted, "with nothing in flight, something is always admitted"
        scheduler.active += admitted
        assert len(scheduler.active) <= rows
        # Rows end at one column: the longest row decides where it is, the longest answer how many follow.
        span = max(s.length for s in scheduler.active) + max(s.remaining for s in scheduler.active)
        assert len(scheduler.active) == 1 or len(scheduler.active) * (span + SLACK) <= tokens
        assert len(scheduler.active) <= max(1, scheduler.row_limit(scheduler.active))
        seen += [s.arrival for s in admitted]
        scheduler.active.clear()
    assert sorted(seen) == list(range(len(sizes)))


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 8), st.integers(200, 9_000))
def test_samples_count_as_a_part_of_a_record_and_budgets_hold(ns: list[int], rows: int, tokens: int) -> None:
    scheduler = Scheduler(rows, tokens)
    for arrival, n in enumerate(ns):
        copy = PromptCopy(set(range(n))) if n > 1 else None
        for _ in range(n):
            one = sequence(arrival)
            one.copy = copy
            scheduler.add(one)
    count = 0
    while scheduler.waiting:
        admitted = scheduler.admit()
        assert admitted
        alone = sum(one.copy is None for one in admitted)
        assert alone + (len(admitted) - alone) / SAMPLE_ROWS <= rows
        assert len(admitted) == 1 or len(admitted) * (10 + 5 + SLACK) <= tokens
        assert len(admitted) <= max(1, scheduler.row_limit(admitted))
        count += len(admitted)
    assert count == sum(ns)


def test_with_samples_as_many_rows_are_filled_as_four_times_the_records() -> None:
    scheduler, copy = Scheduler(2, 10_000), PromptCopy(set(range(20)))
    for _ in range(20):
        one = sequence(0)
        one.copy = copy
        scheduler.add(one)
    assert len(scheduler.admit()) == 2 * SAMPLE_ROWS


def test_records_that_share_an_image_are_admitted_together() -> None:
    scheduler = Scheduler(8, 10_000)
    for arrival in range(8):
        scheduler.add(sequence(arrival, image="ab"[arrival % 2]))
    assert [s.prompt.images[0].digest for s in scheduler.admit()] == [b"a"] * 4 + [b"b"] * 4


def test_the_longest_answers_begin_first() -> None:
    scheduler = Scheduler(2, 10_000)
    for arrival, new in enumerate([4, 64, 8, 32]):
        scheduler.add(sequence(arrival, new=new))
    assert [s.max_new_tokens for s in scheduler.admit()] == [64, 32]


def test_a_short_answer_is_not_overtaken_for_ever() -> None:
    scheduler = Scheduler(1, 10_000)
    scheduler.add(sequence(0, new=1))
    for arrival in range(1, PATIENCE + 10):
        scheduler.add(sequence(arrival, new=64))
        (admitted,) = scheduler.admit()
        if admitted.arrival == 0:
            return
    raise AssertionError("overtaken for ever")


def test_rows_are_filled_several_at_a_time() -> None:
    scheduler = Scheduler(32, 100_000)
    for arrival in range(64):
        scheduler.add(sequence(arrival))
    scheduler.active += scheduler.admit()
    scheduler.active.pop()
    assert scheduler.admit() == [], "one free row of 32 waits for company"
    del scheduler.active[-3:]
    assert len(scheduler.admit()) == 4
