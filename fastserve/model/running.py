"""What of the model runs at this moment, seen from outside: on worker threads and as tasks of the loop, with stacks.

Nothing is noted for it while requests run: threads tell their job, tasks are asked for their coroutine. Looked at by
`watchdog.py`; all of it on the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from fastserve.model.first_step import parts_of
from fastserve.model.slots import Slots
from fastserve.model.steps import LoopStep
from fastserve.model.threads import Call, Worker, Workers

Frames = list[tuple[FrameType, int]]
"""Each frame with its line, the outermost first."""

# Coroutines that are one method of the model for one request, or for one batch, from its slot on.
LOOP_RUNS: Final[frozenset[CodeType]] = frozenset({LoopStep._run.__code__})
_WAITING: Final = Slots.take.__code__
_ON_THREAD: Final = Workers.call.__code__


class Run(NamedTuple):
    """One method at work for one request.

    key: the same object as long as it is the same run. pulse: another at each look if its stream makes headway.
    context: of the request, if that is known. place: for people. frames: its stack, at the time of the call.
    """

    key: object
    pulse: object
    context: Context | None
    place: str
    frames: Callable[[], Frames]


def find_runs(loop: asyncio.AbstractEventLoop, pools: Sequence[Workers]) -> Iterator[Run]:
    """All that run now on the threads of `pools`, and as tasks."""
    for pool in pools:
        for worker in pool.all:
            job = worker.job
            if job is not None and not isinstance(job[1], Call):  # whoever awaits that call is what runs
                yield _run_of(job, job[1], getattr(job[1], "context", None), worker.thread)
    for task in asyncio.all_tasks(loop):
        coroutine, context = parts_of(task)
        if getattr(coroutine, "cr_code", None) in LOOP_RUNS and (run := _task_run(coroutine, context, pools)):
            yield run


def _run_of(key: object, job: Any, context: Context | None, thread: threading.Thread) -> Run:
    return Run(key, _pulse_of(job), context, f"thread {thread.name}", lambda: thread_frames(thread))


def _pulse_of(job: Any) -> object:
    stream = getattr(job, "stream", None)
    return None if stream is None else stream.pulse


def _task_run(coroutine: Any, context: Context | None, pools: Sequence[Workers]) -> Run | None:
    """None if it has not begun, or waits for its slot, or for a thread to iterate its generator on."""
    if inspect.getcoroutinestate(coroutine) != inspect.CORO_SUSPENDED:
        return None
    frames = coroutine_frames(coroutine)
    if any(frame.f_code is _WAITING for frame, _ in frames):
        return None
    job, innermost = frames[0][0].f_locals["job"], frames[-1][0]
    if innermost.f_code is _ON_THREAD:
        worker = _worker_of(innermost.f_locals.get("call"), pools)
        return None if worker is None else _run_of(coroutine, job, context, worker.thread)
    return Run(coroutine, _pulse_of(job), context, "a task of the loop", lambda: coroutine_frames(coroutine))


def _worker_of(call: object, pools: Sequence[Workers]) -> Worker | None:
    """The one that has `call` in hand."""
    for pool in pools:
        for worker in pool.all:
            job = worker.job
            if job is not None and job[1] is call:
                return worker
    return None


def thread_frames(thread: threading.Thread) -> Frames:
    """The stack of another thread; empty if it has ended."""
    frame = sys._current_frames().get(thread.ident or 0)
    return [] if frame is None else list(traceback.walk_stack(frame))[::-1]


def coroutine_frames(awaited: Any) -> Frames:
    """The stack of a coroutine that waits, down to what it waits for."""
    found: Frames = []
    while True:
        frame, awaited = _step_into(awaited)
        if frame is None:
            return found
        found.append((frame, frame.f_lineno))
        if type(awaited).__name__ == "async_generator_asend":
            awaited = frame.f_locals.get("generator")  # as streams.py has it; the step does not tell whose it is


def _step_into(awaited: Any) -> tuple[FrameType | None, Any]:
    """Its frame, and what it waits for in turn."""
    for prefix, inner in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
        if hasattr(awaited, f"{prefix}_frame"):
            return getattr(awaited, f"{prefix}_frame"), getattr(awaited, inner)
    return None, None
