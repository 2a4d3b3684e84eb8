"""The watchdog: what runs is seen with its stack, and what has run too long is told once, until it goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from fastserve.logs import REQUEST_IDS
from fastserve.model.running import Run, find_runs
from fastserve.model.runtime import Runtime
from fastserve.model.watchdog import Watchdog, describe
from tests.model.test_runtime import Asked, ask, methods, until, wait

HERE = str(Path(__file__).parent)


# --- ages, with runs made by hand ---


class Scene:
    """A watchdog with a limit of 10 s, and what it finds."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.watchdog = Watchdog(10.0, HERE, lambda: self.runs)

    def look(self, now: float) -> tuple[bool, int, float]:
        self.watchdog.look(now)
        return self.watchdog.is_stuck, self.watchdog.stuck_total, self.watchdog.oldest_s


def run_of(key: object, pulse: object = None) -> Run:
    return Run(key, pulse, None, "thread test-0", list)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().splitlines()[0] for record in caplog.records]


def test_what_runs_too_long_is_stuck_until_it_is_over_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene()
    assert scene.look(99.5) == (False, 0, 0.0)
    scene.runs = [run_of("slow")]
    assert scene.look(100.0) == (False, 0, 0.0)
    assert scene.look(109.9) == (False, 0, 109.9 - 100.0)
    assert scene.look(110.0) == (True, 1, 10.0)
    assert scene.look(111.0) == (True, 1, 11.0)
    scene.runs = []
    assert scene.look(112.0) == (False, 1, 0.0)
    assert scene.look(113.0) == (False, 1, 0.0)
    assert told(caplog) == [
        "the model has been at one request for 10.0 s, on thread test-0: it is taken to be stuck",
        "what was stuck has gone on, after 12.0 s",
    ]


def test_the_next_run_begins_at_nothing_though_its_thread_is_the_same() -> None:
    scene = Scene()
    for second in range(30):
        scene.runs = [run_of(("function", second))]  # an equal one would be another
        assert scene.look(float(second)) == (False, 0, 0.0)


def test_an_equal_run_is_another() -> None:
    scene = Scene()
    scene.runs = [run_of([1])]
    scene.look(0.0)
    scene.runs = [run_of([1])]
    assert scene.look(20.0) == (False, 0, 0.0)


def test_several_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    first, second = run_of("first"), run_of("second")
    scene.runs = [first]
    scene.look(0.0)
    scene.runs = [first, second]
    scene.look(5.0)
    assert scene.look(10.0) == (True, 1, 10.0)
    assert scene.look(15.0) == (True, 2, 15.0)
    scene.runs = [second]
    assert scene.look(16.0) == (True, 2, 11.0)
    scene.runs = []
    assert scene.look(17.0) == (False, 2, 0.0)


def test_a_stream_that_makes_headway_is_busy_and_one_that_has_stopped_is_stuck() -> None:
    scene = Scene()
    for second in range(50):
        scene.runs = [run_of("stream", pulse=second)]
        assert scene.look(float(second)) == (False, 0, 0.0)
    assert scene.look(59.0) == (True, 1, 10.0)
    scene.runs = [run_of("stream", pulse="on")]
    assert scene.look(60.0) == (False, 1, 0.0)
    assert scene.look(70.0) == (True, 2, 10.0)


