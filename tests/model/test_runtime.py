"""The one door to the model: which step runs where, in what order, what it sees, and what it may not break."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from fastserve.config import Config
from fastserve.errors import LoadError, ModelDefinitionError, ResultError, SetupError
from fastserve.model import threads
from fastserve.model import version as version_module
from fastserve.model.directory import ModelDirectory
from fastserve.model.loader import find_load
from fastserve.model.runtime import Runtime
from fastserve.model.steps import Job
from fastserve.model.streams import FREE_BYTES, Stream
from fastserve.model.version import LOAD_RETRIES_VARIABLE, SIDE_THREADS

T = TypeVar("T")
PATIENCE_S = 20.0
KIB = 1024

Scenario = Callable[[Runtime], Awaitable[T]]


class Asked(Job):
    """A job whose end can be awaited. Its stream is read as it comes, unless it `reads` not."""

    def __init__(self, payload: Any, *, whole: bool = False, reads: bool = True) -> None:
        super().__init__(payload)
        self.whole = whole
        self.reads = reads
        self.content = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began_to_stream = asyncio.Event()

    def wants_whole(self) -> bool:
        return self.whole

    def on_result(self) -> None:
        if self.stream is not None:
            assert self.stream.is_done
            if self.reads:
                self.read()
        self.over.set_result(None)  # a second time would be an error

    def on_chunks(self, stream: Stream) -> None:
        self.began_to_stream.set()
        if self.reads:
            self.read()

    def read(self) -> None:
        assert self.stream is not None
        while not self.stream.is_empty:
            self.content += b"".join(self.stream.take())

    @property
    def failure(self) -> BaseException | None:
        return self.stream.error if self.stream is not None else self.error


async def ask(runtime: Runtime, payload: Any, *, whole: bool = False) -> Any:
    """What the model answers: its value, or its stream's content. Raises what user code raised."""
    job = Asked(payload, whole=whole)
    runtime.predict.submit(job)
    await job.over
    if job.failure is not None:
        raise job.failure
    return job.content.decode() if job.stream is not None else job.value


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends
        await asyncio.sleep(0.0005)


def wait(event: threading.Event) -> None:
    """Block a model's method on `event`, but not for ever."""
    assert event.wait(PATIENCE_S)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """serve(Model, scenario): load it into a runtime, play the scenario, stop; nothing may be left behind."""
    monkeypatch.setattr(threads, "STOP_S", 5.0)
    monkeypatch.setattr(version_module, "LOAD_PAUSE_S", 0.0)
    monkeypatch.delenv(LOAD_RETRIES_VARIABLE, raising=False)

    def serve(
        model: Callable[[], Any],
        scenario: Scenario[T],
        *,
        slots: int = 1,
        encode: Callable[[Any], Any] = lambda value: value,
        **settings: Any,
    ) -> T:
        monkeypatch.setattr(Asked, "encode", lambda job: encode(job.value))
        monkeypatch.setattr(version_module, "make_model", lambda *_: model())
        before = set(threading.enumerate())
        loop = uvloop.new_event_loop()
        directory = ModelDirectory(Path("/nowhere"), {}, {})
        runtime = Runtime(loop, directory, Config(predict_concurrency=slots, **settings))

        async def play() -> T:
            await runtime.load()
            played = await scenario(runtime)
            await runtime.wait_idle()
            return played

        try:
            played = loop.run_until_complete(asyncio.wait_for(play(), PATIENCE_S))
            loop.run_until_complete(loop.shutdown_asyncgens())
        except (SystemExit, KeyboardInterrupt) as error:  # pytest itself would end
            raise AssertionError("user code has stopped the loop") from error
        finally:
            has_stopped = runtime.stop()
            loop.close()
        assert has_stopped
        assert set(threading.enumerate()) <= before
        assert runtime.in_flight == 0
        assert runtime._budget.used == 0
        return played

    return serve


def methods(**named: Any) -> Callable[[], Any]:
    """A model class with these methods, each a function of the payload alone."""
    return type("Model", (), {name: staticmethod(function) for name, function in named.items()})


# --- every combination of steps ---


def plain(name: str) -> Any:
    def method(text: str) -> str:
        return f"{name}({text})"

    return method


def coroutine(name: str) -> Any:
    async def method(text: str) -> str:
        await asyncio.sleep(0)
        return f"{name}({text})"

    return method


def generator(name: str) -> Any:
    def method(text: str) -> Generator[str, None, None]:
        yield from f"{name}({text})"

    return method


def async_generator(name: str) -> Any:
    async def method(text: str) -> AsyncGenerator[str, None]:
        for letter in f"{name}({text})":
            await asyncio.sleep(0)
            yield letter

    return method


def returns(inner: Any) -> Any:
    """A plain function that returns what `inner` makes: a generator of either sort."""

    def make(name: str) -> Any:
        made = inner(name)
        return lambda text: made(text)

    return make


def returns_async(inner: Any) -> Any:
    """A coroutine function that returns what `inner` makes."""

    def make(name: str) -> Any:
        made = inner(name)

        async def method(text: str) -> Any:
            return made(text)

        return method

    return make


ONE_RESULT = {"plain": plain, "coroutine": coroutine}
STREAMS = {
    "generator": generator,
    "async_generator": async_generator,
    "plain_returns_generator": returns(generator),
    "plain_returns_async_generator": returns(async_generator),
    "coroutine_returns_generator": returns_async(generator),
    "coroutine_returns_async_generator": returns_async(async_generator),
}
ANY = {**ONE_RESULT, **STREAMS}


@pytest.mark.parametrize("postprocess", ["", *ANY])
@pytest.mark.parametrize("predict", ONE_RESULT)
@pytest.mark.parametrize("preprocess", ["", *ONE_RESULT])
def test_every_combination_of_steps_is_walked_in_order(
    serve: Callable[..., Any], preprocess: str, predict: str, postprocess: str
) -> None:
    steps: dict[str, Any] = {"predict": ONE_RESULT[predict]("predict")}
    expected = "predict({})"
    if preprocess:
        steps["preprocess"] = ONE_RESULT[preprocess]("pre")
        expected = expected.format("pre({})")
    if postprocess:
        steps["postprocess"] = ANY[postprocess]("post")
        expected = f"post({expected})"

    async def scenario(runtime: Runtime) -> None:
        for whole in (False, True):
            answers = await asyncio.gather(*(ask(runtime, str(number), whole=whole) for number in range(6)))
            assert answers == [expected.format(number) for number in range(6)]

    serve(methods(**steps), scenario, slots=2)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("predict", STREAMS)
