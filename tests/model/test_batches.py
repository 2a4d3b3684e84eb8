"""predict in batches, of every kind: who is in which, what each gets, what the failure of one does to the others."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from fastserve.errors import DeadlineError, ModelDefinitionError, ResultError
from fastserve.model.batch_streams import BatchStreams, produce_batch
from fastserve.model.running import Run, find_runs
from fastserve.model.runtime import Runtime
from fastserve.model.steps import Job
from fastserve.model.streams import FREE_BYTES, Stream
from tests.support.batching import Asked, Recorder, Serve, ask, methods, serve, submit, until, wait
from tests.support.strikes import Striker

__all__ = ["serve"]  # a fixture

WHOLE = ["plain", "coroutine"]
STREAMED = [
    "generator",
    "async_generator",
    "plain_returns_generator",
    "plain_returns_async_generator",
    "coroutine_returns_async_generator",
]
KINDS = [*WHOLE, *STREAMED]


# --- who is in which batch ---


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_gathered_while_one_batch_ran_makes_the_next(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        await recorder.hold(runtime)
        jobs = submit(runtime, *range(20))
        recorder.open_gate()
        for number, job in enumerate(jobs):
            assert await job.answer() == f"p({number})"
        assert runtime.version is not None
        assert runtime.version.batches is not None
        assert runtime.version.batches.sizes == {1: 1, 8: 2, 4: 1}

    serve(methods(predict=recorder.predict), scenario, max_batch_size=8)
    assert recorder.batches == [["hold"], [*range(8)], [*range(8, 16)], [*range(16, 20)]]


@pytest.mark.parametrize("kind", KINDS)
def test_alone_it_is_a_batch_of_one_and_waits_for_nobody(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        for number in range(3):
            assert await ask(runtime, number) == f"p({number})"

    serve(methods(predict=recorder.predict), scenario)
    assert recorder.batches == [[0], [1], [2]]


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_in_one_turn_of_the_loop_goes_together(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        await asyncio.gather(*(ask(runtime, number) for number in range(5)))

    serve(methods(predict=recorder.predict), scenario)
    assert recorder.batches == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_batch_goes_before_its_window_is_over(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2)
        await some_turns()
        assert recorder.batches == []
        jobs += submit(runtime, 3)
        for job in jobs:
            await job.over

    serve(methods(predict=recorder.predict), scenario, max_batch_size=3, batch_wait_ms=60_000)
    assert recorder.batches == [[1, 2, 3]]


@pytest.mark.parametrize("kind", WHOLE)
def test_one_that_is_not_full_goes_when_its_window_is_over(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)
    took = []

    async def scenario(runtime: Runtime) -> None:
        began = time.monotonic()
        jobs = submit(runtime, 1)
        await some_turns()
        jobs += submit(runtime, 2)
        for job in jobs:
            await job.over
        took.append(time.monotonic() - began)

    serve(methods(predict=recorder.predict), scenario, batch_wait_ms=500)
    assert recorder.batches == [[1, 2]]
    assert took[0] >= 0.498  # the loop's timers are as fine as a millisecond


@pytest.mark.parametrize("kind", WHOLE)
def test_who_leaves_while_the_window_is_open_is_over_at_once(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2)
        await some_turns()
        for job in jobs:
            job.cancel()
            runtime.predict.withdraw(job)
            await asyncio.wait_for(job.over, 10)
        assert (runtime.queued, runtime.in_flight) == (0, 0)
        jobs = submit(runtime, 3, 4, 5)
        for job in jobs:
            await job.over

    serve(methods(predict=recorder.predict), scenario, max_batch_size=3, batch_wait_ms=60_000)
    assert recorder.batches == [[3, 4, 5]]


async def some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", WHOLE)
def test_as_many_batches_run_at_once_as_there_are_slots(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        first = submit(runtime, "hold")
        await until(lambda: len(recorder.batches) == 1)
        second = submit(runtime, "hold", 1)
        await until(lambda: len(recorder.batches) == 2)
        third = submit(runtime, 2)
        await some_turns()
        assert len(recorder.batches) == 2
        recorder.open_gate()
        for job in [*first, *second, *third]:
            await job.over

    serve(methods(predict=recorder.predict), scenario, slots=2)
    assert recorder.batches == [["hold"], ["hold", 1], [2]]


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("wait_ms", [0, 1])
@pytest.mark.parametrize("steps", list(itertools.product(["plain", "coroutine"], repeat=3)), ids="-".join)
def test_many_jobs_are_each_answered_once_with_their_own(
    serve: Serve, steps: tuple[str, str, str], wait_ms: int, slots: int
) -> None:
    recorder = Recorder(steps[1])

    async def scenario(runtime: Runtime) -> None:
        jobs = []
        for number in range(300):
            jobs += submit(runtime, number)
            if number % 7 == 0:
                await asyncio.sleep(0)
        for number, job in enumerate(jobs):
            assert await job.answer() == f"post(p(pre({number})))"

    model = methods(preprocess=one("pre", steps[0]), predict=recorder.predict, postprocess=one("post", steps[2]))
    serve(model, scenario, slots=slots, batch_wait_ms=wait_ms)
    assert sum(map(len, recorder.batches)) == 300
    assert max(map(len, recorder.batches)) <= 8


def one(name: str, kind: str) -> Any:
    """A step that is given single values."""

    async def coroutine(value: Any) -> str:
        return f"{name}({value})"

    return coroutine if kind == "coroutine" else lambda value: f"{name}({value})"


# --- items of different size ---


@pytest.mark.parametrize("kind", KINDS)
def test_the_cap_is_on_the_sum_of_the_sizes(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)
    places = set()

    def batch_size_of(number: Any) -> int:
        places.add(threading.current_thread().name.rpartition("-")[0])
        return 1 if number == "hold" else int(number)

    async def scenario(runtime: Runtime) -> None:
        await recorder.hold(runtime)
        jobs = submit(runtime, 4, 4, 4, 12, 9, 1, 0, 0)
        recorder.open_gate()
        for job in jobs:
            await job.over

    serve(methods(predict=recorder.predict, batch_size_of=batch_size_of), scenario, max_batch_size=10)
    assert recorder.batches == [["hold"], [4, 4], [4], [12], [9, 1], [0, 0]]
    is_on_loop = kind.startswith(("coroutine", "async"))
    assert places == {threading.current_thread().name.rpartition("-")[0] if is_on_loop else "fastserve-predict"}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_batch_is_full_as_soon_as_the_sizes_say_so(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 6)
        await some_turns()
        jobs += submit(runtime, 4)
        for job in jobs:
            await job.over

    model = methods(predict=recorder.predict, batch_size_of=lambda number: number)
    serve(model, scenario, max_batch_size=10, batch_wait_ms=60_000)
    assert recorder.batches == [[6, 4]]


@pytest.mark.parametrize("kind", WHOLE)
def test_what_cannot_be_measured_fails_alone(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    def batch_size_of(value: Any) -> Any:
        if value == "bad":
            raise ValueError("no size")
        return 1.5 if value == "half" else 1

    async def scenario(runtime: Runtime) -> None:
        good, bad, half, other = submit(runtime, "good", "bad", "half", "other")
        assert (await good.answer(), await other.answer()) == ("p(good)", "p(other)")
        with pytest.raises(ValueError, match="no size"):
            await bad.answer()
        with pytest.raises(ResultError, match="`batch_size_of` must return a whole number, not float"):
            await half.answer()

    serve(methods(predict=recorder.predict, batch_size_of=batch_size_of), scenario)
    assert recorder.batches == [["good", "other"]]


# --- what fails ---


def fails_on(*culprits: Any, error: Callable[[], BaseException] = lambda: ValueError("bad")) -> Callable[[Any], str]:
    def answer(value: Any) -> str:
        if value in culprits:
            raise error()
        return f"p({value})"

    return answer


class Panic(BaseException):
    """As extensions in Rust raise: not an Exception."""


@pytest.mark.parametrize("error", [lambda: ValueError("bad"), lambda: SystemExit(1), Panic, StopIteration])
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_culprit_fails(
    serve: Serve, kind: str, error: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(kind, fails_on(2, error=error))

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2, 3)
        for job in jobs:
            await job.over
        assert [job.failure is None for job in jobs] == [True, False, True]
        assert isinstance(jobs[1].failure, (type(error()), RuntimeError))  # PEP 479, for StopIteration
        assert await jobs[2].answer() == "p(3)"
        assert runtime.version is not None
        assert runtime.version.batches is not None
        assert runtime.version.batches.sizes == {3: 1}
        assert runtime.version.batches.retried == 1

    serve(methods(predict=recorder.predict), scenario)
    assert recorder.batches == [[1, 2, 3], [1], [2], [3]]
    (record,) = caplog.records
    assert "predict failed for a batch of 3" in record.message
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize("kind", WHOLE)
def test_the_failure_of_the_culprit_has_nothing_of_the_batch_s(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind, fails_on(2))

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2)
        for job in jobs:
            await job.over
        assert jobs[1].error is not None
        assert jobs[1].error.__context__ is None

    serve(methods(predict=recorder.predict), scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_all_fail_alike_if_the_model_wants_that(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind, fails_on(2))

    async def scenario(runtime: Runtime) -> None:
        for job in submit(runtime, 1, 2, 3):
            with pytest.raises(ValueError, match="bad"):
                await job.answer()

    serve(methods(predict=recorder.predict), scenario, on_batch_error="fail")
    assert recorder.batches == [[1, 2, 3]]


@pytest.mark.parametrize("kind", KINDS)
def test_one_alone_that_fails_is_not_tried_again(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind, fails_on(2))

    async def scenario(runtime: Runtime) -> None:
        with pytest.raises(ValueError, match="bad"):
            await ask(runtime, 2)

    serve(methods(predict=recorder.predict), scenario)
    assert recorder.batches == [[2]]


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize(
    "result, got",
    [(["a"], "1 of them"), (("a",) * 3, "3 of them"), ({"a": 1}, "dict"), (None, "NoneType"), ("ab", "str")],
)
def test_what_is_no_list_of_as_many_results_is_told_to_each_and_not_tried_again(
    serve: Serve, kind: str, result: Any, got: str
) -> None:
    calls = []

    def plain(inputs: list[Any]) -> Any:
        calls.append(inputs)
        return result

    async def coroutine(inputs: list[Any]) -> Any:
        return plain(inputs)

    async def scenario(runtime: Runtime) -> None:
        wanted = f"`predict` must return a list of 2 results, one for each input \\(batching\\), not {got}"
        for job in submit(runtime, 1, 2):
            with pytest.raises(ResultError, match=wanted):
                await job.answer()

    serve(methods(predict=plain if kind == "plain" else coroutine), scenario)
    assert calls == [[1, 2]]


@pytest.mark.parametrize("kind", WHOLE)
def test_a_tuple_will_do(serve: Serve, kind: str) -> None:
    async def coroutine(inputs: list[Any]) -> Any:
        return tuple(inputs)

    async def scenario(runtime: Runtime) -> None:
        assert [await job.answer() for job in submit(runtime, 1, 2)] == [1, 2]

    serve(methods(predict=tuple if kind == "plain" else coroutine), scenario)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_result_that_cannot_be_encoded_fails_alone(serve: Serve, kind: str) -> None:
    def encode(value: Any) -> Any:
        if value == "p(2)":
            raise ResultError("no JSON form")
        return value

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2, 3)
        assert await jobs[0].answer() == "p(1)"
        with pytest.raises(ResultError, match="no JSON form"):
            await jobs[1].answer()
        assert await jobs[2].answer() == "p(3)"

    recorder = Recorder(kind)
    serve(methods(predict=recorder.predict), scenario, encode=encode)
    assert recorder.batches == [[1, 2, 3]]


# --- who leaves ---


@pytest.mark.parametrize("kind", KINDS)
def test_who_leaves_while_queued_is_in_no_batch(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        await recorder.hold(runtime)
        jobs = submit(runtime, 1, 2, 3)
        jobs[1].cancel()
        recorder.open_gate()
        for job in jobs:
            await job.over

    serve(methods(predict=recorder.predict), scenario)
    assert recorder.batches == [["hold"], [1, 3]]


@pytest.mark.parametrize("kind", WHOLE)
def test_if_all_leave_before_their_window_is_over_nothing_is_called(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2)
        await some_turns()
        for job in jobs:
            job.cancel()
        for job in jobs:
            await job.over
        assert await ask(runtime, 3) == "p(3)"

    serve(methods(predict=recorder.predict), scenario, batch_wait_ms=500)
    assert recorder.batches == [[3]]


@pytest.mark.parametrize("kind", WHOLE)
def test_who_leaves_while_a_batch_runs_is_not_tried_alone_when_it_fails(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind, fails_on(2))

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, "hold", 1, 2)
        await until(lambda: len(recorder.batches) == 1)
        jobs[1].cancel()
        recorder.open_gate()
        for job in jobs:
            await job.over
        assert await jobs[0].answer() == "p(hold)"

    serve(methods(predict=recorder.predict), scenario)
    assert recorder.batches == [["hold", 1, 2], ["hold"], [2]]


# --- contexts ---

USER: ContextVar[str] = ContextVar("USER", default="none")


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_sees_nothing_of_any_request(serve: Serve, kind: str, count: int) -> None:
    seen: list[str] = []

    def answer(value: Any) -> str:
        if value == recorder.batches[-1][0]:  # the first of its batch
            seen.append(USER.get())
        USER.set("the batch's")
        return "answer"

    def preprocess(value: Any) -> Any:
        USER.set(f"user {value}")
        return value

    async def scenario(runtime: Runtime) -> None:
        for _ in range(2):
            await asyncio.gather(*(ask(runtime, number) for number in range(count)))
            assert USER.get() == "none"

    recorder = Recorder(kind, answer)
    serve(methods(preprocess=preprocess, predict=recorder.predict), scenario)
    assert seen == ["none"] * len(recorder.batches)


@pytest.mark.parametrize("postprocess", WHOLE)
@pytest.mark.parametrize("kind", WHOLE)
def test_each_result_is_postprocessed_in_the_context_of_its_own_request(
    serve: Serve, kind: str, postprocess: str
) -> None:
    async def preprocess(value: Any) -> Any:
        USER.set(f"user {value}")
        return value

    def see(result: str) -> str:
        return f"{result} {USER.get()}"

    async def see_on_loop(result: str) -> str:
        return see(result)

    async def scenario(runtime: Runtime) -> None:
        for number, job in enumerate(submit(runtime, *range(4))):
            assert await job.answer() == f"p({number}) user {number}"

    steps = {"preprocess": preprocess, "postprocess": see if postprocess == "plain" else see_on_loop}
    serve(methods(predict=Recorder(kind).predict, **steps), scenario)


# --- results that are run on ---


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("inner", ["plain", "async"])
@pytest.mark.parametrize("kind", WHOLE)
def test_a_result_may_itself_be_a_generator(serve: Serve, kind: str, inner: str, whole: bool) -> None:
    def letters(text: str) -> Generator[str, None, None]:
        yield from text

    async def letters_async(text: str) -> AsyncGenerator[str, None]:
        for letter in text:
            yield letter

    def plain(inputs: list[str]) -> list[Any]:
        return [(letters if inner == "plain" else letters_async)(text) for text in inputs]

    async def coroutine(inputs: list[str]) -> list[Any]:
        return plain(inputs)

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, "one", "two", "three", whole=whole)
        assert [await job.answer() for job in jobs] == ["one", "two", "three"]

    serve(methods(predict=plain if kind == "plain" else coroutine), scenario)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_result_may_be_sent_by_itself_and_fail_by_itself(serve: Serve, kind: str) -> None:
    async def send(value: str) -> str:
        await asyncio.sleep(0)
        if value == "p(2)":
            raise ValueError("unsendable")
        return f"sent {value}"

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2, 3)
        assert await jobs[0].answer() == "sent p(1)"
        with pytest.raises(ValueError, match="unsendable"):
            await jobs[1].answer()
        assert await jobs[2].answer() == "sent p(3)"

    serve(methods(predict=Recorder(kind).predict), scenario, encode=send)


# --- batches that stream ---


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", STREAMED)
def test_each_stream_ends_with_its_none_and_not_with_the_last(serve: Serve, kind: str, whole: bool) -> None:
    recorder = Recorder(kind)  # the texts are of different length
    order: list[int] = []

    class Noting(Asked):
        def on_result(self) -> None:
            order.append(len(self.asked))
            super().on_result()

    async def scenario(runtime: Runtime) -> None:
        texts = ["a" * 30, "a", "a" * 10, "a" * 20]
        jobs = [Noting(text, whole=whole) for text in texts]
        for job in jobs:
            runtime.predict.submit(job)
        assert [await job.answer() for job in jobs] == [f"p({text})" for text in texts]

    serve(methods(predict=recorder.predict), scenario)
    assert len(recorder.batches) == 1
    assert order == [1, 10, 20, 30]


def rounds(kind: str, *chunks: Any, closed: list[str] | None = None) -> Any:
    """A predict that yields these, whatever it is given; one that is an exception is raised."""

    def generator(inputs: list[Any]) -> Generator[Any, None, None]:
        try:
            for chunk in chunks:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk
        finally:
            if closed is not None:
                closed.append("closed")

    async def async_generator(inputs: list[Any]) -> AsyncGenerator[Any, None]:
        try:
            for chunk in chunks:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk
        finally:
            if closed is not None:
                closed.append("closed")

    return generator if kind == "generator" else async_generator


BOTH = ["generator", "async_generator"]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", BOTH)
def test_a_generator_that_fails_midway_fails_all_that_go_on(serve: Serve, kind: str, whole: bool) -> None:
    async def scenario(runtime: Runtime) -> None:
        ended, cut, other = submit(runtime, 1, 2, 3, whole=whole)
        assert await ended.answer() == "a"
        for job in (cut, other):
            with pytest.raises(ValueError, match="boom"):
                await job.answer()

    serve(methods(predict=rounds(kind, ["a", "b", "c"], [None, "b", "c"], ValueError("boom"))), scenario)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "wrong, words",
    [
        (["a"], "must yield a list of 2 chunks, one for each input .*not 1 of them"),
        ("ab", "must yield a list of 2 chunks, .* not str"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_list_of_as_many_chunks_is_told_to_each(serve: Serve, kind: str, wrong: Any, words: str) -> None:
    async def scenario(runtime: Runtime) -> None:
        for job in submit(runtime, 1, 2):
            with pytest.raises(ResultError, match=words):
                await job.answer()

    for first in ([], [["a", "b"]]):
        closed: list[str] = []
        serve(methods(predict=rounds(kind, *first, wrong, ["never", "seen"], closed=closed)), scenario)
        assert closed == ["closed"]  # and not tried again


@pytest.mark.parametrize("kind", BOTH)
def test_a_chunk_behind_the_none_is_a_mistake_that_is_not_passed_over(serve: Serve, kind: str) -> None:
    async def scenario(runtime: Runtime) -> None:
        ended, cut = submit(runtime, 1, 2)
        assert await ended.answer() == "a"
        with pytest.raises(ResultError, match="a chunk for input 0 after the None that ended its stream; yield"):
            await cut.answer()

    serve(methods(predict=rounds(kind, ["a", "b"], [None, "b"], [None, ""], ["a", "b"])), scenario)


@pytest.mark.parametrize("kind", BOTH)
def test_an_empty_chunk_is_nothing_this_time(serve: Serve, kind: str) -> None:
    async def scenario(runtime: Runtime) -> None:
        assert [await job.answer() for job in submit(runtime, 1, 2)] == ["aa", "b"]

    serve(methods(predict=rounds(kind, ["a", ""], ("a", "b"))), scenario)


@pytest.mark.parametrize("kind", BOTH)
def test_a_chunk_that_cannot_be_sent_fails_its_own_alone(serve: Serve, kind: str) -> None:
    async def scenario(runtime: Runtime) -> None:
        bad, good = submit(runtime, 1, 2)
        with pytest.raises(ResultError, match="must yield text or bytes, not dict"):
            await bad.answer()
        assert await good.answer() == "bb"

    serve(methods(predict=rounds(kind, [{}, "b"], ["a", "b"])), scenario)


class Unshowable:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("kind", BOTH)
def test_what_is_gathered_is_written_as_text_and_fails_alone_too(serve: Serve, kind: str) -> None:
    async def scenario(runtime: Runtime) -> None:
        number, bad, broken = submit(runtime, 1, 2, 3, whole=True)
        assert await number.answer() == "1{}"
        with pytest.raises(ValueError, match="no text"):
            await bad.answer()
        with pytest.raises(ResultError, match="a stream that is not UTF-8"):
            await broken.answer()

    serve(methods(predict=rounds(kind, [1, Unshowable(), b"\xff"], [{}, "", ""])), scenario)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", BOTH)
def test_a_generator_without_chunks_gives_each_an_empty_stream(serve: Serve, kind: str, whole: bool) -> None:
    async def scenario(runtime: Runtime) -> None:
        for job in submit(runtime, 1, 2, whole=whole):
            assert await job.answer() == ""

    serve(methods(predict=rounds(kind)), scenario)


class Endless:
    """A predict that yields for ever, with a gate behind the first chunks."""

    def __init__(self, chunk: bytes = b"x", at_most: int = 10_000) -> None:
        self.chunk = chunk
        self.at_most = at_most
        self.yielded = 0
        self.is_closed = False
        self.gate, self.gate_async = threading.Event(), asyncio.Event()

    def open_gate(self) -> None:
        self.gate.set()
        self.gate_async.set()

    def predict(self, kind: str) -> Any:
        def generator(inputs: list[Any]) -> Generator[Any, None, None]:
            try:
                for _ in range(self.at_most):
                    self.yielded += 1
                    yield [self.chunk] * len(inputs)
                    wait(self.gate)
            finally:
                self.is_closed = True

        async def async_generator(inputs: list[Any]) -> AsyncGenerator[Any, None]:
            try:
                for _ in range(self.at_most):
                    self.yielded += 1
                    yield [self.chunk] * len(inputs)
                    await self.gate_async.wait()
            finally:
                self.is_closed = True

        return generator if kind == "generator" else async_generator


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", BOTH)
def test_a_generator_is_closed_when_all_its_clients_have_left(serve: Serve, kind: str, whole: bool) -> None:
    endless = Endless()

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2, whole=whole)
        await until(lambda: endless.yielded == 1)
        for job in jobs:
            job.cancel()
        endless.open_gate()
        for job in jobs:
            await job.over
        assert [job.failure for job in jobs] == [None, None]

    serve(methods(predict=endless.predict(kind)), scenario)
    assert endless.is_closed
    assert endless.yielded <= 2


@pytest.mark.parametrize("kind", BOTH)
def test_one_that_leaves_a_stream_does_not_end_the_others(serve: Serve, kind: str) -> None:
    endless = Endless(at_most=50)

    async def scenario(runtime: Runtime) -> None:
        leaves, stays = submit(runtime, 1, 2)
        await until(lambda: endless.yielded == 1)
        leaves.cancel()
        endless.open_gate()
        await leaves.over
        assert await stays.answer() == "x" * 50

    serve(methods(predict=endless.predict(kind)), scenario)


@pytest.mark.parametrize("kind", BOTH)
def test_whose_answer_is_not_wanted_but_not_stopped_either_runs_to_its_end(serve: Serve, kind: str) -> None:
    endless = Endless(at_most=50)

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2)
        await until(lambda: endless.yielded == 1)
        for job in jobs:
            job.drop_output(stops=False)
        endless.open_gate()
        for job in jobs:
            await job.over

    serve(methods(predict=endless.predict(kind)), scenario)
    assert endless.yielded == 50


@pytest.mark.parametrize("kind", BOTH)
def test_a_batch_waits_for_the_slowest_reader_within_its_bound(serve: Serve, kind: str) -> None:
    endless = Endless(b"x" * FREE_BYTES, at_most=20)
    endless.open_gate()

    async def scenario(runtime: Runtime) -> None:
        slow, fast = Asked(1, reads=False), Asked(2)
        for job in (slow, fast):
            runtime.predict.submit(job)
        await until(lambda: slow.stream is not None and not slow.stream.has_room())
        assert endless.yielded < 20
        slow.reads = True
        slow.read()
        assert len(await slow.answer()) == len(await fast.answer()) == 20 * FREE_BYTES

    serve(methods(predict=endless.predict(kind)), scenario, stream_buffer_bytes=2 * FREE_BYTES)


@pytest.mark.parametrize("kind", STREAMED)
def test_a_streamed_batch_cannot_be_postprocessed(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        for job in submit(runtime, 1, 2):
            with pytest.raises(ModelDefinitionError, match="returned a generator and the model has a `postprocess`"):
                await job.answer()

    serve(methods(predict=recorder.predict, postprocess=lambda result: result), scenario)


def test_a_coroutine_must_yield_itself(serve: Serve) -> None:
    async def predict(inputs: list[Any]) -> Any:
        return ([value] for value in inputs)

    async def scenario(runtime: Runtime) -> None:
        with pytest.raises(ModelDefinitionError, match="is a coroutine and returned a generator, which may block"):
            await ask(runtime, 1)

    serve(methods(predict=predict), scenario)


# --- the end, and what comes in between ---


@pytest.mark.parametrize("kind", WHOLE)
def test_a_window_that_is_open_does_not_hold_up_the_end(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        (job,) = submit(runtime, 1)
        await some_turns()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if task.get_name() != "main":
                task.cancel()
        await some_turns()
        if kind == "coroutine":
            with pytest.raises(asyncio.CancelledError):
                await job.answer()

    serve(methods(predict=recorder.predict), scenario, batch_wait_ms=60_000, ends_idle=False)
    assert recorder.batches == []


def test_a_model_that_cancels_the_task_that_gathers_loses_no_later_batch(serve: Serve) -> None:
    recorder = Recorder("coroutine")

    async def scenario(runtime: Runtime) -> None:
        await recorder.hold(runtime)
        queued = submit(runtime, 1, 2)
        await some_turns()
        for task in asyncio.all_tasks():
            if task.get_name() != "main":
                task.cancel()
        for job in queued:
            with pytest.raises(asyncio.CancelledError):
                await job.answer()
        recorder.open_gate()
        assert await ask(runtime, 3) == "p(3)"

    serve(methods(predict=recorder.predict), scenario)
    assert recorder.batches == [["hold"], [3]]


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_queued_is_answered_by_the_class_it_was_sent_to(serve: Serve, kind: str) -> None:
    recorder, after = Recorder(kind), Recorder(kind, lambda value: f"new({value})")

    async def scenario(runtime: Runtime) -> None:
        await recorder.hold(runtime)
        queued = submit(runtime, 1, 2)
        version = runtime.version
        assert version is not None
        version.take_class(methods(predict=after.predict, batch_size_of=lambda value: 5))
        runtime.adopt(version)
        late = submit(runtime, 3, 4)
        recorder.open_gate()
        assert [await job.answer() for job in queued + late] == ["p(1)", "p(2)", "new(3)", "new(4)"]

    serve(methods(predict=recorder.predict), scenario)
    assert (recorder.batches, after.batches) == ([["hold"], [1, 2]], [[3], [4]])


def test_without_batching_predict_is_given_single_inputs(serve: Serve) -> None:
    async def scenario(runtime: Runtime) -> None:
        assert await ask(runtime, 5) == 5
        assert runtime.version is not None
        assert runtime.version.batches is None

    serve(methods(predict=lambda value: value), scenario, max_batch_size=None)


def test_a_class_that_cannot_be_given_batches_is_refused(serve: Serve) -> None:
    async def scenario(runtime: Runtime) -> None: ...

    with pytest.raises(ModelDefinitionError, match="takes no input, and a batch is a list of inputs"):
        serve(methods(predict=lambda: None), scenario)


@pytest.mark.parametrize("kind", WHOLE)
def test_nothing_of_a_batch_is_held_once_it_is_over(serve: Serve, kind: str) -> None:
    references: list[weakref.ref[Any]] = []

    class Payload: ...

    def plain(inputs: list[Any]) -> list[Any]:
        if len(inputs) > 1:
            raise ValueError("bad")
        return [len(inputs)]

    async def coroutine(inputs: list[Any]) -> list[Any]:
        return plain(inputs)

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, Payload(), Payload())
        for job in jobs:
            references.append(weakref.ref(job.asked))
            job.asked = None
        for job in jobs:
            assert await job.answer() == 1
        del job, jobs
        await until(lambda: [reference() for reference in references] == [None, None])

    serve(methods(predict=plain if kind == "plain" else coroutine), scenario)
    assert len(references) == 2


# --- deadlines, and what is told of where the time went ---


@pytest.mark.parametrize("kind", KINDS)
def test_whose_deadline_passes_while_queued_is_in_no_batch(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        await recorder.hold(runtime)
        jobs = [Asked(number) for number in range(3)]
        jobs[1].expires = 0
        for job in jobs:
            runtime.predict.submit(job)
        recorder.open_gate()
        for job in jobs:
            await job.over
        assert [type(job.failure) for job in jobs] == [type(None), DeadlineError, type(None)]
        assert jobs[1].times is not None
        assert len(jobs[1].times) == 1

    serve(methods(predict=recorder.predict), scenario)
    assert recorder.batches == [["hold"], [0, 2]]


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_withdrawn_is_over_at_once_and_counts_no_more(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        await recorder.hold(runtime)
        jobs = submit(runtime, 1, 2, 3)
        assert runtime.version is not None
        assert runtime.version.queued == 3
        jobs[1].cancel()
        runtime.predict.withdraw(jobs[1])
        assert jobs[1].over.done()
        assert runtime.version.queued == 2
        assert runtime.in_flight == 3
        recorder.open_gate()
        await jobs[0].over
        await jobs[2].over

    serve(methods(predict=recorder.predict), scenario)
    assert recorder.batches == [["hold"], [1, 3]]


@pytest.mark.parametrize("kind", KINDS)
def test_begin_and_end_of_predict_are_noted_once_although_inputs_are_tried_alone(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind, fails_on(2))

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2, 3)
        for job in jobs:
            await job.over
        for job in (jobs[0], jobs[2]):
            assert job.times is not None
            assert job.times == sorted(job.times)
            assert len(job.times) == 3
        assert runtime.predict.stage_of(jobs[0]) in ("predict", "stream")

    serve(methods(predict=recorder.predict), scenario)


# --- out of memory ---


def too_much_from(count: int, recorder: Recorder) -> Callable[[Any], str]:
    """An answer that fails as torch does if the batch has so many inputs."""

    def answer(value: Any) -> str:
        if len(recorder.batches[-1]) >= count or value == "huge":
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return f"p({value})"

    return answer


@pytest.mark.parametrize("on_batch_error", ["isolate", "fail"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_much_for_the_memory_is_tried_in_halves_with_the_memory_freed_before(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, kind: str, on_batch_error: str
) -> None:
    recorder = Recorder(kind)
    recorder._answer = too_much_from(3, recorder)
    seen: list[str] = []
    monkeypatch.setattr("fastserve.model.mishaps.free_memory", lambda error: seen.append("freed"))
    answer = recorder._answer
    recorder._answer = lambda value: seen.append(str(value)) or answer(value)  # type: ignore[func-returns-value]

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2, 3, 4, "huge")
        for job, expected in zip(jobs[:4], ["p(1)", "p(2)", "p(3)", "p(4)"], strict=True):
            assert await job.answer() == expected
        with pytest.raises(RuntimeError, match="CUDA out of memory"):
            await jobs[4].answer()
        assert runtime.condition.shortage.total == 4  # of 5, of 3, of 2 and of 1
        assert runtime.version is not None
        assert runtime.version.batches is not None
        assert runtime.version.batches.retried == 3

    serve(methods(predict=recorder.predict), scenario, on_batch_error=on_batch_error)
    assert recorder.batches == [[1, 2, 3, 4, "huge"], [1, 2], [3, 4, "huge"], [3], [4, "huge"], [4], ["huge"]]
    assert seen == ["1", "freed", "1", "2", "3", "freed", "3", "4", "huge", "freed", "4", "huge", "freed"]


@pytest.mark.parametrize("kind", KINDS)
def test_who_tries_the_halves_outlives_the_freeing_of_the_memory(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)
    recorder._answer = too_much_from(2, recorder)

    async def scenario(runtime: Runtime) -> None:
        for job, expected in zip(submit(runtime, 1, 2), ["p(1)", "p(2)"], strict=True):
            assert await asyncio.wait_for(job.answer(), 10) == expected

    serve(methods(predict=recorder.predict), scenario)


@pytest.mark.parametrize("kind", STREAMED[:2])
def test_memory_that_runs_out_in_the_middle_of_streams_is_counted_and_freed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    freed: list[BaseException] = []
    monkeypatch.setattr("fastserve.model.mishaps.free_memory", freed.append)

    def plain(inputs: list[Any]) -> Generator[list[str], None, None]:
        yield ["a" for _ in inputs]
        raise RuntimeError("CUDA out of memory")

    async def on_loop(inputs: list[Any]) -> AsyncGenerator[list[str], None]:
        yield ["a" for _ in inputs]
        raise RuntimeError("CUDA out of memory")

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2)
        for job in jobs:
            await job.over
            assert isinstance(job.failure, RuntimeError)
        await until(lambda: runtime.condition.shortage.total == 1 and len(freed) == 1)

    serve(methods(predict=plain if kind == "generator" else on_loop), scenario)


@pytest.mark.parametrize("kind", WHOLE)
def test_memory_that_runs_out_beside_predict_is_counted_and_freed_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    freed: list[BaseException] = []
    monkeypatch.setattr("fastserve.model.mishaps.free_memory", freed.append)

    class TooMuch(Asked):
        def encode(self) -> Any:
            raise RuntimeError("CUDA out of memory")

    def size_of(value: Any) -> int:
        if value == "huge":
            raise RuntimeError("CUDA out of memory")
        return 1

    async def scenario(runtime: Runtime) -> None:
        jobs: list[Asked] = [TooMuch(1), Asked("huge"), Asked(2)]
        for job in jobs:
            runtime.predict.submit(job)
        for job in jobs[:2]:
            with pytest.raises(RuntimeError, match="CUDA out of memory"):
                await job.answer()
        assert await jobs[2].answer() == "p(2)"
        await until(lambda: runtime.condition.shortage.total == 2 and len(freed) == 2)

    serve(methods(predict=Recorder(kind).predict, batch_size_of=size_of), scenario)


# --- the watchdog, struck threads, inference mode ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_one_run_while_it_runs_and_none_while_it_gathers(serve: Serve, kind: str) -> None:
    recorder = Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        def runs() -> list[Run]:
            return list(find_runs(asyncio.get_running_loop(), runtime._pools()))

        jobs = submit(runtime, "hold", 1)
        await some_turns()
        assert runs() == []  # it waits for more
        jobs += submit(runtime, 2, 3)
        await until(lambda: len(recorder.batches) == 1)
        await until(lambda: bool(runs()))
        [run], [again] = runs(), runs()
        assert (run.key, run.pulse) == (again.key, again.pulse)
        names = [frame.f_code.co_name for frame, _ in run.frames()]
        assert run.place == "a task of the loop" or "_predict" in names
        # A thread that has handed its generator to the loop is shown as it waits for it.
        assert kind == "plain_returns_async_generator" or not {"_plain", "_coroutine"}.isdisjoint(names)
        recorder.open_gate()
        for job in jobs:
            await job.over
        await until(lambda: runs() == [])

    serve(methods(predict=recorder.predict), scenario, max_batch_size=4, batch_wait_ms=60_000)


def test_one_batch_after_another_on_one_thread_are_different_runs(serve: Serve) -> None:
    gate = [threading.Event(), threading.Event()]
    count = itertools.count()

    def predict(inputs: list[Any]) -> list[Any]:
        wait(gate[next(count)])
        return inputs

    async def scenario(runtime: Runtime) -> None:
        keys = []
        for number in range(2):
            job = submit(runtime, number)[0]
            await until(lambda: bool(list(find_runs(asyncio.get_running_loop(), runtime._pools()))))
            keys.append(next(find_runs(asyncio.get_running_loop(), runtime._pools())).key)
            gate[number].set()
            await job.over
        assert keys[0] is not keys[1]

    serve(methods(predict=predict), scenario)


@contextlib.contextmanager
def inference_mode() -> Iterator[None]:
    """As torch's: of one thread; the inner of two leaves the outer."""
    before = getattr(MODE, "is_on", False)
    MODE.is_on = True
    try:
        yield
    finally:
        MODE.is_on = before


