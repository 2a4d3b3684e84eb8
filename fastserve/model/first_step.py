"""Takes a coroutine's first step at once, and makes a Task of it only if it goes on after that.

Python has this as `eager_start` from 3.12 on; for 3.11 it is written here, on what asyncio offers those who make
tasks of their own (docs.python.org/3/library/asyncio-extending.html). Called by `steps.py`, on the loop.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from sys import getrefcount
from threading import get_ident
from typing import Any, Final, TypeVar
from weakref import getweakrefcount

T = TypeVar("T")

# To a task that nobody keeps: its _SharedSteps', asyncio's to the current one, and two of who asks for their number.
# (One that somebody has looked at is kept by the loop.)
REFERENCES: Final = 4


def first_steps(loop: asyncio.AbstractEventLoop) -> FirstSteps:
    """What begins coroutines on `loop`.

    A loop that has a task factory by now, the model's, is asked for its tasks, as ever.
    """
    if sys.version_info < (3, 11) or loop.get_task_factory() is not None:
        return FirstSteps(loop)
    return _EagerSteps(loop) if sys.version_info >= (3, 12) else _SharedSteps(loop)


class FirstSteps:
    """Begins coroutines, which raise nothing, each in a context of its own.

    Here as a task whose first step comes in a later turn of the loop.
    """

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def begin(self, coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None] | None:
        """Returns the task that goes on with `coroutine`, or None if it is over."""
        return self._begin_later(coroutine, context)

    def begin_all(
        self,
        run: Callable[[T], Coroutine[Any, Any, None]],
        starts: deque[tuple[T, Context]],
        tell: Callable[[T, asyncio.Task[None]], None],
    ) -> None:
        """Take from `starts` what it holds now, and begin `run` of each.

        tell: called with each that goes on, and its task.
        """
        for _ in range(len(starts)):
            argument, context = starts.popleft()
            task = self.begin(run(argument), context)
            if task is not None:
                tell(argument, task)

    def _begin_later(self, coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        return context.run(self._loop.create_task, coroutine)  # before 3.11 no task could be told its context


class _EagerSteps(FirstSteps):
    __slots__ = ()

    def begin(self, coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None] | None:
        task: asyncio.Task[None] = _make_task(coroutine, loop=self._loop, context=context, eager_start=True)
        return None if task.done() else task


class _SharedSteps(FirstSteps):
    """As `_EagerSteps`, without the price of a task, which is more than that of a short coroutine.

    Coroutines that are over with their first step share one, the two calls that make it the current one, and what
    drives them: 0.89 of a request's CPU time. As soon as somebody looks at it or keeps it, or a coroutine waits for
    something, it is that coroutine's alone, and those that follow have another.
    """

    __slots__ = ("_parts", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._renew()

    def _renew(self) -> None:
        self._parts = _Parts(self._loop)
        self._task = _new_task(_UnseenTask)
        _set_parts(self._task, self._parts)

    def begin(self, coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None] | None:
        begun: list[asyncio.Task[None]] = []
        self.begin_all(_as_it_is, deque([(coroutine, context)]), lambda _, task: begun.append(task))
        return begun[0] if begun else None

    def begin_all(
        self,
        run: Callable[[T], Coroutine[Any, Any, None]],
        starts: deque[tuple[T, Context]],
        tell: Callable[[T, asyncio.Task[None]], None],
    ) -> None:
        loop, task, parts = self._loop, self._task, self._parts
        try:
            asyncio._enter_task(loop, task)
        except RuntimeError:  # another is being executed, and none may begin within it
            for _ in range(len(starts)):
                argument, context = starts.popleft()
                tell(argument, self._begin_later(run(argument), context))
            return
        step = parts.driver.send
        try:
            for _ in range(len(starts)):
                argument, context = starts.popleft()
                coroutine = run(argument)
                parts.context = context  # before there is a coroutine: what this lets go of may look at the task
                parts.coroutine = coroutine
                awaited = context.run(step, coroutine)
                if awaited is _OVER and getrefcount(task) <= REFERENCES and not getweakrefcount(task):
                    parts.coroutine = None
                    continue
                asyncio._leave_task(loop, task)
                self._renew()
                begun, task, parts = task, self._task, self._parts
                step = parts.driver.send
                asyncio._enter_task(loop, task)
                if type(begun) is _UnseenTask:
                    _make_whole(begun)
                if awaited is not _OVER:
                    tell(argument, _go_on(begun, awaited))
            parts.context = None
        except BaseException:  # by a bug: the driver has ended with it
            self._renew()
            raise
        finally:
            asyncio._leave_task(loop, task)


def _as_it_is(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    return coroutine


@types.coroutine
def _drive() -> Generator[Any, Any, None]:
    """Runs the coroutines that it is sent, one after the other. One that waits for something stays in its hands."""
    coroutine: Coroutine[Any, Any, None] = yield _OVER
    while True:
        yield from coroutine
        coroutine = yield _OVER


class _Parts:
    """What is made a whole task. coroutine: whose first step it is; None between two, when it can be none.

    driver: only kept: the coroutine would end with it. thread: the loop's.
    """

    __slots__ = ("context", "coroutine", "driver", "loop", "thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread = get_ident()
        self.coroutine: Coroutine[Any, Any, None] | None = None
        self.context: Context | None = None
        self.driver = _drive()
        self.driver.send(None)


def _go_on(task: Any, awaited: Any) -> asyncio.Task[None]:
    """Have `task` go on with the coroutine of its first step, once there is what that has `awaited`."""
    task.awaited = awaited
    task.is_future = _is_noted(awaited)
    return task  # type: ignore[no-any-return]


def parts_of(task: asyncio.Task[Any]) -> tuple[Any, Context | None]:
    """The coroutine that `task` runs, however it was begun, and its context if it tells that."""
    if type(task) is _WholeTask:
        return task.parts.coroutine, task.parts.context
    return task.get_coro(), getattr(task, "get_context", _unknown)()  # which is new in 3.12


def _unknown() -> None:
    return None


class _UnseenTask(asyncio.Task[None]):
    """What `asyncio.current_task()` is in the first step. Whoever looks at it finds a whole task.

    Three things tell them apart: its `get_coro()` is a generator around the coroutine, and until somebody looks at it
    its `repr` is short and `asyncio.all_tasks()` does not have it. To those who find it between two first steps
    (`gc.get_objects()` has it), and to other threads, it has no attributes.
    awaited: what the coroutine has yielded, for its task to wait for. is_future: it was awaited, as futures are.
    """

    __slots__ = ("awaited", "is_future", "parts")

    awaited: Any
    is_future: bool
    parts: _Parts

    def __repr__(self) -> str:  # is in the text of `_enter_task`'s refusal, whether or not that is read
        return "<Task in its first step>"

    def __getattribute__(self, name: str) -> Any:
        if not _make_whole(self) and not name.startswith("__"):
            raise AttributeError(name)  # there are those of a Task that end the process before it has begun
        return asyncio.Task.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not _make_whole(self):
            raise AttributeError(name)
        asyncio.Task.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if not _make_whole(self):
            raise AttributeError(name)
        asyncio.Task.__delattr__(self, name)

    def __await__(self) -> Generator[Any, None, None]:  # which asks for no attribute
        if not _make_whole(self):
            raise RuntimeError("this task has not begun")
        return asyncio.Task.__await__(self)

    __iter__ = __await__


class _WholeTask(asyncio.Task[None]):
    """What becomes of it: of the same layout, so that a task can change its class, and without the watch on it."""

    __slots__ = ("awaited", "is_future", "parts")

    parts: _Parts


def _make_whole(task: Any) -> bool:
    """If a first step is being taken in `task`, an _UnseenTask, on this thread. Returns whether that is so."""
    parts = _get_parts(task)
    if parts.coroutine is None or parts.thread != get_ident():
        return False
    asyncio.Task.__setattr__(task, "__class__", _WholeTask)
    rest = _rest_of(parts.coroutine, task)
    rest.send(None)  # begun, or a cancellation before the task's first step would end it unseen
    _init_task(task, rest, loop=parts.loop, context=parts.context)
    return True


@types.coroutine
def _rest_of(coroutine: Coroutine[Any, Any, None], task: Any) -> Generator[Any, None, None]:
    """`coroutine` from its second step on, as its task sees it."""
    error: BaseException | None = None
    try:
        yield
    except asyncio.CancelledError as cancelled:
        if _is_over(coroutine):
            raise
        error = cancelled
        # As a task does while it waits: what it waits for is cancelled, and tells it; else it is told a turn later.
        if task.awaited is not None:
            error = None if task.awaited.cancel(*cancelled.args) else cancelled
        else:
            try:
                yield
            except asyncio.CancelledError as again:
                error = again
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


_OVER: Final = object()

# Past the watch on attributes.
_get_parts: Final[Any] = vars(_UnseenTask)["parts"].__get__
_set_parts: Final[Any] = vars(_UnseenTask)["parts"].__set__

_make_task: Final[Any] = asyncio.Task
_new_task: Final[Any] = asyncio.Task.__new__
_init_task: Final[Any] = asyncio.Task.__init__