def test_the_line_has_the_id_of_its_request(caplog: pytest.LogCaptureFixture) -> None:
    ids: list[object] = []

    class Reading(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ids.append(REQUEST_IDS.get())

    REQUEST_IDS.set((b"mine", None, 1, {}))
    context = copy_context()
    REQUEST_IDS.set((b"other", None, 2, {}))
    scene = Scene()
    handler = Reading()
    logging.getLogger("fastserve").addHandler(handler)
    try:
        for named in (context, None):
            scene.runs = [Run("slow", None, named, "thread test-0", list)]
            scene.look(0.0)
            scene.look(10.0)
            scene.runs = []
            scene.look(10.5)
    finally:
        logging.getLogger("fastserve").removeHandler(handler)
    assert (b"mine", None, 1, {}) in ids
    assert None in ids


# --- stacks ---


def test_a_stack_begins_with_the_model_s_own_part() -> None:
    def inner() -> str:
        import inspect
        import traceback

        frame = inspect.currentframe()
        assert frame is not None
        return describe(list(traceback.walk_stack(frame))[::-1], HERE)

    own, _, whole = inner().partition("All of the stack:\n")
    assert own.startswith("In the model's code:\n  File ")
    assert "in inner" in own
    assert "_pytest" not in own
    assert "_pytest" in whole
    assert whole.index("_pytest") < whole.index("in inner")
    assert "none of its frames" in describe([], HERE)


# --- what runs, in a real runtime ---


class Held:
    """Models whose predict waits for `release`. Each says when it is there."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.release_async = asyncio.Event()

    def plain(self, payload: Any) -> Any:
        self.begun.set()
        wait(self.release)
        return payload

    async def coroutine(self, payload: Any) -> Any:
        self.begun.set()
        await self.release_async.wait()
        return payload

    def generator(self, payload: Any) -> Generator[str, None, None]:
        yield "a"
        yield str(self.plain(payload))

    async def async_generator(self, payload: Any) -> AsyncGenerator[str, None]:
        yield "a"
        yield str(await self.coroutine(payload))

    def returns_generator(self, payload: Any) -> Any:
        return self.generator(payload)

    async def coroutine_returns_generator(self, payload: Any) -> Any:
        return self.generator(payload)

    async def coroutine_returns_async_generator(self, payload: Any) -> Any:
        return self.async_generator(payload)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "kind, place, own",
    [
        ("plain", "thread fastserve-predict-0", ["plain"]),
        ("coroutine", "a task of the loop", ["coroutine"]),
        ("generator", "thread fastserve-predict-0", ["generator", "plain"]),
        ("async_generator", "a task of the loop", ["async_generator", "coroutine"]),
        ("returns_generator", "thread fastserve-predict-0", ["generator", "plain"]),
        ("coroutine_returns_generator", "thread fastserve-predict-0", ["generator", "plain"]),
        ("coroutine_returns_async_generator", "a task of the loop", ["async_generator", "coroutine"]),
    ],
)
def test_one_run_is_found_for_a_predict_of_each_kind_with_the_stack_of_its_code(
    serve: Callable[..., Any], kind: str, place: str, own: list[str], whole: bool
) -> None:
    held = Held()

    async def scenario(runtime: Runtime) -> None:
        loop = asyncio.get_running_loop()
        assert list(find_runs(loop, runtime._pools())) == []
        job = Asked("x", whole=whole)
        runtime.predict.submit(job)
        await until(held.begun.is_set)
        [run], [again] = (list(find_runs(loop, runtime._pools())) for _ in range(2))
        assert run.key is again.key
        assert run.place == place
        names = [frame.f_code.co_name for frame, _ in run.frames() if frame.f_code.co_filename == __file__]
        assert [name for name in names if name in dir(Held)] == own
        held.release.set()
        held.release_async.set()
        await job.over
        assert job.failure is None
        await until(lambda: not list(find_runs(loop, runtime._pools())))
        assert run.frames() is not None  # it is over: there may be nothing to show, and that is all

    serve(methods(predict=getattr(held, kind)), scenario)


@pytest.mark.parametrize("kind", ["plain", "coroutine", "coroutine_returns_generator"])
def test_what_waits_for_a_slot_does_not_run(serve: Callable[..., Any], kind: str) -> None:
    held = Held()

    async def scenario(runtime: Runtime) -> None:
        jobs = [Asked(str(number)) for number in range(5)]
        for job in jobs:
            runtime.predict.submit(job)

        def count() -> int:
            return len(list(find_runs(asyncio.get_running_loop(), runtime._pools())))

        await until(lambda: count() >= 2)
        assert count() == 2
        held.release.set()
        held.release_async.set()
        await asyncio.gather(*(job.over for job in jobs))

    serve(methods(predict=getattr(held, kind)), scenario, slots=2)


def test_a_generator_of_a_coroutine_that_waits_for_a_thread_does_not_run(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastserve.model.version.MAX_STREAM_THREADS", 1)
    held = Held()

    async def scenario(runtime: Runtime) -> None:
        jobs = [Asked(str(number)) for number in range(3)]
        for job in jobs:
            runtime.predict.submit(job)
        await until(held.begun.is_set)
        assert len(list(find_runs(asyncio.get_running_loop(), runtime._pools()))) == 1
        held.release.set()
        await asyncio.gather(*(job.over for job in jobs))

    serve(methods(predict=held.coroutine_returns_generator), scenario, slots=3)


def test_a_stream_beats_while_it_yields_and_while_it_waits_for_its_reader(serve: Callable[..., Any]) -> None:
    def predict(payload: Any) -> Generator[bytes, None, None]:
        while True:
            yield bytes(64 * 1024)

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x", reads=False)
        runtime.predict.submit(job)
        await until(lambda: job.stream is not None and job.stream._room is not None and not job.stream.has_room())
        [run], [again] = (list(find_runs(asyncio.get_running_loop(), runtime._pools())) for _ in range(2))
        assert run.pulse != again.pulse
        job.cancel()
        await job.over

    serve(methods(predict=predict), scenario, stream_buffer_bytes=256 * 1024)


def test_a_step_before_or_after_predict_is_watched_too(serve: Callable[..., Any]) -> None:
    held = Held()

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x")
        runtime.predict.submit(job)
        await until(held.begun.is_set)
        [run] = find_runs(asyncio.get_running_loop(), runtime._pools())
        assert run.place.startswith("thread fastserve-side-")
        held.release.set()
        await job.over

    serve(methods(preprocess=held.plain, predict=lambda payload: payload), scenario)


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_the_condition_turns_while_a_predict_is_stuck(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    held = Held()

    async def scenario(runtime: Runtime) -> None:
        condition = runtime.condition
        assert condition.watchdog is not None
        runtime.condition.tick(0.0)
        job = Asked("x")
        runtime.predict.submit(job)
        await until(held.begun.is_set)
        for now, is_good in [(1.0, True), (5.9, True), (6.0, False), (7.0, False)]:
            condition.tick(now)
            assert condition.is_good is is_good
        held.release.set()
        held.release_async.set()
        await job.over
        assert await ask(runtime, "next") == "next"
        condition.tick(8.0)
        assert condition.is_good
        assert condition.watchdog.stuck_total == 1

    serve(methods(predict=getattr(held, kind)), scenario, predict_watchdog_s=5.0)
    [line] = [r.getMessage() for r in caplog.records if "taken to be stuck" in r.getMessage()]
    assert f"in {kind}\n" in line


def test_nobody_looks_unless_that_is_asked(serve: Callable[..., Any]) -> None:
    async def scenario(runtime: Runtime) -> None:
        assert runtime.condition.watchdog is None
        runtime.condition.tick(0.0)
        assert runtime.condition.is_good

    serve(methods(predict=lambda payload: payload), scenario)
