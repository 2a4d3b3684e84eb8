"""However many would hold the loop, and whatever they do, the loop goes round in between."""

from __future__ import annotations

import asyncio
import contextvars
import time

from fastserve.turns import LONG_S, MOST_IN_TURN, TURN_S, Turns
from tests.support.loops import run


def work(seconds: float) -> None:
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        pass


class Rounds:
    """Counts how often the loop has gone round."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._go)

    def _go(self) -> None:
        self.count += 1
        self._loop.call_soon(self._go)


def test_callbacks_that_take_long_get_a_turn_each_first_come_first_served() -> None:
    async def main() -> None:
        turns, rounds, done = Turns(asyncio.get_running_loop()), Rounds(), asyncio.Event()
        log: list[tuple[str, int]] = []

        def go_on(name: str, more: int) -> None:
            work(2 * TURN_S)
            log.append((name, rounds.count))
            if more:
                turns.put(lambda: go_on(name, more - 1))
            elif name == "b":
                done.set()

        for name in "ab":
            turns.put(lambda name=name: go_on(name, 2))  # type: ignore[misc]
        await done.wait()
        assert [name for name, _ in log] == ["a", "b"] * 3
        assert len({count for _, count in log}) == 6  # the loop went round after each

    run(main())


def test_callbacks_that_take_no_time_share_a_turn() -> None:
    async def main() -> None:
        turns, rounds, done = Turns(asyncio.get_running_loop()), Rounds(), asyncio.Event()
        before = rounds.count
        for _ in range(3 * MOST_IN_TURN):
            turns.put(lambda: None)
        turns.put(done.set)
        await done.wait()
        assert rounds.count - before < 3 * MOST_IN_TURN

    run(main())


def test_coroutines_that_never_wait_share_the_time_of_one() -> None:
    async def main() -> None:
        turns, rounds = Turns(asyncio.get_running_loop()), Rounds()
        steps, people = 5, 4 * MOST_IN_TURN

        async def hold() -> None:
            for _ in range(steps):
                work(TURN_S)
                await turns.give()

        before = rounds.count
        await asyncio.gather(*(hold() for _ in range(people)))
        # The first steps are everybody's own; of the others there are no more in a round than may be woken together.
        assert rounds.count - before >= (steps - 1) * people / MOST_IN_TURN

    run(main())


def test_what_is_done_later_in_the_same_round_counts_too() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        turns, rounds = Turns(loop), Rounds()
        steps, people = 5, MOST_IN_TURN

        async def leave_work() -> None:
            for _ in range(steps):
                loop.call_soon(work, 2 * LONG_S)
                work(TURN_S)
                await turns.give()

        before = rounds.count
        await asyncio.gather(*(leave_work() for _ in range(people)))
        assert rounds.count - before > 5 * steps  # all of them in each round would be `steps` rounds

    run(main())


def test_a_coroutine_that_is_cancelled_while_it_waits_holds_nobody_up() -> None:
    async def main() -> None:
        turns = Turns(asyncio.get_running_loop())
        waiting = asyncio.ensure_future(turns.give())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await turns.give()

    run(main())


def test_one_that_fails_does_not_stop_the_others() -> None:
    async def main() -> None:
        loop, failures = asyncio.get_running_loop(), list[str]()
        loop.set_exception_handler(lambda loop, context: failures.append(repr(context["exception"])))
        turns, done = Turns(loop), asyncio.Event()

        def fail() -> None:
            raise ValueError("a bug")

        turns.put(fail)
        turns.put(done.set)
        await done.wait()
        assert failures == ["ValueError('a bug')"]

    run(main())


def test_nothing_of_one_is_seen_by_the_next() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    async def main() -> None:
        turns, done = Turns(asyncio.get_running_loop()), asyncio.Event()
        seen: list[str | None] = []

        def go_on(own: str) -> None:
            seen.append(name.get(None))
            name.set(own)

        name.set("of whoever puts")
        for own in ("a", "b"):
            turns.put(lambda own=own: go_on(own))  # type: ignore[misc]
        turns.put(done.set)
        await done.wait()
        assert seen == [None, None]

    run(main())
