"""Which items make a batch and when it goes, against the same rules said in the plainest way; the clock is ours."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.model.batch_queue import BatchQueue


@dataclasses.dataclass(eq=False)
class Item:
    """size: 0 for one whose size cannot be told. measured: how often it was asked for."""

    number: int
    size: int = 1
    is_wanted: bool = True
    measured: int = 0


def measure(item: Item) -> int:
    assert item.is_wanted, "the model is asked about what nobody waits for"
    item.measured += 1
    return item.size


def make(max_size: int, wait_s: float = 0, *, sized: bool = False) -> BatchQueue[Item]:
    return BatchQueue(max_size, wait_s, lambda item: item.is_wanted, measure if sized else None)


def put(queue: BatchQueue[Item], count: int, now: float = 0, *, first: int = 0) -> list[Item]:
    items = [Item(first + number) for number in range(count)]
    for item in items:
        queue.put(item, now)
    return items


def test_a_thread_that_is_struck_while_it_looks_loses_nothing() -> None:
    strikes = [False, True, True, False]  # the second item's look, and the first's in the next

    def is_wanted(item: Item) -> bool:
        if strikes and strikes.pop(0):
            raise SystemExit
        return item.is_wanted

    queue = BatchQueue(4, 0, is_wanted)
    items = put(queue, 3)
    for _ in range(2):
        with pytest.raises(SystemExit):
            queue.take(0)
        assert len(queue) == 3
    assert queue.take(0) == items


def test_a_thread_that_is_struck_while_it_takes_has_what_is_to_be_given_up() -> None:
    class Struck(list[Item]):
        def extend(self, more: Iterable[Item]) -> None:
            super().extend(more)
            raise SystemExit

    queue, into = make(4), Struck()
    items = put(queue, 3)
    with pytest.raises(SystemExit):
        queue.take(0, into)
    assert into == items
    for item in items:
        item.is_wanted = False
    assert queue.take(0) == []
    assert queue.is_empty


def test_what_is_withdrawn_at_the_moment_of_the_look_is_no_loss() -> None:
    class Late(OrderedDict[Item, object]):
        def __bool__(self) -> bool:
            return True  # as it was a moment ago

    queue = make(4)
    queue._arrived = Late()  # type: ignore[assignment]
    assert queue.take(0) == []


# --- the rules, one by one ---


def test_without_a_wait_whatever_is_there_goes() -> None:
    queue = make(8)
    assert queue.take(0) == []
    items = put(queue, 3, now=5)
    assert queue.take(4) == items  # the clock was read before the last of them came
    assert queue.is_empty


def test_never_more_than_the_cap_and_the_rest_follows_in_order() -> None:
    queue = make(4)
    items = put(queue, 10)
    assert [queue.take(0) for _ in range(4)] == [items[:4], items[4:8], items[8:], []]


def test_the_window_is_counted_from_the_oldest() -> None:
    queue = make(8, 10)
    items = put(queue, 1, now=0) + put(queue, 1, now=9, first=1)
    assert queue.take(9) == []
    assert queue.goes_at == 10
    assert queue.take(9.999) == []
    assert queue.take(10) == items


def test_a_full_batch_does_not_wait_and_the_next_has_a_window_of_its_own() -> None:
    queue = make(2, 10)
    items = put(queue, 2, now=0) + put(queue, 1, now=3, first=2)
    assert queue.take(3) == items[:2]
    assert queue.take(3) == []
    assert queue.goes_at == 13
    assert queue.take(13) == items[2:]


def test_when_the_oldest_has_left_the_window_is_that_of_the_next() -> None:
    queue = make(8, 10)
    items = put(queue, 1, now=0) + put(queue, 1, now=6, first=1)
    assert queue.take(6) == []
    items[0].is_wanted = False
    assert queue.take(10) == []
    assert queue.goes_at == 16
    assert queue.take(16) == items[1:]


def test_who_has_left_takes_no_room() -> None:
    queue = make(2, 10)
    items = put(queue, 3)
    items[0].is_wanted = False
    assert queue.take(0) == items[1:]


def test_one_that_is_bigger_than_the_cap_goes_alone_and_at_once() -> None:
    queue = make(10, 60, sized=True)
    small, big, other = Item(0, 3), Item(1, 11), Item(2, 3)
    for item in (small, big, other):
        queue.put(item, 0)
    assert queue.take(0) == [small]  # full: what comes next does not fit
    assert queue.take(0) == [big]
    assert queue.take(0) == []
    assert queue.take(60) == [other]


def test_one_left_over_from_a_batch_may_leave_before_the_next() -> None:
    queue = make(10, 60, sized=True)
    items = [Item(0, 8), Item(1, 8), Item(2, 8)]
    for item in items:
        queue.put(item, 0)
    assert queue.take(0) == items[:1]
    items[1].is_wanted = False
    assert queue.take(60) == items[2:]
    assert items[1].measured == 1


def test_one_whose_size_cannot_be_told_is_forgotten() -> None:
    queue = make(10, sized=True)
    bad, good = Item(0, 0), Item(1, 1)
    queue.put(bad, 0)
    queue.put(good, 0)
    assert queue.take(0) == [good]
    assert queue.is_empty


def test_all_of_it_can_be_taken_back() -> None:
    queue = make(10, 60, sized=True)
    items = [Item(0, 6), Item(1, 6), Item(2, 6), Item(3, 6)]
    for item in items[:3]:
        queue.put(item, 0)
    assert queue.take(0) == items[:1]
    queue.put(items[3], 0)
    assert queue.take_all() == items[1:]
    assert queue.is_empty
    assert queue.take(60) == []


def test_a_look_is_worth_it_once_as_many_are_there_as_fit() -> None:
    queue = make(3, 60)
    put(queue, 2)
    assert queue.take(0) == []
    assert not queue.may_be_full
    put(queue, 1)
    assert queue.may_be_full
    assert make(3, sized=True).may_be_full  # how many fit is not known before


def test_what_has_arrived_and_was_not_looked_at_is_to_be_at_once() -> None:
    queue = make(3, 60)
    put(queue, 1, now=5)
    assert queue.goes_at <= 5
    assert not queue.is_empty


# --- all of them together ---


class Plain:
    """The rules, with everything worked out anew each time."""

    def __init__(self, max_size: int, wait: float) -> None:
        self.max_size = max_size
        self.wait = wait
        self.waiting: list[tuple[Item, float]] = []

    def next_batch(self, now: float) -> list[Item]:
        self.waiting = [(item, arrived) for item, arrived in self.waiting if item.is_wanted and item.size]
        batch: list[Item] = []
        is_full = False
        for item, _ in self.waiting:
            total = sum(one.size for one in batch)
            if total >= self.max_size or (batch and total + item.size > self.max_size):
                is_full = True
                break
            batch.append(item)
        is_full = is_full or sum(one.size for one in batch) >= self.max_size
        return batch if batch and (is_full or now >= self.waiting[0][1] + self.wait) else []

    def take(self, now: float) -> list[Item]:
        batch = self.next_batch(now)
        self.waiting = self.waiting[len(batch) :]
        return batch


STEPS = st.lists(
    st.tuples(st.just("put"), st.integers(0, 12))
    | st.tuples(st.just("pass"), st.integers(1, 5))
    | st.tuples(st.just("leave"), st.integers(0, 30))
    | st.tuples(st.just("take"), st.just(0)),
    max_size=60,
)


@pytest.mark.parametrize("sized", [False, True])
@given(steps=STEPS, max_size=st.integers(1, 10), wait=st.integers(0, 6))
def test_every_batch_is_as_the_rules_say(sized: bool, steps: list[tuple[str, int]], max_size: int, wait: int) -> None:
    queue, plain = make(max_size, wait, sized=sized), Plain(max_size, wait)
    items: list[Item] = []
    now = 100
    for step, number in [*steps, ("pass", wait), *[("take", 0)] * len(steps)]:
        if step == "put":
            item = Item(len(items), number if sized else 1)
            items.append(item)
            queue.put(item, now)
            plain.waiting.append((item, now))
        elif step == "pass":
            now += number
        elif step == "leave":
            if number < len(items):
                items[number].is_wanted = False
        else:
            batch = queue.take(now)
            assert batch == plain.take(now)
            assert all(item.is_wanted for item in batch)
            assert sum(item.size for item in batch) <= max_size or len(batch) == 1
            if not batch and not queue.is_empty:
                assert queue.goes_at == plain.waiting[0][1] + wait > now
    assert queue.is_empty  # at the end nothing has been forgotten
    assert all(item.measured <= 1 for item in items)
