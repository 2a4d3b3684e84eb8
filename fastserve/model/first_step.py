"""Takes a coroutine's first step at once, and makes a Task of it only if it goes on after that.

Python has this as `eager_start` from 3.12 on; for 3.11 it is written here, on what asyncio offers those who make
tasks of their own (docs.python.org/3/library/asyncio-extending.html). Called by `steps.py`, on the loop.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final

Begin = Callable[[asyncio.AbstractEventLoop, Coroutine[Any, Any, None], Context], asyncio.Task[None] | None]


def way_to_begin(loop: asyncio.AbstractEventLoop) -> Begin:
    """What runs a coroutine, which raises nothing, in a context: returns the task that goes on with it, or None if it
    is over.

    A loop that has a task factory by now, the model's, is asked for its tasks, as ever.
    """
    if sys.version_info < (3, 11) or loop.get_task_factory() is not None:
        return _begin_later
    return _begin_eagerly if sys.version_info >= (3, 12) else _begin_lazily


def _begin_later(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], context: Context
) -> asyncio.Task[None]:
    """As a task that begins in a later turn of the loop. (Before 3.11 no task could be told its context.)"""
    return context.run(loop.create_task, coroutine)


def _begin_eagerly(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], context: Context
) -> asyncio.Task[None] | None:
    task: asyncio.Task[None] = _make_task(coroutine, loop=loop, context=context, eager_start=True)
    return None if task.done() else task


def _begin_lazily(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], context: Context
) -> asyncio.Task[None] | None:
    """As `_begin_eagerly`, without the half of a task's price that is entering and leaving the set of all tasks, in
    Python code: there is a whole one only if somebody looks at it, or if `coroutine` waits for something.
    """
    task = _new_task(_UnseenTask)
    task.parts = (loop, coroutine, context)
    try:
        asyncio._enter_task(loop, task)
    except RuntimeError:  # another is being executed, and none may begin within it
        return _begin_later(loop, coroutine, context)
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration:
        return None
    finally:
        asyncio._leave_task(loop, task)
    if type(task) is _UnseenTask:
        _make_whole(task)
    task.awaited = awaited
    task.is_future = _is_noted(awaited)
    return task  # type: ignore[no-any-return]


def parts_of(task: asyncio.Task[Any]) -> tuple[Any, Context | None]:
    """The coroutine that `task` runs, however it was begun, and its context if it tells that."""
    if type(task) is _WholeTask:
        _, coroutine, context = task.parts
        return coroutine, context
    return task.get_coro(), getattr(task, "get_context", _unknown)()  # which is new in 3.12


def _unknown() -> None:
    return None


class _UnseenTask(asyncio.Task[None]):
    """What `asyncio.current_task()` is in the first step. Whoever looks at it finds a whole task.

    Three things tell them apart: its `get_coro()` is a generator around the coroutine, and until somebody looks at it
    its `repr` is short and `asyncio.all_tasks()` does not have it.
    awaited: what the coroutine has yielded, for its task to wait for. is_future: it was awaited, as futures are.
    """

    __slots__ = ("awaited", "is_future", "parts")

    awaited: Any
    is_future: bool
    parts: tuple[asyncio.AbstractEventLoop, Coroutine[Any, Any, None], Context]

    def __repr__(self) -> str:  # is in the text of `_enter_task`'s refusal, whether or not that is read
        return "<Task in its first step>"

    def __getattribute__(self, name: str) -> Any:
        _make_whole(self)
        return getattr(self, name)

    def __await__(self) -> Generator[Any, None, None]:  # which asks for no attribute
        _make_whole(self)
        return self.__await__()


class _WholeTask(asyncio.Task[None]):
    """What becomes of it: of the same layout, so that a task can change its class, and without the watch on it."""

    __slots__ = ("awaited", "is_future", "parts")

    parts: tuple[asyncio.AbstractEventLoop, Coroutine[Any, Any, None], Context]


def _make_whole(task: Any) -> None:
    task.__class__ = _WholeTask
    loop, coroutine, context = task.parts
    rest = _rest_of(coroutine, task)
    rest.send(None)  # begun, or a cancellation before the task's first step would end it unseen
    _init_task(task, rest, loop=loop, context=context)


@types.coroutine
def _rest_of(coroutine: Coroutine[Any, Any, None], task: Any) -> Generator[Any, None, None]:
    """`coroutine` from its second step on, as its task sees it."""
    error: BaseException | None = None
    try:
        yield
    except asyncio.CancelledError as cancelled:
        if _is_over(coroutine):
            raise
        # As a task does while it waits: what it waits for is cancelled, and tells it.
        if task.awaited is None or not task.awaited.cancel(*cancelled.args):
            error = cancelled
    if _is_over(coroutine):
        return
    awaited, task.awaited = task.awaited, None
    if task.is_future and error is None:
        awaited._asyncio_future_blocking = True
    try:
        while True:
            if error is not None:
                awaited = coroutine.throw(error)
            try:
                yield awaited
                break
            except BaseException as thrown:  # noqa: BLE001 - for `coroutine` to see
                error = thrown
    except StopIteration:  # what was thrown into it has ended it
        return
    yield from coroutine  # as types.coroutine allows


def _is_noted(awaited: Any) -> bool:
    """Whether `awaited` is a future, awaited as one. Others may then await it, too: a Task sees to that at once."""
    try:
        is_future: bool = awaited._asyncio_future_blocking is True
        if is_future:
            awaited._asyncio_future_blocking = False
    except Exception:  # noqa: BLE001 - anything may be yielded; what is no future is its task's to refuse
        return False
    return is_future


def _is_over(coroutine: Any) -> bool:
    return coroutine.cr_frame is None


_make_task: Final[Any] = asyncio.Task
_new_task: Final[Any] = asyncio.Task.__new__
_init_task: Final[Any] = asyncio.Task.__init__
