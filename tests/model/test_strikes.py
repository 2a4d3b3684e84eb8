"""Worker threads that user code has an exception raised in, or ends: they go on, and each job is over once."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from fastserve.model import threads
from fastserve.model import version as version_module
from fastserve.model.runtime import Runtime
from fastserve.model.threads import Completions, Workers
from tests.model.test_runtime import Asked, ask, methods, wait
from tests.model.test_threads import PATIENCE_S, HandLoop, run
from tests.support.strikes import Striker, strike

Lost = list[tuple[Any, BaseException]]
# As it is meant here. (Python itself says nothing of a thread that ends by SystemExit.)
ENDS_THREADS = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(autouse=True)
def _no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "STOP_S", PATIENCE_S)
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def one_worker(on_lost: Callable[[Any, BaseException], None], loop: HandLoop | None = None) -> Workers:
    workers = Workers("test", loop or HandLoop(), on_lost)  # type: ignore[arg-type]
    workers.start(1)
    return workers


def run_on(workers: Workers, function: Callable[[], Any]) -> Any:
    """What `function` returns on a worker."""
    done, results = threading.Event(), list[Any]()

    def work(_: None) -> None:
        results.append(function())
        done.set()

    workers.put_from_thread(work, None)
    assert done.wait(PATIENCE_S)
    return results[0]


def raising(error: BaseException) -> Callable[[Any], None]:
    def work(_: Any) -> None:
        raise error

    return work


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, ValueError])
def test_an_idle_thread_that_is_struck_goes_on_and_the_job_that_wakes_it_is_done(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    loop, lost = HandLoop(), Lost()
    workers = one_worker(lambda job, error: lost.append((job, error)), loop)
    ident = run_on(workers, threading.get_ident)
    strike(workers.all[0].thread, kind)
    assert run_on(workers, threading.get_ident) == ident  # what `load` has set in it is still set
    assert not lost
    assert workers.revived == 1
    loop.turn()
    assert f"{kind.__name__} struck thread test-0" in caplog.text
    assert workers.stop()


def test_what_a_struck_thread_had_in_hand_is_told_with_what_struck_it() -> None:
    lost: Lost = []
    workers = one_worker(lambda job, error: lost.append((job, error)))
    workers.put_from_thread(raising(SystemExit(3)), "in hand")
    run_on(workers, lambda: None)
    [(job, error)] = lost
    assert job == "in hand"
    assert "SystemExit struck thread test-0" in str(error)
    assert workers.stop()


@ENDS_THREADS
def test_a_thread_that_has_ended_is_replaced_and_what_it_had_in_hand_is_told() -> None:
    lost: Lost = []

    def on_lost(job: Any, error: BaseException) -> None:
        lost.append((job, error))
        if len(lost) == 1:
            raise SystemExit  # ends the thread: it is struck a second time, where it looks after the first

    workers = one_worker(on_lost)
    first = workers.all[0].thread
    workers.put_from_thread(raising(SystemExit()), "in hand")
    first.join(PATIENCE_S)
    assert not first.is_alive()
    done = threading.Event()
    workers.put_from_thread(lambda _: done.set(), None)  # comes while there is no thread
    workers.replace_ended()
    assert done.wait(PATIENCE_S)
    assert [job for job, _ in lost] == ["in hand"] * 2
    assert "thread test-0 has ended" in str(lost[1][1])
    assert workers.all[0].thread is not first
    assert workers.all[0].thread.name == "test-0"
    workers.replace_ended()  # nothing to do
    assert workers.revived == 2
    assert workers.stop()
    workers.replace_ended()  # those that were told to end are not replaced
    assert not workers.all[0].thread.is_alive()


def test_a_call_whose_thread_is_struck_in_the_middle_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(call: threads.Call) -> None:
        raise SystemExit

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        workers, completions = Workers("test", loop), Completions(loop)
        workers.start(1)
        with monkeypatch.context() as patch:
            patch.setattr(threads.Call, "work", work)
            with pytest.raises(RuntimeError, match="SystemExit struck thread test-0"):
                await workers.call(lambda: None, completions)
        assert await workers.call(lambda: "goes on", completions) == "goes on"
        assert workers.stop()

    run(main)


def test_a_call_that_is_over_is_not_failed_afterwards() -> None:
    def work(call: threads.Call) -> None:
        call.work()
        raise SystemExit  # struck on the way back from the job

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        workers, completions = Workers("test", loop), Completions(loop)
        workers.start(1)
        call = threads.Call(lambda: "over", completions)
        workers.put(work, call)
        assert await call.future == "over"
        assert await workers.call(lambda: "behind it", completions) == "behind it"
        await asyncio.sleep(0)
        assert call.future.result() == "over"
        assert workers.stop()

    run(main)


def test_a_completion_put_after_a_strike_wakes_the_loop_though_one_seems_pending() -> None:
    loop, seen = HandLoop(), list[int]()
    completions = Completions(loop)  # type: ignore[arg-type]
    completions._is_pending = True  # struck before the loop was woken
    completions.put(seen.append, 1)
    assert not loop.wakes
    completions.put_after_strike(seen.append, 2)
    loop.turn()
    assert seen == [1, 2]


def test_a_pool_is_woken_after_a_strike_though_a_wake_up_seems_pending() -> None:
    workers, done = Workers("test", HandLoop()), threading.Event()  # type: ignore[arg-type]
    workers._is_waking = True  # struck before the thread was woken
    workers.put_from_thread(lambda _: done.set(), None)
    assert not workers._tokens.qsize()
    workers.wake_after_strike()
    assert workers._tokens.qsize() == 1
    workers.start(1)
    assert done.wait(PATIENCE_S)
    assert workers.stop()


# --- through the whole of the model ---


def plain(payload: Any) -> Any:
    return payload


def stream(payload: Any) -> Generator[str, None, None]:
    yield from str(payload)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(
    "steps",
    [{"predict": plain}, {"preprocess": plain, "predict": plain, "postprocess": plain}, {"predict": stream}],
    ids=["predict", "steps", "stream"],
)
def test_however_threads_are_struck_each_job_is_over_once_and_none_is_forgotten(
    serve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    steps: dict[str, Any],
    slots: int,
) -> None:
    striker = Striker()

    async def scenario(runtime: Runtime) -> None:
        assert runtime.version is not None
        while len(striker.felt) < 50:
            jobs = [Asked(number) for number in range(20)]
            for job in jobs:
                runtime.predict.submit(job)
            over = asyncio.gather(*(job.over for job in jobs))
            while not over.done():
                striker.strike(runtime.version.pools)
                await asyncio.sleep(0)
                runtime.condition.tick(0.0)
            assert all(job.load is None for job in jobs)

    monkeypatch.setattr(version_module, "SIDE_THREADS", 3)  # with fewer threads more strikes hit
    for module, hook in ((sys, "unraisablehook"), (threading, "excepthook")):  # pytest's run on the thread, in Python
        monkeypatch.setattr(module, hook, lambda _: None)
    serve(methods(**steps), scenario, slots=slots)
    assert "bug of fastserve" not in caplog.text


def test_a_job_that_was_handed_on_before_the_strike_is_answered_once(serve: Callable[..., Any]) -> None:
    async def scenario(runtime: Runtime) -> None:
        version = runtime.version
        assert version is not None
        job = Asked("x")
        runtime.predict.submit(job)
        await job.over
        for pool in version.pools:
            pool._on_lost(job, RuntimeError("struck"))
        assert await ask(runtime, "behind it") == "behind it"
        assert job.error is None

    serve(methods(predict=plain), scenario)


@pytest.mark.parametrize("is_done", [False, True])
def test_the_stream_of_a_lost_job_is_ended_so_that_its_reader_is_told(
    serve: Callable[..., Any], is_done: bool
) -> None:
    error, release = RuntimeError("struck"), threading.Event()

    def predict(payload: Any) -> Any:
        wait(release)
        return payload

    async def scenario(runtime: Runtime) -> None:
        version = runtime.version
        assert version is not None
        job = Asked("x")
        runtime.predict.submit(job)
        version.hall.open_stream(job, on_loop=False, stops_unread=True)
        assert job.stream is not None
        if is_done:
            job.stream.is_done = True  # struck before the reader was told
        version.pools[0]._on_lost(job, error)
        await job.over
        assert job.stream.error is (None if is_done else error)
        assert job.stream._reader is None  # it has been told
        release.set()
        assert await ask(runtime, "behind it") == "behind it"  # and the job is not over a second time

    serve(methods(predict=predict), scenario)
