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
from fastserve.model.loop_batches import LoopBatchStep
from fastserve.model.slots import Slots
from fastserve.model.steps import Batch, Job, LoopStep
from fastserve.model.threads import Worker, Workers

Frames = list[tuple[FrameType, int]]
"""Each frame with its line, the outermost first."""

# Coroutines that are one method of the model for one request, or for one batch, from its slot on.
LOOP_RUNS: Final[frozenset[CodeType]] = frozenset(
    step.__code__ for step in (LoopStep._run, LoopBatchStep._work, LoopBatchStep._finish_alone)
)
_GATHERS: Final = LoopBatchStep._gather_and_predict.__code__
_WAITING: Final = Slots.take.__code__
_ON_THREAD: Final = Workers.call.__code__


class Run(NamedTuple):
    """One method at work for one request, or one batch.

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
            work = worker.job
            held = None if work is None else work[1]
            if isinstance(held, Job):
                yield _run_of(work, [held], held.context, worker.thread)
            elif isinstance(held, Batch) and held.jobs:
                yield _run_of(held, held.jobs, None, worker.thread)
            # A Call is not counted: whoever awaits it is what runs.
    for task in asyncio.all_tasks(loop):
        coroutine, context = parts_of(task)
        if getattr(coroutine, "cr_code", None) in LOOP_RUNS and (run := _task_run(coroutine, context, pools)):
            yield run


def _run_of(key: object, jobs: Sequence[Job], context: Context | None, thread: threading.Thread) -> Run:
    return Run(key, _pulse_of(jobs), context, f"thread {thread.name}", lambda: thread_frames(thread))


def _pulse_of(jobs: Sequence[Job]) -> object:
    return [None if job.stream is None else job.stream.pulse for job in jobs]


def _task_run(coroutine: Any, context: Context | None, pools: Sequence[Workers]) -> Run | None:
    """None if it has not begun, or waits for its slot, or for a thread to iterate its generator on."""
    if inspect.getcoroutinestate(coroutine) != inspect.CORO_SUSPENDED:
        return None
    frames = coroutine_frames(coroutine)
    if any(frame.f_code is _WAITING for frame, _ in frames):
        return None
    jobs, innermost = _jobs_of(frames), frames[-1][0]
    if not jobs:
        return None
    if innermost.f_code is _ON_THREAD:
        worker = _worker_of(innermost.f_locals.get("call"), pools)
        return None if worker is None else _run_of(coroutine, jobs, context, worker.thread)
    return Run(coroutine, _pulse_of(jobs), context, "a task of the loop", lambda: coroutine_frames(coroutine))


def _jobs_of(frames: Frames) -> Sequence[Job]:
    """Of a task; none while a batch is being gathered."""
    for frame, _ in frames:
        if frame.f_code is _GATHERS:
            return frame.f_locals.get("batch") or ()
    job = frames[0][0].f_locals.get("job")
    return () if job is None else (job,)


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
