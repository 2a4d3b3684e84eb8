"""Worker threads take jobs in order and lose none; completions come back to the loop in one turn."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop

from fastserve.model import threads
from fastserve.model.threads import Completions, Workers

T = TypeVar("T")
PATIENCE_S = 20.0


def run(main: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, T]]) -> T:
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(main(loop), PATIENCE_S))
    finally:
        loop.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "STOP_S", PATIENCE_S)
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class HandLoop:
    """As much of a loop as Completions and Workers need, turned by hand."""

    def __init__(self) -> None:
        self.wakes: list[Callable[[], None]] = []

    def call_soon_threadsafe(self, function: Callable[..., None], *arguments: Any) -> None:
        self.wakes.append(lambda: function(*arguments))

    call_soon = call_soon_threadsafe

    def turn(self) -> None:
        wakes, self.wakes = self.wakes, []
        for wake in wakes:
            wake()


class Thing:
    """Something a weak reference can be made to."""


# --- completions ---


def test_many_arrivals_wake_the_loop_once() -> None:
    loop, seen = HandLoop(), list[int]()
    completions = Completions(loop)  # type: ignore[arg-type]
    for turn in range(3):
        for number in range(10):
            completions.put(seen.append, 10 * turn + number)
        assert len(loop.wakes) == 1
        loop.turn()
    assert seen == list(range(30))
    assert not loop.wakes


def test_what_arrives_while_the_loop_takes_waits_for_its_next_turn() -> None:
    loop, seen = HandLoop(), list[str]()
    completions = Completions(loop)  # type: ignore[arg-type]

    def first(name: str) -> None:
        seen.append(name)
        completions.put(seen.append, "later")

    completions.put(first, "first")
    completions.put(seen.append, "second")
    loop.turn()
    assert seen == ["first", "second"]
    loop.turn()
    assert seen == ["first", "second", "later"]


def test_a_closed_loop_is_not_told_and_what_it_would_have_had_is_let_go() -> None:
    loop = uvloop.new_event_loop()
    completions = Completions(loop)
    loop.close()
    thing = Thing()
    reference = weakref.ref(thing)
    completions.put(lambda _: None, thing)
    del thing
    gc.collect()
    assert reference() is None


def test_completions_from_many_threads_all_arrive_on_the_loop_s_thread_and_each_thread_s_in_order() -> None:
    producers, each = 8, 2000

    async def main(loop: asyncio.AbstractEventLoop) -> list[tuple[int, int, int]]:
        completions, done = Completions(loop), asyncio.Event()
        seen: list[tuple[int, int, int]] = []

        def arrive(what: tuple[int, int]) -> None:
            seen.append((*what, threading.get_ident()))
            if len(seen) == producers * each:
                done.set()

        def produce(producer: int) -> None:
            for number in range(each):
                completions.put(arrive, (producer, number))

        started = [threading.Thread(target=produce, args=(number,)) for number in range(producers)]
        for thread in started:
            thread.start()
        await done.wait()
        for thread in started:
            thread.join()
        return seen

    seen = run(main)
    assert {ident for _, _, ident in seen} == {threading.get_ident()}
    for producer in range(producers):
        assert [number for who, number, _ in seen if who == producer] == list(range(each))


# --- workers ---


def test_one_worker_takes_jobs_in_the_order_they_were_put() -> None:
    loop, done = HandLoop(), threading.Event()
    workers = Workers("test", loop)  # type: ignore[arg-type]
    seen: list[int] = []
    idents: set[int] = set()

    def work(number: int) -> None:
        seen.append(number)
        idents.add(threading.get_ident())
        if number == 99:
            done.set()

    workers.start(1)
    for number in range(100):
        workers.put(work, number)
    loop.turn()
    assert done.wait(PATIENCE_S)
    assert workers.stop()
    assert seen == list(range(100))
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_a_worker_is_woken_when_the_turn_of_the_loop_is_over() -> None:
    loop, done = HandLoop(), threading.Event()
    workers = Workers("test", loop)  # type: ignore[arg-type]
    workers.start(1)
    workers.put(lambda number: None, 1)
    workers.put(lambda number: done.set(), 2)
    assert len(loop.wakes) == 1
    assert not done.is_set()
    loop.turn()
    assert done.wait(PATIENCE_S)
    assert workers.stop()


def test_a_thread_s_job_is_begun_without_the_loop() -> None:
    loop, done = HandLoop(), threading.Event()
    workers = Workers("test", loop)  # type: ignore[arg-type]
    workers.start(1)
    workers.put_from_thread(lambda _: done.set(), None)
    assert done.wait(PATIENCE_S)
    assert not loop.wakes
    assert workers.stop()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_as_many_jobs_run_at_once_as_there_are_threads_and_no_more(count: int) -> None:
    workers = Workers("test", HandLoop())  # type: ignore[arg-type]
    together, finished = threading.Barrier(count), threading.Semaphore(0)
    lock, running, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(PATIENCE_S)  # passes only if `count` are here at once
        with lock:
            running -= 1
        finished.release()

    workers.start(count)
    for number in range(3 * count):
        workers.put_from_thread(work, number)
    for _ in range(3 * count):
        assert finished.acquire(timeout=PATIENCE_S)
    assert most == count
    assert workers.stop()


def test_a_blocked_job_does_not_hold_up_those_behind_it() -> None:
    workers = Workers("test", HandLoop())  # type: ignore[arg-type]
    release, done = threading.Event(), threading.Semaphore(0)
    workers.start(2)

    def block(_: None) -> None:
        release.wait(PATIENCE_S)

    workers.put_from_thread(block, None)
    for _ in range(50):
        workers.put_from_thread(lambda _: done.release(), None)
    for _ in range(50):
        assert done.acquire(timeout=PATIENCE_S)
    assert not release.is_set()
    release.set()
    assert workers.stop()


def test_start_says_how_many_threads_there_are_in_all() -> None:
    workers = Workers("some-name", HandLoop())  # type: ignore[arg-type]
    for count, expected in [(2, 2), (5, 5), (3, 5)]:
        workers.start(count)
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("some-name-")]
        assert sorted(names) == [f"some-name-{number}" for number in range(expected)]
    assert workers.stop()


@pytest.mark.parametrize("count", [1, 4])
def test_jobs_from_the_loop_and_from_many_threads_are_each_done_once(count: int) -> None:
    producers, each = 4, 1500
    expected = (producers + 1) * each

    async def main(loop: asyncio.AbstractEventLoop) -> list[tuple[int, int]]:
        workers, completions, all_done = Workers("test", loop), Completions(loop), asyncio.Event()
        seen: list[tuple[int, int]] = []

        def arrive(what: tuple[int, int]) -> None:
            seen.append(what)
            if len(seen) == expected:
                all_done.set()

        def work(what: tuple[int, int]) -> None:
            completions.put(arrive, what)

        def produce(producer: int) -> None:
            for number in range(each):
                workers.put_from_thread(work, (producer, number))

        workers.start(count)
        started = [threading.Thread(target=produce, args=(number,)) for number in range(producers)]
        for thread in started:
            thread.start()
        for number in range(each):
            workers.put(work, (producers, number))
            if number % 10 == 0:
                await asyncio.sleep(0)
        await all_done.wait()
        for thread in started:
            thread.join()
        assert workers.stop()
        return seen

    seen = run(main)
    assert sorted(seen) == [(producer, number) for producer in range(producers + 1) for number in range(each)]
    if count == 1:
        for producer in range(producers + 1):
            assert [number for who, number in seen if who == producer] == list(range(each))


def test_single_jobs_put_while_the_worker_goes_to_sleep_are_not_forgotten() -> None:
    workers, done = Workers("test", HandLoop()), threading.Semaphore(0)  # type: ignore[arg-type]
    workers.start(2)
    for _ in range(3000):  # each time the worker has just found nothing more to do
        workers.put_from_thread(lambda _: done.release(), None)
        assert done.acquire(timeout=PATIENCE_S)
    assert workers.stop()


def test_an_idle_worker_keeps_no_job_alive() -> None:
    workers, begun = Workers("test", HandLoop()), threading.Event()  # type: ignore[arg-type]
    workers.start(1)
    thing = Thing()
    gone = threading.Event()
    weakref.finalize(thing, gone.set)
    workers.put_from_thread(lambda _: begun.set(), thing)
    del thing
    assert begun.wait(PATIENCE_S)
    assert gone.wait(PATIENCE_S)
    assert workers.stop()


# --- call ---


def test_call_returns_or_raises_what_the_function_does_and_runs_it_on_a_worker() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        workers, completions = Workers("test", loop), Completions(loop)
        workers.start(1)
        assert (await workers.call(threading.current_thread, completions)).name == "test-0"
        with pytest.raises(ZeroDivisionError):
            await workers.call(lambda: 1 // 0, completions)
        with pytest.raises(SystemExit):
            await workers.call(lambda: exit(3), completions)
        assert await workers.call(lambda: "still there", completions) == "still there"
        assert workers.stop()

    run(main)


def test_a_call_nobody_awaits_any_more_ends_quietly() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        workers, completions, release = Workers("test", loop), Completions(loop), threading.Event()
        workers.start(1)
        for function in (lambda: release.wait(PATIENCE_S), lambda: 1 // 0):
            awaiting = loop.create_task(workers.call(function, completions))
            await asyncio.sleep(0)
            awaiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await awaiting
        release.set()
        assert await workers.call(lambda: "behind them", completions) == "behind them"
        assert workers.stop()

    run(main)


# --- stop ---


def test_a_thread_stuck_in_user_code_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "STOP_S", 0.05)
    workers, release, begun = Workers("test", HandLoop()), threading.Event(), threading.Event()  # type: ignore[arg-type]

    def stuck(_: None) -> None:
        begun.set()
        release.wait(PATIENCE_S)

    workers.start(2)
    workers.put_from_thread(stuck, None)
    assert begun.wait(PATIENCE_S)
    assert not workers.stop()
    release.set()
    monkeypatch.setattr(threads, "STOP_S", PATIENCE_S)
    assert workers.stop()


def test_however_many_threads_are_stuck_stop_waits_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "STOP_S", 0.05)
    count = 40
    workers, release = Workers("test", HandLoop()), threading.Event()  # type: ignore[arg-type]
    together = threading.Barrier(count + 1)

    def stuck(_: None) -> None:
        together.wait(PATIENCE_S)
        release.wait(PATIENCE_S)

    workers.start(count)
    for _ in range(count):
        workers.put_from_thread(stuck, None)
    together.wait(PATIENCE_S)
    began = time.monotonic()
    assert not workers.stop()
    took_s = time.monotonic() - began
    release.set()
    monkeypatch.setattr(threads, "STOP_S", PATIENCE_S)
    assert workers.stop()
    assert took_s < 0.05 * count / 2


def test_a_completion_that_raises_does_not_cost_the_others_theirs(caplog: pytest.LogCaptureFixture) -> None:
    loop = uvloop.new_event_loop()
    completions = threads.Completions(loop)
    arrived: list[int] = []

    def fail(argument: int) -> None:
        raise ValueError("a bug")

    for number in range(6):
        completions.put(fail if number == 2 else arrived.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    completions.put(arrived.append, 6)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert arrived == [0, 1, 3, 4, 5, 6]
    assert "a bug of fastserve" in caplog.text
