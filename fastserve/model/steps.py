"""A job and the steps it walks: each method of the model on the thread, or the loop, where it belongs.

A step hands its job straight to the next, from thread to thread if need be; the loop is woken only where it has work.
Made by `runtime.py` once, at start; decided then: where each step runs, what follows it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from time import monotonic_ns
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from fastserve.errors import DeadlineError, ModelDefinitionError
from fastserve.interface.responses import is_response
from fastserve.model.contract import Kind, Method
from fastserve.model.first_step import first_steps
from fastserve.model.in_flight import Load
from fastserve.model.slots import Slots
from fastserve.model.streams import Stream, StreamBudget, gather, gather_on_loop, produce, produce_on_loop
from fastserve.model.threads import Completions, Workers
from fastserve.turns import Turns

_GENERATORS: Final = frozenset({GeneratorType, AsyncGeneratorType})

# Of a job without a deadline: a time that no clock reaches.
NEVER: Final = 1 << 62


class Job:
    """One payload on its way through the model. Subclassed by who wants the result.

    value: the payload; then what the latest step returned; at last what `encode` made of the result.
    error: what user code raised, or a ModelError; None if all went well.
    running: the step whose method runs; None while it waits for one.
    times: of one that is timed: when it arrived, then when each step began and ended, in ns of the monotonic clock.
        expires: of those alone: when it is too late to begin it, on the same clock.
    size: bytes of large content that it holds; 0 for all others. load: what it counts to, from its submission on
        until it is over: then who waits for it has been told.
    context: that of the request, copied: what user code sets in it is seen by this job's later steps alone.
    stream: the result is a generator, and this is its output.
    task: runs the present step, if that is on the loop.
    is_unread: nobody waits any more: what a generator yields is dropped.
    is_cancelled: because of that no further step is begun.
    is_shielded: the method that runs takes the request, so it can ask for itself: it is not to be interrupted.
    """

    __slots__ = (
        "context",
        "error",
        "expires",
        "is_cancelled",
        "is_shielded",
        "is_unread",
        "load",
        "running",
        "size",
        "stream",
        "task",
        "times",
        "value",
    )

    times: list[int] | None
    expires: int
    running: Step | None
    load: Load | None

    def __init__(self, payload: Any) -> None:
        self.value = payload
        self.times = [monotonic_ns()]
        self.expires = NEVER
        self.size = 0
        self.error: BaseException | None = None
        self.context: Context | None = None
        self.stream: Stream | None = None
        self.task: asyncio.Task[None] | None = None
        self.running = self.load = None
        self.is_cancelled = self.is_shielded = self.is_unread = False

    def request_as(self, request_type: type) -> Any:
        """The request, as an object of the class that a method has annotated. From any thread."""
        raise NotImplementedError

    def encode(self) -> Any:
        """What becomes of the result, on the thread that made it: a CUDA tensor, say, must be read there.

        `value` is the result, and no one else here refers to it.
        Returns content (bytes, as a rule), or a generator whose output is the content, or an awaitable that sends the
        content itself: the last two are run to their end as part of the step, within its slot.
        """
        raise NotImplementedError

    def wants_whole(self) -> bool:
        """Whether a generator's output is to be gathered into one text instead of streamed. From any thread."""
        raise NotImplementedError

    def on_result(self) -> None:
        """The job is over: `value` or `error` is there, or its stream has ended. On the loop."""
        raise NotImplementedError

    def on_chunks(self, stream: Stream) -> None:
        """`stream` has begun, has chunks to take, or has ended. On the loop."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody waits any more. What has begun runs to its end, since it may have effects; a generator is closed,
        unless its method takes the request and so looks after itself.
        """
        self.is_cancelled = True
        self.drop_output(stops=True)

    def drop_output(self, *, stops: bool) -> None:
        """What a generator yields is not wanted any more. stops: it is closed, unless it looks after itself."""
        self.is_unread = True
        if self.stream is not None:
            self.stream.cancel(stops=stops)

    def cancel_coroutine(self) -> None:
        """Cancel what runs on the loop, in the middle, unless it looks after itself.

        Only what has begun: a task cancelled before its first step would end without it, and nobody be told that the
        job is over. Such a one finds that the job is cancelled.
        """
        if self.task is not None and not self.is_shielded and _has_begun(self.task):
            self.task.cancel()


