"""Predict slots: never more than there are, first come first served, none lost to a cancelled waiter."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.model.slots import Slots
from tests.support.loops import run


def try_take(slots: Slots) -> bool:
    """As a step does."""
    if slots.free:
        slots.free -= 1
        return True
    return False


def release(slots: Slots) -> None:
    """As a step does."""
    slots.free += 1
    if slots.waiting:
        slots.hand_out()


async def settle() -> None:
    """Let every task that can go on do so: a slot may go through as many hands as there are tasks."""
    for _ in range(60):
        await asyncio.sleep(0)


@pytest.mark.parametrize("count", [1, 3])
def test_a_slot_can_be_taken_as_often_as_there_are_slots(count: int) -> None:
    slots = Slots(count)
    assert [try_take(slots) for _ in range(count + 2)] == [True] * count + [False] * 2
    release(slots)
    assert try_take(slots)
    assert not try_take(slots)


def test_take_does_not_wait_while_a_slot_is_free() -> None:
    async def main() -> None:
        slots = Slots(2)
        await slots.take()
        await slots.take()
        assert not try_take(slots)

    run(main())


def test_who_waits_longest_is_next() -> None:
    async def main() -> list[int]:
        slots = Slots(1)
        order: list[int] = []

        async def use(number: int) -> None:
            await slots.take()
            order.append(number)
            await asyncio.sleep(0)
            release(slots)

        await asyncio.gather(*(use(number) for number in range(10)))
        assert try_take(slots)
        return order

    assert run(main()) == list(range(10))


def test_a_released_slot_is_not_taken_from_who_waits() -> None:
    async def main() -> None:
        slots = Slots(1)
        assert try_take(slots)
        waiting = asyncio.ensure_future(slots.take())
        await settle()
        release(slots)
        assert not try_take(slots)
        await waiting

    run(main())


def test_a_waiter_that_was_cancelled_is_passed_over() -> None:
    async def main() -> None:
        slots = Slots(1)
        assert try_take(slots)
        first, second = asyncio.ensure_future(slots.take()), asyncio.ensure_future(slots.take())
        await settle()
        first.cancel()
        await settle()
        release(slots)
        await second
        release(slots)
        assert try_take(slots)

    run(main())


def test_a_waiter_cancelled_as_it_is_given_the_slot_gives_it_on() -> None:
    async def main() -> None:
        slots = Slots(1)
        assert try_take(slots)
        first, second = asyncio.ensure_future(slots.take()), asyncio.ensure_future(slots.take())
        await settle()
        release(slots)  # first's now, but it has not run yet
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        assert not try_take(slots)

    run(main())


async def check_slots(count: int, moves: list[tuple[str, int]]) -> None:
    """Play `moves`; after each, the first `count` of those who came and neither left nor gave up hold a slot."""
    slots = Slots(count)
    came: list[asyncio.Task[None]] = []
    leaving: dict[asyncio.Task[None], asyncio.Event] = {}
    entered: set[asyncio.Task[None]] = set()

    async def use() -> None:
        me = asyncio.current_task()
        assert me is not None
        if not try_take(slots):
            await slots.take()
        try:
            entered.add(me)
            await leaving[me].wait()
        finally:
            release(slots)

    for move, number in moves:
        if move == "come":
            task = asyncio.ensure_future(use())
            leaving[task] = asyncio.Event()
            came.append(task)
        elif came:
            task = came[number % len(came)]
            if move == "leave":
                leaving[task].set()
            else:
                task.cancel()
        if number % 2:  # sometimes several moves in one turn of the loop
            await settle()
            there = [task for task in came if not task.done()]
            assert {task for task in entered if not task.done()} == set(there[:count])
    for event in leaving.values():
        event.set()
    await asyncio.gather(*came, return_exceptions=True)
    assert [try_take(slots) for _ in range(count + 1)] == [True] * count + [False]


MOVES = st.tuples(st.sampled_from(["come", "come", "leave", "cancel"]), st.integers(0, 9))


@settings(max_examples=150)
@given(st.integers(1, 3), st.lists(MOVES, max_size=40))
def test_whatever_happens_no_slot_is_lost_and_none_is_there_twice(count: int, moves: list[tuple[str, int]]) -> None:
    run(check_slots(count, moves))
