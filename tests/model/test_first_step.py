"""A coroutine whose first step is taken at once sees what one sees that a Task runs from the start."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import sys
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve.model.first_step import first_steps

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="before it every coroutine is a Task")

Body = Callable[[], Awaitable[object]]
PAYLOAD: contextvars.ContextVar[object] = contextvars.ContextVar("PAYLOAD")
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="nobody's")


def play(body: Body, *, beside: Callable[[asyncio.Task[None]], None] | None = None) -> tuple[Any, bool]:
    """Begin `body` on a loop. Returns (what came of it, whether it was over after its first step).

    beside: called with its task right after the first step, if that was not the last.
    """
    outcome: list[object] = []

    async def run() -> None:
        try:
            outcome.append(await body())
        except BaseException as error:  # noqa: BLE001 - told to the test
            outcome.append(error)

    loop = asyncio.new_event_loop()
    loop.call_later(10, loop.stop)
    begun: list[asyncio.Task[None] | None] = []

    def begin() -> None:
        task = first_steps(loop).begin(run(), contextvars.copy_context())
        begun.append(task)
        if task is None:
            loop.call_soon(loop.call_soon, loop.stop)  # what was touched has its own last step first
        else:
            task.add_done_callback(lambda _: loop.stop())
            if beside is not None:
                beside(task)

    loop.call_soon(begin)
    try:
        loop.run_forever()
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()
    (result,) = outcome
    return result, begun[0] is None


def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def cancel_when_it_waits_again(task: asyncio.Task[None]) -> None:
    task.get_loop().call_later(0.001, task.cancel)


def test_what_waits_for_nothing_is_over_at_once_and_was_in_a_task() -> None:
    async def body() -> object:
        return asyncio.current_task()

    task, is_over = play(body)
    assert is_over
    assert isinstance(task, asyncio.Task)


def test_who_looks_at_the_task_in_the_first_step_finds_it_whole() -> None:
    seen: list[Any] = []

    async def body() -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.append((task.get_name(), task.done(), task in asyncio.all_tasks(), task.get_loop()))
        task.add_done_callback(seen.append)

    assert play(body) == (None, True)
    (name, is_done, is_listed, loop), task = seen
    assert name.startswith("Task-")
    assert not is_done
    assert is_listed
    assert loop is task.get_loop()
    assert task.done() and task.result() is None


def test_the_task_is_the_same_before_and_after_a_wait() -> None:
    async def body() -> bool:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        return before is asyncio.current_task() and before in asyncio.all_tasks()

    assert play(body) == (True, False)


def test_variables_are_set_for_all_its_steps_and_for_nobody_else() -> None:
    async def body() -> list[str]:
        token = VARIABLE.set("mine")
        seen = [VARIABLE.get()]
        await asyncio.sleep(0)
        seen.append(VARIABLE.get())
        VARIABLE.reset(token)
        return [*seen, VARIABLE.get()]

    assert play(body) == (["mine", "mine", "nobody's"], False)
    assert VARIABLE.get() == "nobody's"


def test_a_timeout_that_is_over_before_the_second_step_is_told() -> None:
    error, _ = play(_time_out)
    assert isinstance(error, TimeoutError)


def test_a_cancellation_right_after_the_first_step_reaches_what_it_waits_for() -> None:
    told: list[str] = []

    async def child() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            told.append("child")
            raise

    async def body() -> object:
        waiting = asyncio.gather(child())
        await asyncio.sleep(0)  # the child has begun
        return await waiting

    async def body_of_one_step() -> object:
        return await asyncio.gather(child())

    error, _ = play(body, beside=cancel_when_it_waits_again)
    assert isinstance(error, asyncio.CancelledError)
    assert told == ["child"]
    error, _ = play(body_of_one_step, beside=cancel)
    assert isinstance(error, asyncio.CancelledError)


def test_a_cancellation_that_is_caught_lets_it_go_on() -> None:
    async def body() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    assert play(body, beside=cancel) == ("went on", False)


def test_one_that_cancels_itself_is_told_where_it_waits_next() -> None:
    async def body() -> object:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return "was not told"

    error, _ = play(body)
    assert isinstance(error, asyncio.CancelledError)


def test_what_it_waits_for_may_fail() -> None:
    async def fail() -> None:
        raise LookupError("missing")

    async def body() -> object:
        return await asyncio.gather(fail())

    error, _ = play(body)
    assert isinstance(error, LookupError)


def test_one_that_is_begun_in_a_task_runs_once_and_after_it_where_tasks_cannot_nest() -> None:
    order: list[str] = []
    complaints: list[object] = []

    async def inner() -> None:
        order.append("inner")
        await asyncio.sleep(0)
        order.append("inner goes on")

    async def body() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        begun = first_steps(loop).begin(inner(), contextvars.copy_context())
        order.append("outer")
        assert begun is not None
        await begun
        gc.collect()

    assert play(body) == (None, False)
    first, second = ("outer", "inner") if sys.version_info < (3, 12) else ("inner", "outer")
    assert order == [first, second, "inner goes on"]
    assert complaints == []


def test_a_task_factory_of_the_model_makes_the_task() -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        made.append("task")
        return asyncio.Task(coroutine, loop=loop, **more)

    async def run() -> None: ...

    loop = asyncio.new_event_loop()
    loop.set_task_factory(factory)  # type: ignore[arg-type,unused-ignore]  # its arguments differ between versions
    task = first_steps(loop).begin(run(), contextvars.copy_context())
    assert task is not None
    loop.run_until_complete(task)
    loop.close()
    assert made == ["task"]


# --- what a coroutine may do, one after the other, and how its task is told about it ---


async def _sleep() -> None:
    await asyncio.sleep(0)


async def _wait_for_a_result() -> object:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, "result")
    return await future


async def _wait_for_what_is_there() -> object:
    future = asyncio.get_running_loop().create_future()
    future.set_result("there")
    return await future


async def _wait_for_an_error() -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, LookupError("missing"))
    await future


async def _wait_for_a_task() -> object:
    return await asyncio.ensure_future(_wait_for_a_result())


async def _time_out() -> None:
    async with asyncio.timeout(0):  # type: ignore[attr-defined,unused-ignore]  # from 3.11 on
        await asyncio.get_running_loop().create_future()


async def _cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("by itself")


async def _be_cancelled_soon() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)


async def _count_cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()  # type: ignore[attr-defined,no-any-return,unused-ignore]  # from 3.11 on


async def _shield() -> object:
    return await asyncio.shield(_wait_for_a_result())


async def _gather() -> object:
    return await asyncio.gather(_sleep(), _wait_for_an_error(), _wait_for_a_result(), return_exceptions=True)


ACTS = (
    _sleep,
    _wait_for_a_result,
    _wait_for_what_is_there,
    _wait_for_an_error,
    _wait_for_a_task,
    _time_out,
    _cancel_itself,
    _be_cancelled_soon,
    _count_cancellations,
    _shield,
    _gather,
)


def log_of(acts: list[Callable[[], Awaitable[object]]], *, as_task: bool) -> list[str]:
    """What a coroutine that does `acts` saw."""
    log: list[str] = []

    async def body() -> None:
        for act in acts:
            try:
                log.append(f"{act.__name__}: {await act()!r}")
            except BaseException as error:  # noqa: BLE001 - logged
                log.append(f"{act.__name__}: {error!r}")

    loop = asyncio.new_event_loop()

    def begin() -> None:
        if as_task:
            task: asyncio.Task[None] | None = loop.create_task(body())
        else:
            task = first_steps(loop).begin(body(), contextvars.copy_context())
        if task is None:
            loop.stop()
        else:
            task.add_done_callback(lambda _: loop.stop())

    loop.call_soon(begin)
    try:
        loop.run_forever()
        for _ in range(5):  # whatever it left behind
            loop.call_soon(loop.stop)
            loop.run_forever()
    finally:
        loop.close()
    return log


@given(st.lists(st.sampled_from(ACTS), min_size=1, max_size=6))
@example([_cancel_itself, _be_cancelled_soon, _sleep])
def test_it_sees_what_a_task_sees(acts: list[Callable[[], Awaitable[object]]]) -> None:
    assert log_of(acts, as_task=False) == log_of(acts, as_task=True)


def test_several_may_wait_for_one_future_from_their_first_step_on() -> None:
    """As where the first request begins what all wait for."""

    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        shared: asyncio.Future[str] = loop.create_future()
        outcomes: list[object] = []

        async def wait() -> None:
            try:
                outcomes.append(await shared)
            except BaseException as error:  # noqa: BLE001 - told to the test
                outcomes.append(error)

        begun: list[Any] = []

        def begin() -> None:  # outside of any task
            begun.extend(first_steps(loop).begin(wait(), contextvars.copy_context()) for _ in range(3))
            begun.append(loop.create_task(wait()))  # the model's own

        loop.call_soon(begin)
        await asyncio.sleep(0)
        loop.call_soon(shared.set_result, "shared")
        await asyncio.gather(*begun)
        return outcomes

    assert asyncio.run(main()) == ["shared"] * 4


def test_a_task_that_was_over_in_its_first_step_can_be_awaited_later() -> None:
    async def main() -> object:
        loop = asyncio.get_running_loop()
        kept: list[Any] = []

        async def keep() -> None:
            kept.append(asyncio.current_task())

        def begin() -> None:
            assert first_steps(loop).begin(keep(), contextvars.copy_context()) is None

        loop.call_soon(begin)
        await asyncio.sleep(0)
        return await kept[0]

    assert asyncio.run(main()) is None


# --- many at once ---


def begin_together(*bodies: Callable[[], Any], in_context: contextvars.Context | None = None) -> list[bool]:
    """Begin them in one call, on a loop that runs until nothing is left to do. Returns which of them went on."""
    loop = asyncio.new_event_loop()
    went_on: list[int] = []
    tasks: list[asyncio.Task[None]] = []

    def tell(number: int, task: asyncio.Task[None]) -> None:
        went_on.append(number)
        tasks.append(task)

    def begin() -> None:
        context = contextvars.copy_context() if in_context is None else in_context
        starts = deque((number, context.copy()) for number in range(len(bodies)))
        first_steps(loop).begin_all(lambda number: bodies[number](), starts, tell)
        loop.create_task(wait()).add_done_callback(lambda _: loop.stop())

    async def wait() -> None:
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)

    loop.call_soon(begin)
    try:
        loop.run_forever()
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()
    return [number in went_on for number in range(len(bodies))]


is_shared_here = pytest.mark.skipif(sys.version_info >= (3, 12), reason="there each has a Task, made by Python")


@is_shared_here
def test_coroutines_that_are_over_at_once_share_a_task_nobody_has_seen() -> None:
    seen: list[int] = []

    async def body() -> None:
        seen.append(id(asyncio.current_task()))

    assert begin_together(body, body, body) == [False] * 3
    assert len(set(seen)) == 1


@pytest.mark.parametrize(
    "keep", [lambda task: task, weakref.ref, lambda task: task.get_name() and task, lambda task: task.get_coro()]
)
def test_a_task_that_somebody_keeps_is_no_other_coroutines(keep: Callable[[Any], object]) -> None:
    kept: list[object] = []

    async def body() -> None:
        kept.append(keep(asyncio.current_task()))

    assert begin_together(body, body, body) == [False] * 3
    assert len({id(one) for one in kept}) == 3


def test_what_is_set_on_the_task_is_no_other_coroutines() -> None:
    found: list[object] = []

    async def set_it() -> None:
        task: Any = asyncio.current_task()
        task.user = "alice"
        del task.user
        task.user = "bob"

    async def look() -> None:
        found.append(getattr(asyncio.current_task(), "user", None))

    assert begin_together(set_it, look, set_it, look) == [False] * 4
    assert found == [None, None]


def test_a_task_that_was_kept_is_done_by_the_next_turn() -> None:
    kept: list[Any] = []

    async def keep() -> None:
        kept.append(asyncio.current_task())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        steps = first_steps(loop)
        for _ in range(3):
            loop.call_soon(steps.begin, keep(), contextvars.copy_context())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert all(task.done() for task in kept)

    asyncio.run(main())
    assert len(kept) == 3


def test_another_thread_that_looks_finds_nothing_and_harms_nobody() -> None:
    done: list[int] = []
    found: list[object] = []

    async def body(number: int) -> None:
        thread = threading.Thread(target=look_from_another_thread, args=(asyncio.get_running_loop(), found))
        thread.start()
        thread.join()
        if number % 2:
            await asyncio.sleep(0)
        done.append(number)

    assert begin_together(*(functools.partial(body, number) for number in range(4))) == [False, True, False, True]
    assert sorted(done) == [0, 1, 2, 3]
    assert found == ["nothing"] * 4


def look_from_another_thread(loop: asyncio.AbstractEventLoop, found: list[object]) -> None:
    task = asyncio.current_task(loop)
    assert task is not None
    found.append(getattr(task, "get_name", "nothing"))


@pytest.fixture
def few_objects() -> Iterator[None]:
    """For those that look at all: what was there before is not among them."""
    gc.freeze()
    yield
    gc.unfreeze()


def look_at_all_tasks() -> None:
    """As what hunts for leaks does, or a debugger."""
    for one in gc.get_objects():
        if isinstance(one, asyncio.Task):
            assert not isinstance(one, Exception)
            assert repr(one)
            for name in ("get_coro", "get_name", "get_stack", "done", "cancel", "__dict__", "__hash__"):
                with contextlib.suppress(AttributeError):
                    assert getattr(one, name) is not None
            with contextlib.suppress(AttributeError):
                assert one.get_coro() is not None
            with contextlib.suppress(AttributeError):
                one.mark = "seen"  # type: ignore[attr-defined]
            with contextlib.suppress(AttributeError):
                del one.mark  # type: ignore[attr-defined]


@pytest.mark.usefixtures("few_objects")
def test_a_look_between_two_first_steps_harms_nobody() -> None:
    done: list[bool] = []

    async def wait() -> None:
        await asyncio.sleep(0)
        done.append(hasattr(asyncio.current_task(), "mark"))

    async def over() -> None:
        done.append(hasattr(asyncio.current_task(), "mark"))

    def looked_at(body: Callable[[], Any]) -> Callable[[], Any]:
        def make() -> Any:
            look_at_all_tasks()
            return body()

        return make

    bodies = [wait, over, over, wait, wait, over]
    assert begin_together(*map(looked_at, bodies)) == [body is wait for body in bodies]
    assert done == [False] * 6


@pytest.mark.usefixtures("few_objects")
def test_a_look_while_none_is_taken_harms_nobody() -> None:
    done: list[int] = []

    async def wait(number: int) -> None:
        if number:
            await asyncio.sleep(0)
        done.append(number)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        steps, tasks = first_steps(loop), []
        for number in (1, 0, 2, 3):
            starts = deque([(number, contextvars.copy_context())])
            loop.call_soon(steps.begin_all, wait, starts, lambda _, task: tasks.append(task))
            await asyncio.sleep(0)
            look_at_all_tasks()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert sorted(done) == [0, 1, 2, 3]


def test_each_has_its_own_variables_and_those_that_wait_their_own_task() -> None:
    told: list[tuple[int, str, bool]] = []
    tasks: dict[int, object] = {}

    def make(number: int, *, waits: bool) -> Callable[[], Any]:
        async def body() -> None:
            before = asyncio.current_task() if number % 2 else None
            assert VARIABLE.get() == "nobody's"
            VARIABLE.set(str(number))
            if waits:
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
                tasks[number] = asyncio.current_task()
            is_same = before is None or before is asyncio.current_task()
            told.append((number, VARIABLE.get(), is_same))

        return body

    waits = [False, True, True, False, False, True, False]
    assert begin_together(*(make(number, waits=one) for number, one in enumerate(waits))) == waits
    assert sorted(told) == [(number, str(number), True) for number in range(len(waits))]
    assert len({id(task) for task in tasks.values()}) == 3


def test_one_that_fails_by_a_bug_leaves_the_others_to_be_begun() -> None:
    done: list[str] = []

    async def fail() -> None:
        raise LookupError("a bug")

    async def body() -> None:
        done.append("begun")
        await asyncio.sleep(0)
        done.append("over")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        steps, tasks = first_steps(loop), []
        starts = deque((make, contextvars.copy_context()) for make in (body, fail, body))

        def begin() -> None:
            steps.begin_all(lambda make: make(), starts, lambda _, task: tasks.append(task))

        loop.set_exception_handler(lambda _, context: done.append(str(context["exception"])))
        loop.call_soon(begin)
        await asyncio.sleep(0)
        while starts:
            loop.call_soon(begin)
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert (done.count("begun"), done.count("over")) == (2, 2)


def test_what_the_last_one_had_is_not_kept() -> None:
    class Payload: ...

    kept: list[weakref.ref[Payload]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        steps = first_steps(loop)

        async def body(payload: Payload) -> None:
            PAYLOAD.set(payload)
            kept.append(weakref.ref(payload))

        def begin() -> None:
            starts = deque([(Payload(), contextvars.copy_context())])
            steps.begin_all(body, starts, lambda _, task: None)

        loop.call_soon(begin)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert kept[0]() is None
        assert steps is not None  # and keeps nothing

    asyncio.run(main())
    assert len(kept) == 1
