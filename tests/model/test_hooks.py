"""Calls of user code beside the requests: where they run, what comes back, what is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import ContextVar
from typing import Any

import pytest

from fastserve.errors import ModelDefinitionError
from fastserve.interface.request import Request
from fastserve.model.contract import Kind, Method, Takes, read_contract
from fastserve.model.hooks import Hooks, check_hooks
from tests.support.hooks import with_hooks

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")


def plain(payload: Any) -> Any:
    return payload, threading.current_thread().name.rpartition("-")[0], VARIABLE.get()


async def coroutine(payload: Any) -> Any:
    await asyncio.sleep(0)
    return plain(payload)


def around(payload: Any) -> Awaitable[Any]:
    """A plain function around a coroutine, as a decorator may make it."""
    return coroutine(payload)


def method(function: Callable[..., Any]) -> Method:
    kind = Kind.COROUTINE if asyncio.iscoroutinefunction(function) else Kind.SYNC
    return Method("is_healthy", kind, function, Takes.INPUTS)


@pytest.mark.parametrize(("function", "thread"), [(plain, "fastserve-hook"), (coroutine, ""), (around, "")])
def test_a_method_is_called_where_its_kind_belongs_with_the_context_of_who_asks(
    function: Callable[..., Any], thread: str
) -> None:
    async def scenario(hooks: Hooks) -> None:
        VARIABLE.set("asked")
        assert await hooks.call(method(function), 1) == ((1, thread, "asked"), None)
        assert await hooks.call(method(function), 1, lambda value: value[0] + 1) == (2, None)

    with_hooks(scenario)


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    "kind", [ValueError, StopIteration, SystemExit, KeyboardInterrupt, Odd, asyncio.CancelledError]
)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_then", [False, True])
def test_whatever_it_raises_comes_back_as_a_value(kind: type[BaseException], is_async: bool, is_then: bool) -> None:
    def fail(payload: Any) -> Any:
        raise kind("x")

    async def fail_async(payload: Any) -> Any:
        raise kind("x")

    async def scenario(hooks: Hooks) -> None:
        if is_then:
            value, error = await hooks.call(method(coroutine if is_async else plain), 1, fail)
        else:
            value, error = await hooks.call(method(fail_async if is_async else fail), 1)
        assert value is None
        assert isinstance(error, RuntimeError if kind is StopIteration and is_async and not is_then else kind)

    with_hooks(scenario)


def test_threads_start_with_the_first_call_and_no_more_than_asked_for() -> None:
    before = threading.active_count()

    async def scenario(hooks: Hooks) -> None:
        assert threading.active_count() == before
        for _ in range(5):
            await hooks.on_thread(lambda: None)
        assert threading.active_count() == before + 3

    with_hooks(scenario, threads=3)


def test_of_a_call_that_nobody_waits_for_what_has_begun_ends_and_what_has_not_is_dropped() -> None:
    begun, release, ran = threading.Event(), threading.Event(), []

    def block() -> None:
        begun.set()
        assert release.wait(20)
        ran.append("begun")

    async def scenario(hooks: Hooks) -> None:
        first = asyncio.ensure_future(hooks.on_thread(block))
        second = asyncio.ensure_future(hooks.on_thread(lambda: ran.append("not begun")))
        await asyncio.sleep(0)
        assert await asyncio.get_running_loop().run_in_executor(None, begun.wait, 20)
        for task in (first, second):
            task.cancel()
        await asyncio.wait({first, second})
        assert first.cancelled() and second.cancelled()
        release.set()
        assert await hooks.on_thread(lambda: None) == (None, None)
        await asyncio.get_running_loop().shutdown_default_executor()

    with_hooks(scenario, threads=1)
    assert ran == ["begun"]


def test_a_coroutine_that_has_begun_runs_to_its_end_though_nobody_waits() -> None:
    async def scenario(hooks: Hooks) -> None:
        ended, release = asyncio.Event(), asyncio.Event()

        async def wait(payload: Any) -> None:
            await release.wait()
            ended.set()

        asking = asyncio.ensure_future(hooks.call(method(wait), None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        release.set()
        await ended.wait()

    with_hooks(scenario)


# --- what is refused ---


class Good:
    def is_healthy(self) -> bool:
        return True

    def setup_environment(self, environment: Any) -> None: ...

    def predict(self, model_input: Any) -> None: ...


class WithoutArgument(Good):
    def setup_environment(self) -> None: ...  # type: ignore[override]


class YieldsHealth(Good):
    def is_healthy(self) -> Generator[bool, None, None]:  # type: ignore[override]
        yield True


class YieldsEnvironment(Good):
    async def setup_environment(self, environment: Any) -> AsyncGenerator[None, None]:  # type: ignore[override]
        yield


class TakesRequest(Good):
    def setup_environment(self, environment: Any, request: Request) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize("model", [Good, WithoutArgument])
def test_good_hooks_pass(model: type[Good]) -> None:
    check_hooks(read_contract(model()))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (YieldsHealth, "`is_healthy` is a generator"),
        (YieldsEnvironment, "`setup_environment` is a generator"),
        (TakesRequest, "write `def setup_environment\\(self, environment\\)`"),
    ],
)
def test_hooks_that_would_do_nothing_are_refused(model: type[Good], words: str) -> None:
    with pytest.raises(ModelDefinitionError, match=words):
        check_hooks(read_contract(model()))
