"""Who asks whether the client has gone is told: on the loop, on threads, before and after it has happened."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fastserve.interface.disconnection import Disconnection

PATIENCE_S = 20.0


def test_a_watcher_on_a_thread_is_told_at_once() -> None:
    disconnection = Disconnection()
    begun, told = threading.Event(), threading.Event()

    def watch() -> None:
        with disconnection.watch() as left:
            begun.set()
            if left.wait(PATIENCE_S):
                told.set()

    thread = threading.Thread(target=watch)
    thread.start()
    assert begun.wait(PATIENCE_S)
    assert not disconnection.has_happened
    disconnection.happen()
    assert told.wait(PATIENCE_S)
    thread.join()
    assert disconnection.has_happened


def test_a_watcher_who_comes_late_is_told_at_once_too() -> None:
    disconnection = Disconnection()
    disconnection.happen()
    with disconnection.watch() as left:
        assert left.is_set()


def test_who_no_longer_watches_is_not_told() -> None:
    disconnection = Disconnection()
    with disconnection.watch() as first:
        pass
    with disconnection.watch() as second, disconnection.watch() as third:
        disconnection.happen()
        disconnection.happen()  # as a second disconnect would
    assert (first.is_set(), second.is_set(), third.is_set()) == (False, True, True)


def test_an_error_within_ends_the_watch() -> None:
    disconnection = Disconnection()
    with pytest.raises(ValueError, match="within"), disconnection.watch() as left:
        raise ValueError("within")
    disconnection.happen()
    assert not left.is_set()


def test_coroutines_wait_for_it() -> None:
    async def play() -> list[str]:
        disconnection = Disconnection()
        seen: list[str] = []

        async def wait(name: str) -> None:
            await disconnection.wait()
            seen.append(name)

        waiting = [asyncio.create_task(wait(name)) for name in "ab"]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        assert seen == []
        disconnection.happen()
        await asyncio.wait(waiting)
        await wait("late")
        return seen

    assert asyncio.run(play()) == ["a", "late"]


def test_it_can_be_awaited_on_another_loop_than_the_one_where_it_happens() -> None:
    """A sync method may run a coroutine of its own on its thread."""
    disconnection = Disconnection()
    begun = threading.Event()

    async def wait() -> str:
        asyncio.get_running_loop().call_soon(begun.set)
        await disconnection.wait()
        return "told"

    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(asyncio.run(wait())), daemon=True)
    thread.start()
    assert begun.wait(PATIENCE_S)
    disconnection.happen()
    thread.join(PATIENCE_S)
    assert told == ["told"]


def test_a_loop_that_was_closed_meanwhile_harms_nobody() -> None:
    disconnection = Disconnection()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(disconnection.wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    with disconnection.watch() as left:
        disconnection.happen()
        assert left.is_set()
    del waiting