@pytest.mark.parametrize("preprocess", ["", *ONE_RESULT])
def test_a_stream_is_sent_as_it_comes_or_gathered_for_who_wants_it_whole(
    serve: Callable[..., Any], preprocess: str, predict: str, whole: bool
) -> None:
    steps: dict[str, Any] = {"predict": STREAMS[predict]("predict")}
    expected = "predict({})"
    if preprocess:
        steps["preprocess"] = ONE_RESULT[preprocess]("pre")
        expected = "predict(pre({}))"

    async def scenario(runtime: Runtime) -> None:
        jobs = [Asked(str(number), whole=whole) for number in range(6)]
        for job in jobs:
            runtime.predict.submit(job)
        for number, job in enumerate(jobs):
            await job.over
            assert job.failure is None
            assert (job.stream is None) == whole
            assert (job.value if whole else job.content.decode()) == expected.format(number)

    serve(methods(**steps), scenario, slots=2)


@pytest.mark.parametrize("postprocess", ONE_RESULT)
@pytest.mark.parametrize("predict", STREAMS)
def test_a_stream_cannot_be_postprocessed(serve: Callable[..., Any], predict: str, postprocess: str) -> None:
    async def scenario(runtime: Runtime) -> None:
        with pytest.raises(ModelDefinitionError, match="returned a generator and the model has a `postprocess`"):
            await ask(runtime, "x")

    serve(methods(predict=STREAMS[predict]("predict"), postprocess=ONE_RESULT[postprocess]("post")), scenario)


def test_preprocess_may_hand_a_generator_to_predict(serve: Callable[..., Any]) -> None:
    def preprocess(count: int) -> Generator[int, None, None]:
        yield from range(count)

    def predict(numbers: Generator[int, None, None]) -> int:
        return sum(numbers)

    async def scenario(runtime: Runtime) -> None:
        assert await ask(runtime, 4) == 6

    serve(methods(preprocess=preprocess, predict=predict), scenario)


def test_any_other_iterator_is_a_result_like_any_other(serve: Callable[..., Any]) -> None:
    async def scenario(runtime: Runtime) -> None:
        assert list(await ask(runtime, [1, 2])) == [1, 2]

    serve(methods(predict=lambda payload: iter(payload)), scenario)


# --- what is encoded, and where ---


def test_a_result_is_encoded_where_it_was_made(serve: Callable[..., Any]) -> None:
    def encode(value: Any) -> tuple[str, Any]:
        return threading.current_thread().name.rpartition("-")[0], value

    async def scenario(runtime: Runtime) -> Any:
        return (await ask(runtime, "x"))[0]

    loop = threading.current_thread().name.rpartition("-")[0]
    for steps, place in [
        ({"predict": plain("p")}, "fastserve-predict"),
        ({"predict": plain("p"), "preprocess": plain("p")}, "fastserve-predict"),
        ({"predict": plain("p"), "postprocess": plain("p")}, "fastserve-side"),
        ({"predict": coroutine("p"), "postprocess": plain("p")}, "fastserve-side"),
        ({"predict": coroutine("p")}, loop),
        ({"predict": plain("p"), "postprocess": coroutine("p")}, loop),
    ]:
        assert serve(methods(**steps), scenario, encode=encode) == place


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("predict", ["generator", "coroutine_returns_generator"])
def test_a_generator_may_block_since_it_runs_on_a_predict_thread(
    serve: Callable[..., Any], predict: str, whole: bool
) -> None:
    def where(name: str) -> Any:
        def method(_: Any) -> Generator[str, None, None]:
            yield threading.current_thread().name

        return method

    predict_method = {"generator": where, "coroutine_returns_generator": returns_async(where)}[predict]("")

    async def scenario(runtime: Runtime) -> None:
        assert (await ask(runtime, "x", whole=whole)).startswith("fastserve-predict-")

    serve(methods(predict=predict_method), scenario)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("is_sync", [False, True])
def test_an_async_generator_runs_on_the_loop(serve: Callable[..., Any], is_sync: bool, whole: bool) -> None:
    async def body(_: Any) -> AsyncGenerator[str, None]:
        asyncio.get_running_loop()
        yield str(threading.get_ident())

    predict = (lambda payload: body(payload)) if is_sync else body

    async def scenario(runtime: Runtime) -> None:
        assert await ask(runtime, "x", whole=whole) == str(threading.get_ident())

    serve(methods(predict=predict), scenario)


def test_what_an_async_generator_yields_once_it_has_waited_is_read_before_another_yields(
    serve: Callable[..., Any],
) -> None:
    order: list[str] = []

    class Reading(Asked):
        def on_chunks(self, stream: Stream) -> None:
            if not stream.is_empty:
                order.append("read")
            super().on_chunks(stream)

    async def scenario(runtime: Runtime) -> None:
        go = asyncio.Event()

        async def chunks() -> AsyncGenerator[str, None]:
            await go.wait()
            order.append("yielded")
            yield "a chunk"

        jobs = [Reading(chunks) for _ in range(2)]
        for job in jobs:
            runtime.predict.submit(job)
        await asyncio.gather(*(job.began_to_stream.wait() for job in jobs))
        go.set()  # both go on in the same round of the loop
        await asyncio.gather(*(job.over for job in jobs))

    async def predict(chunks: Callable[[], Any]) -> Any:
        return chunks()

    serve(methods(predict=predict), scenario, slots=2)
    assert order == ["yielded", "read"] * 2


@pytest.mark.parametrize("kind", [plain, coroutine])
def test_a_result_that_cannot_be_encoded_is_the_job_s_error(serve: Callable[..., Any], kind: Any) -> None:
    def encode(value: Any) -> Any:
        if value == "p(bad)":
            raise ResultError("no JSON form")
        return value

    async def scenario(runtime: Runtime) -> None:
        with pytest.raises(ResultError):
            await ask(runtime, "bad")
        assert await ask(runtime, "good") == "p(good)"

    serve(methods(predict=kind("p")), scenario, encode=encode)