class Batch:
    """Jobs that one thread has in hand together.

    jobs: none while they are being gathered. on_lost: called, on the loop, if that thread is struck (`mishaps.py`).
    """

    __slots__ = ("has_begun", "jobs", "on_lost")

    def __init__(self, on_lost: Callable[[Batch], None]) -> None:
        self.on_lost = on_lost
        self.jobs: list[Job] = []
        self.has_begun = False  # some thread gathers it, or has


def _has_begun(task: asyncio.Task[None]) -> bool:
    coroutine: Any = task.get_coro()
    return not inspect.iscoroutine(coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED


def _let_pass(error: BaseException, on_loop: bool) -> None:
    """It is the job's."""


class Hall:
    """What the steps of one model share: the ways to and from the loop.

    finish: called on the loop with each job that is over; with one that is over already it does nothing.
    on_failure: told of what a method has raised, where it ran (on_loop, or a worker thread), before `finish`.
    turns: for generators on the loop.
    """

    __slots__ = ("budget", "completions", "finish", "loop", "on_failure", "turns")

    def __init__(self, loop: asyncio.AbstractEventLoop, budget: StreamBudget, finish: Callable[[Job], None]) -> None:
        self.loop = loop
        self.completions = Completions(loop)
        self.budget = budget
        self.finish = finish
        self.on_failure: Callable[[BaseException, bool], None] = _let_pass
        self.turns = Turns(loop)

    def open_stream(self, job: Job, *, on_loop: bool, stops_unread: bool) -> Stream:
        """A stream for `job`'s output. Announced at once: the reader counts the time to the first chunk from now.

        on_loop: whether it is the loop that produces it. stops_unread: as Stream has it.
        """
        tell = self._tell_on_loop if on_loop else self._tell_from_thread
        stream = job.stream = Stream(job, self.budget, tell, stops_unread=stops_unread)
        if job.is_unread:
            job.drop_output(stops=job.is_cancelled)
        stream.announce()
        return stream

    def _tell_from_thread(self, stream: Stream) -> None:
        self.completions.put(Stream.on_loop, stream)

    def _tell_on_loop(self, stream: Stream) -> None:
        self.loop.call_soon(stream.on_loop)


class Step:
    """One method of the model, and what follows it.

    name: the method's.
    start: begins this step for a job; on the loop.
    enter: the same, for a job whose first step this is.
    forward: the same, on a worker thread.
    """

    __slots__ = (
        "_call",
        "_following",
        "_hall",
        "_is_predict",
        "_request_type",
        "_workers",
        "enter",
        "forward",
        "name",
        "start",
    )

    start: Callable[[Job], None]
    enter: Callable[[Job], None]
    forward: Callable[[Job], None]

    def __init__(self, hall: Hall, method: Method, workers: Workers, following: Step | None) -> None:
        """workers: the threads for whatever of this method may block."""
        self._hall = hall
        self._call = method.call
        self._request_type = method.request_type
        self.name = method.name
        self._is_predict = method.name == "predict"
        self._workers = workers
        self._following = following

    def withdraw(self, job: Job) -> None:
        """End a job that is cancelled and waits for this step; or leave it to be dropped when its turn comes."""

    def _note_begin(self, job: Job) -> None:
        """Of a job that is timed. Raises DeadlineError if it is too late."""
        assert job.times is not None
        began = monotonic_ns()
        if began > job.expires:
            raise DeadlineError
        job.times.append(began)

    def _check_handed_on(self, value: Any) -> None:
        """A generator's output cannot be post-processed, it would have to be gathered first; nor can a response."""
        if type(value) is dict or not self._is_predict:  # a dict, nearly always
            return
        if type(value) in _GENERATORS or is_response(value):
            what = "a generator" if type(value) in _GENERATORS else "a response"
            raise ModelDefinitionError(f"`predict` returned {what} and the model has a `postprocess`; leave one out")

    def _may_stop(self) -> bool:
        """Whether a generator of this step is closed when the client leaves: not if it has the request to ask."""
        return self._request_type is None

    def _is_unwanted(self, job: Job) -> Callable[[], bool]:
        return lambda: job.is_cancelled and self._may_stop()

    def _finish_on_thread(self, job: Job, content: Any) -> Any:
        """See what `Job.encode` returned through to its end; on a worker thread, in the job's context."""
        if type(content) in _GENERATORS:
            return self._stream_on_thread(job, content)
        if inspect.isawaitable(content):
            return self._await_on_thread(content)
        return content

    async def _finish_on_loop(self, job: Job, content: Any) -> Any:
        """The same, on the loop."""
        if type(content) in _GENERATORS:
            return await self._stream_on_loop(job, content)
        if inspect.isawaitable(content):
            return await content
        return content

    def _await_on_thread(self, awaitable: Awaitable[Any]) -> Any:
        """Block this thread, and so its slot, until `awaitable` is done on the loop."""
        value, error = asyncio.run_coroutine_threadsafe(as_pair(awaitable), self._hall.loop).result()
        if error is not None:
            raise error
        return value

    def _stream_on_thread(self, job: Job, generator: Any) -> Any:
        """Produce the output of the last step's generator to its end; on a worker thread, in the job's context.

        Returns all of it as content if the job wants it whole, else None.
        """
        hall = self._hall
        if type(generator) is AsyncGeneratorType:  # its place is the loop; this thread, and so the slot, is held
            return self._await_on_thread(self._stream_on_loop(job, generator))
        if self._is_predict and job.wants_whole():
            job.value = gather(generator, self._is_unwanted(job))
            return job.encode()
        stream = hall.open_stream(job, on_loop=False, stops_unread=self._may_stop())
        produce(stream, generator)
        if stream.error is not None:
            hall.on_failure(stream.error, False)
        return None

    async def _stream_on_loop(self, job: Job, generator: Any) -> Any:
        """The same, on the loop."""
        hall = self._hall
        if type(generator) is GeneratorType:
            context = copy_context()
            run = functools.partial(context.run, self._stream_on_thread, job, generator)
            return await self._workers.call(run, hall.completions)
        if self._is_predict and job.wants_whole():
            job.value = await gather_on_loop(generator, hall.turns, self._is_unwanted(job))
            return job.encode()
        stream = hall.open_stream(job, on_loop=True, stops_unread=self._may_stop())
        await produce_on_loop(stream, generator, hall.turns)
        if stream.error is not None:
            hall.on_failure(stream.error, True)
        return None


class ThreadStep(Step):
    """A plain or generator function: on a worker thread, since it may block."""

    __slots__ = ("_work",)

    def __init__(self, hall: Hall, method: Method, workers: Workers, following: Step | None) -> None:
        super().__init__(hall, method, workers, following)
        self._work = self._run  # one object, by which what is withdrawn is found: in 0.7 of the time among a thousand
        self.start = self.enter = functools.partial(workers.put, self._work)  # saves a frame for each request
        self.forward = functools.partial(workers.put_from_thread, self._work)

    def withdraw(self, job: Job) -> None:
        if self._workers.withdraw(self._work, job):
            self._hall.finish(job)

    def _run(self, job: Job) -> None:
        """On a worker thread."""
        hall, following, context = self._hall, self._following, job.context
        assert context is not None
        try:
            if not job.is_cancelled:
                times = job.times
                if times is not None:
                    self._note_begin(job)
                job.running = self
                if self._request_type is None:
                    job.value = context.run(self._call, job.value)
                else:
                    job.value = context.run(self._call, job.value, job.request_as(self._request_type))
                if times is not None:
                    times.append(monotonic_ns())
                if following is not None:
                    self._check_handed_on(job.value)
                elif type(job.value) in _GENERATORS:
                    job.value = context.run(self._stream_on_thread, job, job.value)
                else:
                    content = job.value = job.encode()
                    if type(content) is not bytes:
                        job.value = context.run(self._finish_on_thread, job, content)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; endpoints/failures.py answers it
            job.error = error
            if job.stream is not None:
                job.stream.give_up(error)
            hall.on_failure(error, False)
        if following is None or job.error is not None or job.is_cancelled:
            hall.completions.put(hall.finish, job)
        else:
            job.running = None
            following.forward(job)


class LoopStep(Step):
    """A coroutine or async generator function: a task on the loop, in one of `slots` if it is the predict.

    The requests that come in one turn of the loop are begun together in the next, in 0.85 of the CPU time: what one
    of them needs is still in the caches for the others, and no system call is between.
    """

    __slots__ = ("_entered", "_first_steps", "_is_awaited", "_slots", "_will_begin")

    def __init__(
        self, hall: Hall, method: Method, workers: Workers, following: Step | None, slots: Slots | None
    ) -> None:
        super().__init__(hall, method, workers, following)
        self._is_awaited = method.kind is Kind.COROUTINE
        self._slots = slots
        self._first_steps = first_steps(hall.loop)
        self._entered: deque[tuple[Job, Context]] = deque()
        self._will_begin = False
        self.start = self._start
        self.enter = self._enter
        self.forward = functools.partial(hall.completions.put, self._start)

    def withdraw(self, job: Job) -> None:
        if job.task is not None and _has_begun(job.task):  # it waits for a slot, or has just been given one
            job.task.cancel()

    def _enter(self, job: Job) -> None:
        self._entered.append((job, copy_context() if job.context is None else job.context.copy()))
        if not self._will_begin:
            self._will_begin = True
            self._hall.loop.call_soon(self._begin_all)

    def _begin_all(self) -> None:
        self._will_begin = False
        try:
            self._first_steps.begin_all(self._run, self._entered, _keep_task)
        finally:  # one that fails, by a bug, does not stop the others
            if self._entered and not self._will_begin:
                self._will_begin = True
                self._hall.loop.call_soon(self._begin_all)

    def _start(self, job: Job) -> None:
        context = copy_context() if job.context is None else job.context.copy()
        task = self._first_steps.begin(self._run(job), context)
        if task is not None:  # else this step is over, and the job may have the task of the next
            _keep_task(job, task)

    async def _run(self, job: Job) -> None:
        slots = self._slots
        try:
            if slots is not None:
                if slots.free:
                    slots.free -= 1
                else:
                    await slots.take()
            try:
                if not job.is_cancelled:
                    times = job.times
                    if times is not None:
                        self._note_begin(job)
                    job.running = self
                    if self._request_type is None:
                        called = self._call(job.value)
                    else:
                        job.is_shielded = True
                        called = self._call(job.value, job.request_as(self._request_type))
                    job.value = await called if self._is_awaited else called
                    if times is not None:
                        times.append(monotonic_ns())
                    if self._following is not None:
                        self._check_handed_on(job.value)
                    elif type(job.value) in _GENERATORS:
                        job.value = await self._stream_on_loop(job, job.value)
                    else:
                        content = job.value = job.encode()
                        if type(content) is not bytes:
                            job.value = await self._finish_on_loop(job, content)
            finally:
                if slots is not None:
                    slots.free += 1
                    if slots.waiting:
                        slots.hand_out()
        except BaseException as error:  # noqa: BLE001 - as above; a cancelled task ends here too
            job.error = error
            if job.stream is not None:
                job.stream.give_up(error)
            self._hall.on_failure(error, True)
        if self._following is None or job.error is not None or job.is_cancelled:
            self._hall.finish(job)
        else:
            job.task = job.running = None
            job.is_shielded = False
            job.context = copy_context()  # what this step set is seen by the next
            self._following.start(job)


def _keep_task(job: Job, task: asyncio.Task[None]) -> None:
    job.task = task  # the loop itself holds it only weakly


async def as_pair(coroutine: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """(what `coroutine` returns, None) or (None, what it raises).

    For a task of its own: one that raises SystemExit or KeyboardInterrupt would end the loop.
    """
    try:
        return await coroutine, None
    except BaseException as error:  # noqa: BLE001 - raised again on the thread that waits
        return None, error