MODE = threading.local()


@pytest.mark.parametrize("kind", ["plain", "generator", "plain_returns_generator"])
def test_a_batch_runs_in_inference_mode_also_when_its_inputs_are_tried_alone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(inference_mode=inference_mode))
    fails = fails_on(2)
    recorder = Recorder(kind, lambda value: fails(value) and str(getattr(MODE, "is_on", False)))

    async def scenario(runtime: Runtime) -> None:
        jobs = submit(runtime, 1, 2, 3)
        assert await jobs[0].answer() == "True"
        with pytest.raises(ValueError, match="bad"):
            await jobs[1].answer()
        assert await jobs[2].answer() == "True"
        assert runtime.version is not None
        assert await runtime.version._on_predict_thread(lambda: getattr(MODE, "is_on", False)) is False

    serve(methods(predict=recorder.predict), scenario, inference_mode=True)


@pytest.mark.parametrize("struck_at", [1, 2, 3, 4])
def test_a_strike_while_streams_begin_or_end_leaves_none_of_them_open(serve: Serve, struck_at: int) -> None:
    calls = 0

    def strike() -> None:
        nonlocal calls
        calls += 1
        if calls == struck_at:
            raise SystemExit

    def generate() -> Generator[list[str], None, None]:
        yield ["a", "b"]

    async def scenario(runtime: Runtime) -> None:
        assert runtime.version is not None
        hall = runtime.version.hall
        jobs = [Asked(number) for number in range(2)]
        ended: list[Job] = []

        def open_stream(job: Job) -> Stream:
            strike()
            return hall.open_stream(job, on_loop=True, stops_unread=True)

        def finish(job: Job) -> None:
            strike()
            ended.append(job)

        streams = BatchStreams(jobs, open_stream, finish)
        produce_batch(streams, generate())
        assert set(ended) == set(jobs)
        assert all(job.stream is not None and job.stream.is_done for job in jobs)

    serve(methods(predict=Recorder("plain").predict), scenario)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("kind", ["plain", "generator"])
def test_however_threads_are_struck_each_job_of_a_batch_is_over_once_and_none_is_forgotten(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str, slots: int
) -> None:
    striker, recorder = Striker(), Recorder(kind)

    async def scenario(runtime: Runtime) -> None:
        assert runtime.version is not None
        while len(striker.felt) < 50:
            jobs = submit(runtime, *range(20))
            over = asyncio.gather(*(job.over for job in jobs))
            while not over.done():
                striker.strike(runtime.version.pools[:1])
                await asyncio.sleep(0)
                runtime.condition.tick(0.0)
            assert all(job.load is None for job in jobs)

    for module, hook in ((sys, "unraisablehook"), (threading, "excepthook")):  # pytest's run on the thread, in Python
        monkeypatch.setattr(module, hook, lambda _: None)
    serve(methods(predict=recorder.predict), scenario, slots=slots, max_batch_size=4)
    assert "bug of fastserve" not in caplog.text
