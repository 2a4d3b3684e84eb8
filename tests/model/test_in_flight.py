"""Waiting until nothing is in flight: several who wait, one who gives up, work that comes meanwhile."""

from __future__ import annotations

import asyncio

from fastserve.model.in_flight import InFlight


def test_with_nothing_in_flight_nobody_waits() -> None:
    asyncio.run(asyncio.wait_for(InFlight().wait_idle(), 5))


def test_all_who_wait_are_told_though_one_has_given_up_and_not_before_the_last_is_over() -> None:
    async def scenario() -> None:
        in_flight = InFlight()
        load = in_flight.add_load()
        load.jobs = 2
        waiting = [asyncio.ensure_future(in_flight.wait_idle()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        for left in (1, 0):
            load.jobs = left
            in_flight.tell()
            if left == 0:
                load.jobs = 1  # another comes before those who wait have their turn
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [task.done() for task in waiting] == [False, True, False]
        load.jobs = 0
        in_flight.tell()
        await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        assert [task.cancelled() for task in waiting] == [False, True, False]

    asyncio.run(scenario())
