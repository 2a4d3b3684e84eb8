"""Out of memory: which errors say so, what is freed, when there were too many in a row, what a request is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import traceback
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest

from fastserve.model import memory
from fastserve.model.memory import RECOVER_S, SAME_S, Shortage, free_memory, is_out_of_memory
from fastserve.model.runtime import Runtime
from tests.model.test_runtime import Asked, ask, methods, until

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.00 GiB"


class FakeTorch:
    """As much of torch as is asked for. emptied: the caches that were emptied."""

    def __init__(self, *, has_mps: bool = False, fails: bool = False) -> None:
        self.emptied: list[str] = []
        self.fails = fails
        self.cuda = SimpleNamespace(empty_cache=lambda: self.empty("cuda"))
        self.mps = SimpleNamespace(empty_cache=lambda: self.empty("mps"))
        self.backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: has_mps))

    def empty(self, name: str) -> None:
        if self.fails:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self.emptied.append(name)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    fake = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


class UnspeakableError(RuntimeError):
    def __str__(self) -> str:
        raise ValueError


class UntouchableError(RuntimeError):
    def __getattribute__(self, name: str) -> object:
        raise ValueError


# --- which errors say so ---


@pytest.mark.parametrize(
    "text",
    [
        CUDA,
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "HIP out of memory. Tried to allocate 20.00 MiB",
        "MPS backend out of memory (MPS allocated: 18.00 GB, other allocations: 100.00 MB, max allowed: 18.13 GB)",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "XPU out of memory. Tried to allocate 20.00 MiB",
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1073741824 bytes.",
    ],
)
def test_what_torch_and_its_kin_say_when_memory_runs_out_is_known(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))  # somebody's own words


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError(),
        ValueError("bad"),
        KeyError("memory"),
        SystemExit("out of memory"),
        UnspeakableError(),
        MemoryError(),  # of the host's
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000000 bytes."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_error_is_another(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_an_error_that_lets_nobody_ask_it_is_another() -> None:
    assert not is_out_of_memory(UntouchableError())


def test_a_class_of_that_name_is_known_whatever_it_says() -> None:
    for base in (RuntimeError, MemoryError):  # torch's, CuPy's
        kind = type("OutOfMemoryError", (base,), {})
        assert is_out_of_memory(kind("no words of it"))
        assert is_out_of_memory(type("Derived", (kind,), {})())


def test_what_it_is_raised_from_counts_and_not_what_was_handled_on_the_way() -> None:
    wrapped = ValueError("generation failed")
    wrapped.__cause__ = KeyError("batch")
    wrapped.__cause__.__cause__ = RuntimeError(CUDA)
    assert is_out_of_memory(wrapped)
    beside = ValueError("bad input")
    beside.__context__ = RuntimeError(CUDA)
    assert not is_out_of_memory(beside)


def test_causes_in_a_circle_have_an_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not is_out_of_memory(one)


# --- what is freed ---


class Tensor:
    """Something a weak reference can be made to."""


def fail_holding(kept: list[weakref.ref[Tensor]]) -> None:
    tensor = Tensor()
    kept.append(weakref.ref(tensor))
    raise RuntimeError(CUDA)


def caught(function: Callable[[], None]) -> BaseException:
    try:
        function()
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError


def test_what_the_failed_call_held_is_let_go_and_its_traceback_stays(torch: FakeTorch) -> None:
    kept: list[weakref.ref[Tensor]] = []
    error = caught(lambda: fail_holding(kept))
    assert kept[0]() is not None
    free_memory(error)
    assert kept[0]() is None
    assert torch.emptied == ["cuda"]
    assert "raise RuntimeError(CUDA)" in "".join(traceback.format_exception(error))


def test_so_is_what_held_the_errors_that_it_came_from() -> None:
    kept: list[weakref.ref[Tensor]] = []

    def fail_twice() -> None:
        try:
            fail_holding(kept)
        except RuntimeError as error:
            try:
                raise KeyError("handled") from error
            except KeyError:
                raise ValueError("in the end")  # noqa: B904

    error = caught(fail_twice)
    assert kept[0]() is not None
    free_memory(error)
    assert kept[0]() is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="they are not told from those that go on")
def test_so_is_what_a_generator_or_coroutine_held_that_the_error_has_ended() -> None:
    kept: list[weakref.ref[Tensor]] = []

    def generate() -> Generator[None, None, None]:
        tensor = Tensor()
        kept.append(weakref.ref(tensor))
        yield
        fail_holding(kept)

    async def attend() -> None:
        tensor = Tensor()
        kept.append(weakref.ref(tensor))
        list(generate())

    error = caught(lambda: asyncio.run(attend()))
    assert all(reference() is not None for reference in kept)
    free_memory(error)
    assert [reference() for reference in kept] == [None] * 3


def test_a_generator_that_has_caught_the_error_goes_on() -> None:
    def generate() -> Generator[Any, None, None]:
        try:
            fail_holding([])
        except RuntimeError as error:
            yield error
        yield "more"

    generator = generate()
    free_memory(next(generator))
    assert next(generator) == "more"


def test_a_coroutine_that_tells_many_of_their_errors_goes_on(serve: Callable[..., Any]) -> None:
    waiting: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()

    async def engine() -> None:
        while True:
            payload, answer = await waiting.get()
            try:
                answer.set_result(failing(payload))
            except RuntimeError as error:
                answer.set_exception(error)

    async def predict(payload: str) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await waiting.put((payload, answer))
        return await answer

    async def scenario(runtime: Runtime) -> None:
        task = asyncio.create_task(engine())
        for _ in range(3):
            with pytest.raises(RuntimeError, match=CUDA[:20]):
                await ask(runtime, "oom")
            assert runtime.version is not None
            await runtime.version._on_predict_thread(lambda: None)  # behind what frees the memory
            assert await asyncio.wait_for(ask(runtime, "good"), 10) == "good"
        task.cancel()

    serve(methods(predict=predict), scenario)


def test_what_only_the_collector_frees_is_freed_before_the_cache(torch: FakeTorch) -> None:
    gc.disable()
    try:
        tensor = Tensor()
        tensor.itself = tensor  # type: ignore[attr-defined]
        reference = weakref.ref(tensor)
        torch.cuda.empty_cache = lambda: torch.emptied.append("after" if reference() is None else "before")
        del tensor
        free_memory(RuntimeError(CUDA))
    finally:
        gc.enable()
    assert torch.emptied == ["after"]


def test_apple_s_cache_is_emptied_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTorch(has_mps=True)
    monkeypatch.setitem(sys.modules, "torch", fake)
    free_memory(RuntimeError(CUDA))
    assert fake.emptied == ["cuda", "mps"]


def test_a_device_that_frees_nothing_any_more_is_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch(fails=True))
    free_memory(RuntimeError(CUDA))
    assert "memory could not be freed" in caplog.text
    assert "illegal memory access" in caplog.text


# --- how many in a row ---


def test_shortages_in_a_row_are_counted_until_a_success() -> None:
    shortage = Shortage(3)
    for number in range(1, 5):
        shortage.add(10.0 * number)
        assert (shortage.total, shortage.in_row) == (number, number)
        assert shortage.is_too_long == (number >= 3)
    shortage.end()
    assert (shortage.total, shortage.in_row, shortage.is_too_long) == (4, 0, False)


def test_those_of_predicts_side_by_side_are_one_but_a_model_that_always_fails_is_found_out() -> None:
    shortage = Shortage(3)
    for _ in range(8):
        shortage.add(100.0)
    assert (shortage.total, shortage.in_row) == (8, 1)
    now = 100.0
    while not shortage.is_too_long:
        now += 0.01
        shortage.add(now)
    assert now - 100.0 == pytest.approx(2 * SAME_S, abs=0.02)


def test_a_server_that_has_none_keeps_requests_away_for_a_time_and_then_tries_again() -> None:
    shortage = Shortage(2)
    assert not shortage.keeps_from_ready(0.0)
    shortage.add(10.0)
    assert not shortage.keeps_from_ready(10.0)
    shortage.add(20.0)
    assert shortage.keeps_from_ready(20.0)
    assert shortage.keeps_from_ready(19.9 + RECOVER_S)
    assert not shortage.keeps_from_ready(20.0 + RECOVER_S)
    shortage.add(20.0 + RECOVER_S)  # it has tried: one is enough now
    assert shortage.keeps_from_ready(21.0 + RECOVER_S)
    shortage.end()
    assert not shortage.keeps_from_ready(21.0 + RECOVER_S)


def test_without_a_limit_there_are_never_too_many() -> None:
    shortage = Shortage(0)
    for number in range(100):
        shortage.add(10.0 * number)
    assert not shortage.is_too_long
    assert not shortage.keeps_from_ready(1000.0)


def test_the_log_says_once_that_there_are_too_many_and_once_that_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    shortage = Shortage(2)
    for number in range(4):
        shortage.add(10.0 * number)
    shortage.end()
    shortage.end()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"out of memory 2 times in a row: not ready for {RECOVER_S:g} s, or until a request succeeds",
        "a request succeeded after 4 times out of memory in a row",
    ]


# --- through the whole of the model ---


def failing(payload: str) -> str:
    if payload == "oom":
        raise RuntimeError(CUDA)
    if payload == "bad":
        raise ValueError("bad")
    return payload


async def failing_coroutine(payload: str) -> str:
    await asyncio.sleep(0)
    return failing(payload)


def failing_generator(payload: str) -> Generator[str, None, None]:
    yield "begun "
    yield failing(payload)


async def failing_async_generator(payload: str) -> AsyncGenerator[str, None]:
    yield "begun "
    yield failing(payload)


KINDS = [failing, failing_coroutine, failing_generator, failing_async_generator]


@pytest.mark.parametrize("predict", KINDS)
def test_each_is_counted_and_freed_and_only_a_success_ends_the_row(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, predict: Any
) -> None:
    now = 0.0
    freed: list[BaseException] = []
    monkeypatch.setattr("fastserve.model.mishaps.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("fastserve.model.mishaps.free_memory", freed.append)

    async def scenario(runtime: Runtime) -> None:
        nonlocal now
        shortage = runtime.condition.shortage

        async def play(payload: str) -> tuple[int, int]:
            nonlocal now
            now += 10
            job = Asked(payload)
            runtime.predict.submit(job)
            await job.over
            return shortage.total, shortage.in_row

        assert await play("oom") == (1, 1)
        assert await play("oom") == (2, 2)
        assert await play("bad") == (2, 2)  # says nothing of memory
        assert await play("good") == (2, 0)
        assert await play("oom") == (3, 1)
        assert await play("good") == (3, 0)
        assert await play("good") == (3, 0)
        version = runtime.version
        assert version is not None
        assert version.hall.finish == version._finish  # ordinary requests pay nothing for what has been
        await until(lambda: len(freed) == 3)  # some of it on a thread

    serve(methods(predict=predict), scenario)
    assert [str(error) for error in freed] == [CUDA] * 3


def test_a_request_that_nobody_waits_for_is_no_success(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(runtime: Runtime) -> None:
        with pytest.raises(RuntimeError):
            await ask(runtime, "oom")
        job = Asked("good")
        job.cancel()  # before it has begun
        runtime.predict.submit(job)
        await job.over
        assert runtime.condition.shortage.in_row == 1

    serve(methods(predict=failing), scenario)


def test_too_many_turn_the_condition_until_one_succeeds_and_end_the_process_if_that_is_asked(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SAME_S", 0.0)

    async def scenario(runtime: Runtime) -> bool:
        condition = runtime.condition
        for is_good in (True, False):
            with pytest.raises(RuntimeError):
                await ask(runtime, "oom")
            condition.tick(condition.shortage._latest)
            assert condition.is_good is is_good
        must_end = condition.must_end
        assert await ask(runtime, "good") == "good"
        condition.tick(condition.shortage._latest)
        assert condition.is_good
        assert not condition.must_end
        return must_end

    for exits in (False, True):
        assert serve(methods(predict=failing), scenario, oom_limit=2, exit_on_oom=exits) is exits