# --- threads and order ---


def test_with_one_slot_init_load_and_every_sync_predict_share_a_thread(serve: Callable[..., Any]) -> None:
    class Model:
        def __init__(self) -> None:
            self.threads = {threading.get_ident()}

        def load(self) -> None:
            self.threads.add(threading.get_ident())

        def preprocess(self, payload: Any) -> Any:
            assert threading.get_ident() not in self.threads
            return payload

        def predict(self, payload: Any) -> Any:
            self.threads.add(threading.get_ident())
            return self.threads

    async def scenario(runtime: Runtime) -> None:
        answers = await asyncio.gather(*(ask(runtime, number) for number in range(50)))
        assert len(answers[0]) == 1
        assert threading.get_ident() not in answers[0]

    serve(Model, scenario)


@pytest.mark.parametrize("with_steps", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 5])
def test_as_many_predicts_run_at_once_as_there_are_slots_and_no_more(
    serve: Callable[..., Any], slots: int, with_steps: bool
) -> None:
    together = threading.Barrier(slots)
    lock, running, most = threading.Lock(), 0, 0

    def predict(payload: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(PATIENCE_S)  # passes only if `slots` predicts are here
        with lock:
            running -= 1
        return payload

    async def scenario(runtime: Runtime) -> None:
        asked = [str(number) for number in range(4 * slots)]
        assert await asyncio.gather(*(ask(runtime, number) for number in asked)) == asked

    steps: dict[str, Any] = {"predict": predict}
    if with_steps:
        steps["preprocess"] = steps["postprocess"] = lambda payload: payload
    serve(methods(**steps), scenario, slots=slots)
    assert most == slots


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_as_many_coroutines_predict_at_once_as_there_are_slots_and_no_more(
    serve: Callable[..., Any], slots: int
) -> None:
    running = most = 0

    async def predict(payload: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20):  # long enough for any other that may to come in
            await asyncio.sleep(0)
        running -= 1
        return payload

    async def scenario(runtime: Runtime) -> None:
        asked = [str(number) for number in range(4 * slots)]
        assert await asyncio.gather(*(ask(runtime, number) for number in asked)) == asked

    serve(methods(predict=predict), scenario, slots=slots)
    assert most == slots


def test_predicts_come_in_the_order_they_were_asked_for(serve: Callable[..., Any]) -> None:
    order: list[int] = []
    all_asked = threading.Event()

    def predict(number: int) -> None:
        wait(all_asked)
        order.append(number)

    async def scenario(runtime: Runtime) -> None:
        jobs = [Asked(number) for number in range(30)]
        for job in jobs:
            runtime.predict.submit(job)
        all_asked.set()
        for job in jobs:
            await job.over

    serve(methods(predict=predict), scenario)
    assert order == list(range(30))


def test_coroutines_predict_in_the_order_they_were_asked_for(serve: Callable[..., Any]) -> None:
    order: list[int] = []

    async def predict(number: int) -> None:
        order.append(number)
        await asyncio.sleep(0)

    async def scenario(runtime: Runtime) -> None:
        await asyncio.gather(*(ask(runtime, number) for number in range(30)))

    serve(methods(predict=predict), scenario)
    assert order == list(range(30))


# At each step of each of two jobs: what it says, and what it waits for before it ends.
BESIDE = {
    ("predict", 1): ("first predicts", "second preprocessed"),
    ("preprocess", 2): ("second preprocessed", ""),
    ("predict", 2): ("second predicts", "first postprocesses"),
    ("postprocess", 1): ("first postprocesses", "second predicts"),
}


@pytest.mark.parametrize("is_async", [False, True])
def test_preprocess_and_postprocess_run_beside_predict(serve: Callable[..., Any], is_async: bool) -> None:
    said = {says: threading.Event() for says, _ in BESIDE.values()}

    def step(name: str) -> Any:
        def method(number: int) -> int:
            says, waits_for = BESIDE.get((name, number), ("", ""))
            if says:
                said[says].set()
            if waits_for:
                wait(said[waits_for])
            return number

        async def async_method(number: int) -> int:
            says, waits_for = BESIDE.get((name, number), ("", ""))
            if says:
                said[says].set()
            if waits_for:
                await until(said[waits_for].is_set)
            return number

        return async_method if is_async else method

    async def scenario(runtime: Runtime) -> None:
        first = asyncio.ensure_future(ask(runtime, 1))
        await until(said["first predicts"].is_set)
        assert await ask(runtime, 2) == 2
        assert await first == 1

    serve(methods(**{name: step(name) for name in ("preprocess", "predict", "postprocess")}), scenario)


def test_as_many_preprocesses_run_at_once_as_truss_has_threads(serve: Callable[..., Any]) -> None:
    together = threading.Barrier(SIDE_THREADS)

    def preprocess(payload: Any) -> Any:
        together.wait(PATIENCE_S)
        return payload

    async def scenario(runtime: Runtime) -> None:
        await asyncio.gather(*(ask(runtime, number) for number in range(SIDE_THREADS)))

    serve(methods(preprocess=preprocess, predict=plain("p")), scenario)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("predict", STREAMS)
def test_a_stream_holds_its_slot_to_its_end(serve: Callable[..., Any], predict: str, whole: bool) -> None:
    log: list[str] = []
    go_on, go_on_async = threading.Event(), asyncio.Event()

    def body(name: str) -> Any:
        def method(number: str) -> Generator[str, None, None]:
            log.append(f"{number} begins")
            yield number
            wait(go_on)
            log.append(f"{number} ends")

        return method

    def async_body(name: str) -> Any:
        async def method(number: str) -> AsyncGenerator[str, None]:
            log.append(f"{number} begins")
            yield number
            await go_on_async.wait()
            log.append(f"{number} ends")

        return method

    inner = async_body if "async_generator" in predict else body
    outer = {"plain": returns, "coroutine": returns_async}.get(predict.split("_")[0], lambda inner: inner)
    made = outer(inner)("")

    async def scenario(runtime: Runtime) -> None:
        asked = [asyncio.ensure_future(ask(runtime, number, whole=whole)) for number in ("1", "2")]
        await until(lambda: "1 begins" in log)
        go_on.set()
        go_on_async.set()
        assert await asyncio.gather(*asked) == ["1", "2"]

    serve(methods(predict=made), scenario)
    assert log == ["1 begins", "1 ends", "2 begins", "2 ends"]


@pytest.mark.parametrize("kinds", list(itertools.product(["plain", "coroutine"], repeat=3)), ids="-".join)
def test_many_jobs_are_each_answered_once(serve: Callable[..., Any], kinds: tuple[str, str, str]) -> None:
    names = ("preprocess", "predict", "postprocess")

    async def scenario(runtime: Runtime) -> None:
        jobs = [Asked(str(number)) for number in range(400)]
        for number, job in enumerate(jobs):
            runtime.predict.submit(job)
            if number % 7 == 0:
                await asyncio.sleep(0)
        for number, job in enumerate(jobs):
            await job.over
            assert job.value == f"postprocess(predict(preprocess({number})))"

    serve(methods(**{name: ANY[kind](name) for name, kind in zip(names, kinds, strict=True)}), scenario, slots=4)


# --- context variables ---

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")
USER: ContextVar[str] = ContextVar("USER", default="none")


def set_user(payload: str) -> str:
    USER.set(payload)
    return payload


async def set_user_async(payload: str) -> str:
    await asyncio.sleep(0)
    USER.set(payload)
    return payload


def see(payload: str) -> str:
    return f"{payload}: {REQUEST.get()} {USER.get()}"


async def see_async(payload: str) -> str:
    await asyncio.sleep(0)
    return see(payload)


def see_in_generator(payload: str) -> Generator[str, None, None]:
    yield see(payload)


async def see_in_async_generator(payload: str) -> AsyncGenerator[str, None]:
    yield see(payload)


async def generator_from_coroutine(payload: str) -> Generator[str, None, None]:
    return see_in_generator(payload)


SEEING: list[Callable[..., Any]] = [
    see,
    see_async,
    see_in_generator,
    see_in_async_generator,
    lambda payload: see_in_generator(payload),
    lambda payload: see_in_async_generator(payload),
    generator_from_coroutine,
]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("predict", SEEING)
@pytest.mark.parametrize("preprocess", [set_user, set_user_async])
def test_what_preprocess_sets_is_seen_by_predict_and_by_no_other_request(
    serve: Callable[..., Any], preprocess: Any, predict: Any, whole: bool
) -> None:
    async def one(runtime: Runtime, name: str) -> None:
        REQUEST.set(f"request-{name}")
        assert await ask(runtime, name, whole=whole) == f"{name}: request-{name} {name}"
        assert USER.get() == "none"  # nor does it come back

    async def scenario(runtime: Runtime) -> None:
        await asyncio.gather(*(one(runtime, str(number)) for number in range(8)))

    serve(methods(preprocess=preprocess, predict=predict), scenario)


@pytest.mark.parametrize("postprocess", SEEING)
@pytest.mark.parametrize("predict", [set_user, set_user_async])
def test_what_predict_sets_is_seen_by_postprocess_and_by_no_other_request(
    serve: Callable[..., Any], predict: Any, postprocess: Any
) -> None:
    async def one(runtime: Runtime, name: str) -> None:
        REQUEST.set(f"request-{name}")
        assert await ask(runtime, name) == f"{name}: request-{name} {name}"
        assert USER.get() == "none"

    async def scenario(runtime: Runtime) -> None:
        await asyncio.gather(*(one(runtime, str(number)) for number in range(8)))

    serve(methods(predict=predict, postprocess=postprocess), scenario)


@pytest.mark.parametrize("predict", [set_user, set_user_async])
def test_what_predict_sets_does_not_leak_into_the_next_request(serve: Callable[..., Any], predict: Any) -> None:
    seen: list[str] = []

    def preprocess(payload: str) -> str:
        seen.append(USER.get())
        return payload

    async def scenario(runtime: Runtime) -> None:
        for name in ("a", "b", "c"):
            await ask(runtime, name)

    serve(methods(preprocess=preprocess, predict=predict), scenario)
    assert seen == ["none"] * 3


# --- cancelled jobs ---


def test_a_job_cancelled_while_it_waits_for_its_turn_never_runs(serve: Callable[..., Any]) -> None:
    ran: list[str] = []
    release = threading.Event()

    def predict(name: str) -> str:
        ran.append(name)
        if name == "first":
            wait(release)
        return name

    async def scenario(runtime: Runtime) -> None:
        jobs = [Asked(name) for name in ("first", "cancelled", "last")]
        for job in jobs:
            runtime.predict.submit(job)
        jobs[1].cancel()
        release.set()
        for job in jobs:
            await job.over

    serve(methods(predict=predict), scenario)
    assert ran == ["first", "last"]


def test_a_job_cancelled_while_it_waits_for_a_coroutine_s_slot_never_runs(serve: Callable[..., Any]) -> None:
    ran: list[str] = []

    async def scenario(runtime: Runtime) -> None:
        jobs = [Asked(name) for name in ("first", "cancelled", "last")]
        for job in jobs:
            runtime.predict.submit(job)
        await until(lambda: ran == ["first"])
        jobs[1].cancel()
        release.set()
        for job in jobs:
            await job.over

    release = asyncio.Event()

    async def predict(name: str) -> str:
        ran.append(name)
        await release.wait()
        return name

    serve(methods(predict=predict), scenario)
    assert ran == ["first", "last"]


@pytest.mark.parametrize("kinds", list(itertools.product(["plain", "coroutine"], repeat=2)), ids="-".join)
@pytest.mark.parametrize("step", ["preprocess", "predict"])
def test_a_step_that_has_begun_runs_to_its_end_but_the_next_is_not_begun(
    serve: Callable[..., Any], step: str, kinds: tuple[str, str]
) -> None:
    following = {"preprocess": "predict", "predict": "postprocess"}[step]
    log: list[str] = []
    begun, go_on, go_on_async = threading.Event(), threading.Event(), asyncio.Event()

    def slow(payload: Any) -> Any:
        begun.set()
        wait(go_on)
        log.append("ended")
        return payload

    async def slow_async(payload: Any) -> Any:
        begun.set()
        await go_on_async.wait()
        log.append("ended")
        return payload

    def never(payload: Any) -> Any:
        log.append("next begun")

    async def never_async(payload: Any) -> Any:
        log.append("next begun")

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x")
        runtime.predict.submit(job)
        await until(begun.is_set)
        job.cancel()
        go_on.set()
        go_on_async.set()
        await job.over

    steps: dict[str, Any] = {
        "predict": plain("p"),
        step: slow if kinds[0] == "plain" else slow_async,
        following: never if kinds[1] == "plain" else never_async,
    }
    serve(methods(**steps), scenario)
    assert log == ["ended"]


class Endless:
    """Generators of either sort that go on for ever, and note what becomes of them."""

    def __init__(self, chunk: bytes, *, at_most: int = 10_000) -> None:
        self.chunk = chunk
        self.at_most = at_most  # not for ever, so that a test that fails ends
        self.yielded = 0
        self.is_closed = False
        self.gate = threading.Event()  # passed after the first chunk
        self.gate_async = asyncio.Event()

    def open_gate(self) -> None:
        self.gate.set()
        self.gate_async.set()

    def generate(self, _: Any) -> Generator[bytes, None, None]:
        try:
            for _ in range(self.at_most):
                self.yielded += 1
                yield self.chunk
                wait(self.gate)
        finally:
            self.is_closed = True

    async def generate_async(self, _: Any) -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(self.at_most):
                self.yielded += 1
                yield self.chunk
                await self.gate_async.wait()
        finally:
            self.is_closed = True

    def predict(self, kind: str) -> Any:
        inner = (lambda name: self.generate_async) if "async_generator" in kind else (lambda name: self.generate)
        outer = {"plain": returns, "coroutine": returns_async}.get(kind.split("_")[0], lambda inner: inner)
        return outer(inner)("")


@pytest.mark.parametrize("predict", STREAMS)
def test_a_generator_whose_client_left_is_closed_at_its_next_yield(serve: Callable[..., Any], predict: str) -> None:
    endless = Endless(b"x")

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x")
        runtime.predict.submit(job)
        await job.began_to_stream.wait()
        await until(lambda: endless.yielded == 1)
        job.cancel()
        endless.open_gate()
        await job.over
        assert job.failure is None

    serve(methods(predict=endless.predict(predict)), scenario)
    assert endless.is_closed
    assert endless.yielded <= 2


@pytest.mark.parametrize("predict", STREAMS)
def test_a_generator_that_waits_for_room_is_closed_when_its_client_leaves(
    serve: Callable[..., Any], predict: str
) -> None:
    endless = Endless(b"x" * FREE_BYTES)
    endless.open_gate()

    async def scenario(runtime: Runtime) -> None:
        job, after = Asked("x", reads=False), Asked("x", reads=False)
        runtime.predict.submit(job)
        await until(lambda: job.stream is not None and not job.stream.has_room())
        job.cancel()
        await job.over
        assert endless.is_closed
        assert endless.yielded <= 4
        runtime.predict.submit(after)  # the slot is free again
        await after.began_to_stream.wait()
        after.cancel()

    serve(methods(predict=endless.predict(predict)), scenario, stream_buffer_bytes=2 * FREE_BYTES)


@pytest.mark.parametrize("predict", STREAMS)
def test_a_generator_that_is_gathered_is_closed_when_its_client_leaves(
    serve: Callable[..., Any], predict: str
) -> None:
    endless = Endless(b"x")

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x", whole=True)
        runtime.predict.submit(job)
        await until(lambda: endless.yielded == 1)
        job.cancel()
        endless.open_gate()
        await job.over

    serve(methods(predict=endless.predict(predict)), scenario)
    assert endless.is_closed
    assert endless.yielded <= 2


def test_a_job_cancelled_before_its_stream_begins_has_none(serve: Callable[..., Any]) -> None:
    endless = Endless(b"x", at_most=5)
    endless.open_gate()
    begun, go_on = threading.Event(), threading.Event()

    def predict(payload: Any) -> Any:
        begun.set()
        wait(go_on)
        return endless.generate(payload)

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x")
        runtime.predict.submit(job)
        await until(begun.is_set)
        job.cancel()
        go_on.set()
        await job.over
        assert job.content == b""

    serve(methods(predict=predict), scenario)
    assert endless.yielded <= 1


def test_a_coroutine_cancelled_before_its_first_step_is_over_all_the_same(serve: Callable[..., Any]) -> None:
    ran: list[str] = []

    async def predict(name: str) -> str:
        ran.append(name)
        return name

    async def scenario(runtime: Runtime) -> None:
        job = Asked("cancelled")
        runtime.predict.submit(job)
        job.cancel()
        job.cancel_coroutine()
        await asyncio.wait_for(job.over, PATIENCE_S)
        assert runtime.in_flight == 0

    serve(methods(predict=predict), scenario)
    assert ran == ([] if sys.version_info < (3, 12) else ["cancelled"])  # where a task may begin in another, it has


def test_the_second_coroutine_of_a_request_is_cancelled_in_the_middle_too(serve: Callable[..., Any]) -> None:
    seen: list[str] = []

    async def preprocess(payload: Any) -> Any:
        return payload

    async def predict(payload: Any) -> None:
        seen.append("begun")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x")
        asyncio.get_running_loop().call_soon(runtime.predict.submit, job)  # outside of any task, as a connection does
        await until(lambda: seen == ["begun"])
        gc.collect()
        job.cancel()
        job.cancel_coroutine()
        await asyncio.wait_for(job.over, PATIENCE_S)

    serve(methods(preprocess=preprocess, predict=predict), scenario)
    assert seen == ["begun", "cancelled"]


def test_a_task_cancelled_while_it_waits_for_its_slot_leaves_the_queue(serve: Callable[..., Any]) -> None:
    release = asyncio.Event()

    async def predict(payload: Any) -> Any:
        await release.wait()
        return payload

    async def scenario(runtime: Runtime) -> None:
        jobs = [Asked(number) for number in range(4)]
        for job in jobs:
            runtime.predict.submit(job)
        await asyncio.sleep(0)
        for job in jobs[:2]:  # the one that runs, and one that waits
            assert job.task is not None
            job.task.cancel()
        await jobs[0].over
        await jobs[1].over
        release.set()
        for job in jobs:
            await job.over
        assert [isinstance(job.error, asyncio.CancelledError) for job in jobs] == [True, True, False, False]

    serve(methods(predict=predict), scenario)


# --- bounds ---


@pytest.mark.parametrize("predict", STREAMS)
def test_a_stream_runs_ahead_of_its_reader_up_to_its_bound_and_goes_on_when_it_reads(
    serve: Callable[..., Any], predict: str
) -> None:
    endless = Endless(b"x" * FREE_BYTES, at_most=40)
    endless.open_gate()

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x", reads=False)
        runtime.predict.submit(job)
        read = 0
        while not (job.over.done() and job.stream is not None and job.stream.is_empty):
            await until(lambda: job.over.done() or (job.stream is not None and not job.stream.has_room()))
            assert endless.yielded * FREE_BYTES <= read + 4 * FREE_BYTES + FREE_BYTES
            assert job.stream is not None
            read += sum(map(len, job.stream.take()))
        assert job.failure is None
        assert read == 40 * FREE_BYTES

    serve(methods(predict=endless.predict(predict)), scenario, stream_buffer_bytes=4 * FREE_BYTES)


@pytest.mark.parametrize("predict", STREAMS)
def test_the_bound_of_all_streams_holds_for_one_that_is_alone_and_never_waits(
    serve: Callable[..., Any], predict: str
) -> None:
    endless = Endless(b"x" * FREE_BYTES, at_most=100)
    endless.open_gate()

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x", reads=False)
        runtime.predict.submit(job)
        await until(lambda: job.over.done() or (job.stream is not None and not job.stream.has_room()))
        held = endless.yielded
        job.cancel()
        await job.over
        assert held <= 9

    serve(methods(predict=endless.predict(predict)), scenario, stream_buffers_bytes=8 * FREE_BYTES)


def test_all_streams_together_are_bounded_and_each_goes_on_when_its_reader_reads(serve: Callable[..., Any]) -> None:
    count, chunks, bound = 4, 20, 8
    yielded = 0

    async def predict(_: Any) -> AsyncGenerator[bytes, None]:
        nonlocal yielded
        for _ in range(chunks):
            yielded += 1
            yield b"x" * FREE_BYTES
            await asyncio.sleep(0)  # the loop sees what is there
            await asyncio.sleep(0)

    async def scenario(runtime: Runtime) -> None:
        jobs = [Asked("x", reads=False) for _ in range(count)]
        for job in jobs:
            runtime.predict.submit(job)
        await until(lambda: all(job.stream is not None and not job.stream.has_room() for job in jobs))
        assert yielded < bound + 2 * count  # each may have put one beyond, and the little that is always its own
        for job in jobs:
            job.reads = True
            job.read()
        for job in jobs:
            await job.over
            assert job.failure is None
            assert len(job.content) == chunks * FREE_BYTES

    serve(methods(predict=predict), scenario, slots=count, stream_buffers_bytes=bound * FREE_BYTES)


# --- what user code may raise ---


class Panic(BaseException):
    """As extensions in Rust raise: not an Exception."""


ERRORS: list[BaseException] = [
    ValueError("bad"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration(),
    Panic(),
]


def raising(kind: str, error: BaseException) -> Any:
    """A method of this kind that raises `error`, if the payload is not "good"."""

    def method(payload: str) -> str:
        if payload != "good":
            raise error
        return payload

    async def coroutine_method(payload: str) -> str:
        return method(payload)

    def generator_method(payload: str) -> Generator[str, None, None]:
        yield method(payload)

    async def async_generator_method(payload: str) -> AsyncGenerator[str, None]:
        yield method(payload)

    async def coroutine_returns_generator(payload: str) -> Any:
        return generator_method(payload)

    async def coroutine_returns_async_generator(payload: str) -> Any:
        return async_generator_method(payload)

    return {
        "plain": method,
        "coroutine": coroutine_method,
        "generator": generator_method,
        "async_generator": async_generator_method,
        "plain_returns_generator": lambda payload: generator_method(payload),
        "plain_returns_async_generator": lambda payload: async_generator_method(payload),
        "coroutine_returns_generator": coroutine_returns_generator,
        "coroutine_returns_async_generator": coroutine_returns_async_generator,
    }[kind]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("kind", ANY)
@pytest.mark.parametrize("whole", [False, True])
def test_whatever_predict_raises_is_its_job_s_error_and_the_next_job_runs(
    serve: Callable[..., Any], kind: str, error: BaseException, whole: bool
) -> None:
    async def scenario(runtime: Runtime) -> None:
        for _ in range(2):
            job = Asked("bad", whole=whole)
            runtime.predict.submit(job)
            await job.over
            if isinstance(error, StopIteration) and kind != "plain":
                assert isinstance(job.failure, RuntimeError)  # Python's own rule for coroutines and generators
            else:
                assert job.failure is error
            assert await ask(runtime, "good", whole=whole) == "good"

    serve(methods(predict=raising(kind, error)), scenario)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@pytest.mark.parametrize("step", ["preprocess", "postprocess"])
def test_whatever_another_step_raises_is_its_job_s_error_too(
    serve: Callable[..., Any], step: str, kind: str, error: BaseException
) -> None:
    async def scenario(runtime: Runtime) -> None:
        job = Asked("bad")
        runtime.predict.submit(job)
        await job.over
        assert job.failure is error or isinstance(job.failure, RuntimeError)
        assert await ask(runtime, "good") == "good"

    serve(methods(**{"predict": lambda payload: payload, step: raising(kind, error)}), scenario)


@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async_generator"])
def test_a_finished_job_is_let_go_without_the_collector(serve: Callable[..., Any], kind: str) -> None:
    async def scenario(runtime: Runtime) -> None:
        gc.disable()
        try:
            job = Asked("x")
            runtime.predict.submit(job)
            await job.over
            reference = weakref.ref(job)
            del job
            await until(lambda: reference() is None)
        finally:
            gc.enable()

    serve(methods(predict=ANY[kind]("p")), scenario)


# --- load ---


class Loading:
    """A model whose `load` fails as often as told."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.failures = failures
        self.error = error or ValueError("not yet")
        self.tries = 0

    def predict(self, payload: Any) -> int:
        return self.tries

    def load(self) -> None:
        self.tries += 1
        if self.tries <= self.failures:
            raise self.error


class LoadingAsync(Loading):
    async def load(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().load()


async def ask_once(runtime: Runtime) -> Any:
    return await ask(runtime, "x")


@pytest.mark.parametrize("model", [Loading, LoadingAsync])
def test_load_is_tried_once_more(serve: Callable[..., Any], model: type[Loading]) -> None:
    assert serve(lambda: model(0), ask_once) == 1
    assert serve(lambda: model(1), ask_once) == 2


@pytest.mark.parametrize("model", [Loading, LoadingAsync])
@pytest.mark.parametrize("said, tries", [(None, 2), ("", 2), ("0", 1), ("1", 2), ("4", 5)])
def test_truss_variable_sets_how_often_load_is_tried_again(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, model: type[Loading], said: str | None, tries: int
) -> None:
    if said is not None:
        monkeypatch.setenv(LOAD_RETRIES_VARIABLE, said)
    made: list[Loading] = []

    def make() -> Loading:
        made.append(model(99))
        return made[-1]

    with pytest.raises(LoadError, match="ValueError: not yet") as failed:
        serve(make, ask_once)
    assert isinstance(failed.value.__cause__, ValueError)
    assert [model.tries for model in made] == [tries]  # and made only once


@pytest.mark.parametrize("said", ["-1", "1.5", "twice", "\u00b2"])
def test_a_variable_that_is_no_number_is_refused(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv(LOAD_RETRIES_VARIABLE, said)
    with pytest.raises(SetupError, match=f"{LOAD_RETRIES_VARIABLE} takes a whole number, not '{said}'"):
        serve(lambda: Loading(0), ask_once)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Panic(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("model", [Loading, LoadingAsync])
def test_a_load_that_raises_what_is_no_exception_has_failed_like_any_other(
    serve: Callable[..., Any], model: type[Loading], error: BaseException
) -> None:
    assert serve(lambda: model(1, error), ask_once) == 2
    with pytest.raises(LoadError) as failed:
        serve(lambda: model(2, error), ask_once)
    assert failed.value.__cause__ is error


def test_a_load_that_is_cancelled_from_within_has_failed_like_any_other(serve: Callable[..., Any]) -> None:
    with pytest.raises(LoadError):
        serve(lambda: LoadingAsync(2, asyncio.CancelledError()), ask_once)


@pytest.mark.parametrize("model", [Loading, LoadingAsync])
def test_a_load_that_the_server_cancels_is_cancelled(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, model: type[Loading]
) -> None:
    begun, release = threading.Event(), threading.Event()

    class Slow:
        predict = plain("p")

        def load(self) -> None:
            begun.set()
            wait(release)

    class SlowAsync:
        predict = plain("p")

        async def load(self) -> None:
            begun.set()
            await asyncio.Event().wait()

    slow = Slow if model is Loading else SlowAsync

    async def scenario(runtime: Runtime) -> None:
        """Load a second time, and leave it."""
        monkeypatch.setattr(version_module, "make_model", lambda *_: slow())
        loading = asyncio.ensure_future(runtime.load())
        await until(begun.is_set)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        release.set()

    serve(lambda: Loading(0), scenario)


def test_a_pause_is_made_between_two_tries(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(delay: float) -> None:
        pauses.append(delay)
        await sleep(0)

    monkeypatch.setattr("asyncio.sleep", note)
    serve(lambda: Loading(1), ask_once)
    assert pauses == [version_module.LOAD_PAUSE_S]
    lines = [record.getMessage() for record in caplog.records if record.name == "fastserve"]
    assert lines[0] == "Executing model.load()..."
    assert lines[1].startswith("model.load() failed; trying again in 0 s")
    assert lines[2] == "Executing model.load()..."
    assert lines[3].startswith("Completed model.load() execution in ")


def test_an_async_load_runs_on_the_loop(serve: Callable[..., Any]) -> None:
    class Model:
        async def load(self) -> None:
            self.thread = threading.get_ident()
            self.lock = asyncio.Lock()  # belongs to the loop that later runs predict

        async def predict(self, payload: Any) -> int:
            async with self.lock:
                return self.thread

    assert serve(Model, ask_once) == threading.get_ident()


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("model", [Loading, LoadingAsync])
def test_an_error_that_cannot_be_shown_is_a_failed_load_too(serve: Callable[..., Any], model: type[Loading]) -> None:
    with pytest.raises(LoadError, match="UnspeakableError: <UnspeakableError that cannot be shown>"):
        serve(lambda: model(2, UnspeakableError()), ask_once)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), StopIteration()], ids=repr)
def test_whatever_import_or_init_raise_is_a_failed_load_and_not_tried_again(
    serve: Callable[..., Any], error: BaseException
) -> None:
    tries = 0

    def make() -> Any:
        nonlocal tries
        tries += 1
        raise error

    with pytest.raises(LoadError, match=type(error).__name__) as failed:
        serve(make, ask_once)
    assert failed.value.__cause__ is error
    assert tries == 1


@pytest.mark.parametrize("error", [SetupError("no model.py"), ModelDefinitionError("no predict")], ids=repr)
def test_a_wrong_directory_or_class_is_told_as_it_is(serve: Callable[..., Any], error: Exception) -> None:
    def make() -> Any:
        raise error

    with pytest.raises(type(error)) as refused:
        serve(make, ask_once)
    assert refused.value is error


def test_a_model_without_predict_is_refused_before_its_load(serve: Callable[..., Any]) -> None:
    def load() -> None:
        raise AssertionError

    with pytest.raises(ModelDefinitionError, match="predict"):
        serve(methods(load=load), ask_once)


# --- in flight, stop ---


def test_what_is_in_flight_is_counted_and_can_be_waited_for(serve: Callable[..., Any]) -> None:
    release = threading.Event()

    def predict(payload: Any) -> Any:
        wait(release)
        return payload

    async def scenario(runtime: Runtime) -> None:
        await runtime.wait_idle()  # nothing is: at once
        jobs = [Asked(number) for number in range(3)]
        for job in jobs:
            runtime.predict.submit(job)
        jobs[2].cancel()
        assert runtime.in_flight == 3
        idle = asyncio.ensure_future(runtime.wait_idle())
        await asyncio.sleep(0)
        assert not idle.done()
        release.set()
        await idle
        assert runtime.in_flight == 0
        assert all(job.over.done() for job in jobs)

    serve(methods(predict=predict), scenario)


def test_waiting_for_idle_includes_what_comes_while_it_waits(serve: Callable[..., Any]) -> None:
    async def scenario(runtime: Runtime) -> None:
        second = Asked("2")

        class First(Asked):
            def on_result(self) -> None:
                super().on_result()
                self.over.get_loop().call_soon(runtime.predict.submit, second)  # before who waits is woken

        runtime.predict.submit(First("1"))
        await runtime.wait_idle()
        assert second.over.done()

    serve(methods(predict=coroutine("p")), scenario)


def test_a_predict_that_is_stuck_is_reported_by_stop(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, release = threading.Event(), threading.Event()

    def predict(payload: Any) -> Any:
        begun.set()
        wait(release)
        return payload

    async def scenario(runtime: Runtime) -> None:
        job = Asked("x")
        runtime.predict.submit(job)
        await until(begun.is_set)
        with monkeypatch.context() as patch:
            patch.setattr(threads, "STOP_S", 0.02)
            assert not runtime.stop()
        release.set()
        await job.over

    serve(methods(predict=predict), scenario)


def test_a_coroutine_that_a_plain_load_returns_is_awaited(serve: Callable[..., Any]) -> None:
    class Loaded:
        is_loaded = False

        def load(self) -> Any:
            return self._load()

        async def _load(self) -> None:
            await asyncio.sleep(0)
            self.is_loaded = True

        def predict(self, payload: Any) -> Any:
            return self.is_loaded

    async def scenario(runtime: Runtime) -> None:
        assert await ask(runtime, None) is True

    serve(Loaded, scenario)


@pytest.mark.parametrize(
    "load, words",
    [
        ("@property\n    def load(self): raise KeyError('lost')", "KeyError: 'lost'"),
        ("def load(self, more): ...", "TypeError: .*missing 1 required positional argument: 'more'"),
        ("async def load(self, more): ...", "TypeError: .*missing 1 required positional argument: 'more'"),
    ],
    ids=["property", "sync", "async"],
)
def test_a_load_that_cannot_be_called_has_failed_like_any_other(
    serve: Callable[..., Any], load: str, words: str
) -> None:
    names: dict[str, Any] = {}
    exec(f"class Model:\n    {load}\n    def predict(self, x): pass", names)
    with pytest.raises(LoadError, match=words):
        serve(names["Model"], ask_once)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_load_that_is_a_generator_is_refused(kind: str) -> None:
    names: dict[str, Any] = {}
    exec(f"class Model:\n    {kind} load(self): yield\n    def predict(self, x): pass", names)
    with pytest.raises(ModelDefinitionError, match="`load` is a generator"):
        find_load(names["Model"]())


# --- websockets ---


def test_a_websocket_counts_as_in_flight_and_needs_no_slot(serve: Callable[..., Any]) -> None:
    async def websocket(gate: asyncio.Event) -> None:
        await gate.wait()

    async def scenario(runtime: Runtime) -> None:
        gate = asyncio.Event()
        attended = [asyncio.create_task(runtime.attend(lambda: gate)) for _ in range(3)]
        idle = asyncio.create_task(runtime.wait_idle())
        await until(lambda: runtime.in_flight == 3)
        assert not idle.done()
        gate.set()
        assert await asyncio.gather(*attended) == [None] * 3
        await idle

    serve(methods(websocket=websocket), scenario, slots=1)


@pytest.mark.parametrize("raised", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_a_websocket_method_raises_is_returned(serve: Callable[..., Any], raised: BaseException) -> None:
    async def websocket(given: Any) -> None:
        raise raised

    async def scenario(runtime: Runtime) -> None:
        assert await runtime.attend(object) is raised
        assert runtime.in_flight == 0

    serve(methods(websocket=websocket), scenario)


def test_memory_that_a_websocket_method_wanted_is_counted(serve: Callable[..., Any]) -> None:
    out_of_memory = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")

    async def websocket(given: Any) -> None:
        if given:
            raise out_of_memory

    async def scenario(runtime: Runtime) -> None:
        shortage = runtime.condition.shortage
        assert await runtime.attend(lambda: True) is out_of_memory
        assert (shortage.total, shortage.in_row) == (1, 1)
        assert await runtime.attend(lambda: False) is None
        assert (shortage.total, shortage.in_row) == (1, 0)

    serve(methods(websocket=websocket), scenario)


def test_an_object_that_cannot_be_made_for_a_websocket_method_is_its_failure(serve: Callable[..., Any]) -> None:
    async def websocket(given: Any) -> None:
        raise AssertionError

    def fail() -> None:
        raise ZeroDivisionError

    async def scenario(runtime: Runtime) -> None:
        assert isinstance(await runtime.attend(fail), ZeroDivisionError)

    serve(methods(websocket=websocket), scenario)


def test_a_websocket_task_that_is_cancelled_ends_and_is_counted_out(serve: Callable[..., Any]) -> None:
    async def websocket(given: Any) -> None:
        await asyncio.Event().wait()

    async def scenario(runtime: Runtime) -> None:
        task = asyncio.create_task(runtime.attend(object))
        await until(lambda: runtime.in_flight == 1)
        task.cancel()
        assert isinstance(await task, asyncio.CancelledError)

    serve(methods(websocket=websocket), scenario)


def test_a_model_with_a_websocket_needs_the_library(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def websocket(given: Any) -> None: ...

    async def scenario(runtime: Runtime) -> None: ...

    monkeypatch.setitem(sys.modules, "websockets.server", None)
    with pytest.raises(ModelDefinitionError, match=r"pip install 'fastserve\[websocket\]'"):
        serve(methods(websocket=websocket), scenario)
