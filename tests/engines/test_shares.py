"""Records are shared out so that workers stay supplied, pictures stay together, and nothing is lost or done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_vlm.engines.ray.shares import AHEAD, SUSPECT_AFTER, Share, Shares
from pixano_vlm.models import VLMInput
from pixano_vlm.models.deferred import Deferred


def records(count: int, per_picture: int = 1) -> Iterator[tuple[int, VLMInput]]:
    for n in range(count):
        yield n, VLMInput(prompt="q", images=[f"{n // per_picture}.png"], max_new_tokens=1)


def answer(shares: Shares[int], share: Share[int], *keys: int) -> None:
    """The worker has taken what it was sent, and answers these."""
    share.take_unsent()
    share.waiting = 0
    for key in keys:
        shares.answered(share, key)


def test_a_worker_gets_as_much_as_lies_ready_and_more_as_it_takes_it() -> None:
    shares, share = Shares(records(10_000), 2), Share[int]()
    assert shares.fill(share)
    assert len(share.held) == AHEAD
    assert shares.fill(share)
    assert len(share.held) == AHEAD
    share.take_unsent()
    share.waiting = AHEAD // 2
    shares.fill(share)
    assert len(share.held) == AHEAD + AHEAD // 2


def test_the_source_is_read_a_bounded_way_ahead() -> None:
    read: list[int] = []
    source = ((read.append(key), (key, input))[1] for key, input in records(10_000))
    shares, share = Shares(source, 3), Share[int]()
    shares.fill(share)
    assert len(read) <= 4 * AHEAD


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_a_short_run_is_shared_evenly_though_one_worker_comes_first(workers: int) -> None:
    shares = Shares(records(96), workers)
    given = []
    for _ in range(workers):
        share = Share[int]()
        assert not shares.fill(share)
        given.append(len(share.held))
    assert sum(given) == 96
    assert max(given) - min(given) <= workers


def test_questions_on_one_image_go_to_one_worker() -> None:
    shares = Shares(records(400, per_picture=4), 2)
    one, other = Share[int](), Share[int]()
    while shares._source is not None or shares._read:
        for share in (one, other):
            shares.fill(share)
            share.take_unsent()
    assert one.held
    assert other.held
    assert not {n // 4 for n in one.held} & {n // 4 for n in other.held}


def test_an_image_in_the_messages_counts_as_one() -> None:
    def part(n: int) -> list[dict[str, object]]:
        return [{"role": "user", "content": [{"type": "image", "image": f"{n}.png"}]}]

    source = ((n, VLMInput(prompt=part(n // 4), max_new_tokens=1)) for n in range(AHEAD + 4))
    shares, share = Shares(source, 1), Share[int]()
    share.waiting = AHEAD - 1
    shares.fill(share)
    assert sorted(share.held) == [0, 1, 2, 3]


def test_records_of_a_lost_worker_come_first() -> None:
    shares, lost, other = Shares(records(1000), 2), Share[int](), Share[int]()
    shares.fill(lost)
    had = set(lost.held)
    shares.lost(lost)
    shares.fill(other)
    assert set(other.held) == had


def test_a_record_lost_twice_is_given_to_a_worker_that_has_nothing_else() -> None:
    shares = Shares(records(1000), 2)
    for _ in range(SUSPECT_AFTER):
        share = Share[int]()
        shares.fill(share)
        shares.lost(share)
    busy, share = Share[int](), Share[int]()
    assert not shares.fill(share)
    assert len(share.held) == 1
    assert shares.is_suspect(next(iter(share.held)))
    busy.held = {5000: next(records(1))[1]}
    assert not shares.fill(busy)  # gets nothing, to have nothing soon
    assert list(busy.held) == [5000]
    third = Share[int](held={6000: next(records(1))[1]})
    assert shares.fill(third)  # one of them is enough
    assert len(third.held) == AHEAD + 1
    assert not any(shares.is_suspect(key) for key in third.held)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 600), st.integers(1, 5), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_record_is_answered_once_whatever_is_lost(
    count: int, workers: int, per_picture: int, chance: object
) -> None:
    shares = Shares(records(count, per_picture), workers)
    pool = [Share[int]() for _ in range(workers)]
    answers: Counter[int] = Counter()
    while not shares.is_done():
        number = chance.randrange(workers)  # type: ignore[attr-defined]
        share = pool[number]
        shares.fill(share)
        if chance.random() < 0.05:  # type: ignore[attr-defined]
            shares.lost(share)
            pool[number] = Share()
            continue
        held = list(share.held)
        some = held[: chance.randint(0, len(held))]  # type: ignore[attr-defined]
        answer(shares, share, *some)
        answers.update(some)
    assert answers == Counter(range(count))
    assert not any(share.held for share in pool)


def places(parts: int, each: int) -> Iterator[tuple[int, Deferred]]:
    """The places of records, those of two parts by turns, as a run hands them out."""
    for start in range(0, parts, 2):
        for first in range(0, each, 64):
            for part in range(start, min(parts, start + 2)):
                for number in range(first, min(each, first + 64)):
                    yield part * each + number, Deferred(part, number)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.randoms(use_true_random=False))
def test_parts_of_a_source_are_taken_whole_also_where_one_worker_is_quicker(
    pace: int, chance: object
) -> None:
    parts, each = 12, 200
    shares: Shares[int] = Shares(places(parts, each), 2)
    pool = [Share[int](), Share[int]()]
    had: list[set[int]] = [set(), set()]
    order: dict[int, list[int]] = {}
    while not shares.is_done():
        number = chance.choice([0] * pace + [1])  # type: ignore[attr-defined]
        shares.fill(pool[number])
        for key, asked in pool[number].unsent:
            had[number].add(asked.part)  # type: ignore[union-attr]
            order.setdefault(asked.part, []).append(key)  # type: ignore[union-attr]
        answer(shares, pool[number], *list(pool[number].held))
    assert sorted(key for keys in order.values() for key in keys) == list(range(parts * each))
    assert all(keys == sorted(keys) for keys in order.values())
    assert len(had[0] & had[1]) <= 3  # at the end, what is left is shared out


def test_what_a_lost_worker_had_of_a_part_comes_first_and_in_its_order() -> None:
    shares: Shares[int] = Shares(places(4, 500), 2)
    lost, other, new = Share[int](), Share[int](), Share[int]()
    shares.fill(lost)
    shares.fill(other)
    assert lost.part != other.part
    had = list(lost.held)
    shares.lost(lost)
    shares.fill(new)
    assert list(new.held)[: len(had)] == had


def test_an_answer_that_comes_twice_counts_once() -> None:
    shares, share, other = Shares(records(3), 2), Share[int](), Share[int]()
    shares.fill(share)
    shares.fill(other)
    assert sorted([*share.held, *other.held]) == [0, 1, 2]
    mine = next(iter(share.held))
    assert shares.answered(share, mine)
    assert not shares.answered(share, mine)
    assert not shares.answered(other, mine)
    for key in list(share.held):
        assert shares.answered(share, key)
    for key in list(other.held):
        assert shares.answered(other, key)
    assert shares.is_done()
