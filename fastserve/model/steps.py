"""A job and the steps it walks: each method of the model on the thread, or the loop, where it belongs.

A step hands its job straight to the next, from thread to thread if need be; the loop is woken only where it has work.
Made by `runtime.py` once, at start; decided then: where each step runs, what follows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from fastserve.errors import ModelDefinitionError
from fastserve.model.contract import Kind, Method
from fastserve.model.slots import Slots
from fastserve.model.streams import Stream, StreamBudget, gather, gather_on_loop, produce, produce_on_loop
from fastserve.model.threads import Completions, Workers

_GENERATORS: Final = frozenset({GeneratorType, AsyncGeneratorType})


class Job:
    """One payload on its way through the model. Subclassed by who wants the result.

    value: the payload; then what the latest step returned; at last what `Hall.encode` made of the result.
    error: what user code raised, or a ModelError; None if all went well.
    wants_whole: a generator's output is gathered into one text instead of streamed.
    stream: the result is a generator, and this is its output.
    is_cancelled: nobody waits any more: no further step is begun.
    """

    __slots__ = ("context", "error", "is_cancelled", "step", "stream", "value", "wants_whole")

    def __init__(self, payload: Any, *, wants_whole: bool = False) -> None:
        self.value = payload
        self.wants_whole = wants_whole
        self.error: BaseException | None = None
        self.context: Context | None = None
        self.step: Step | None = None
        self.stream: Stream | None = None
        self.is_cancelled = False

    def on_result(self) -> None:
        """The job is over: `value` or `error` is there, or its stream has ended. On the loop; overridden."""
        raise NotImplementedError

    def on_chunks(self, stream: Stream) -> None:
        """`stream` has begun, has chunks to take, or has ended. On the loop; overridden."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody waits any more. A step that has begun runs to its end, since it may have effects; a generator is
        closed."""
        self.is_cancelled = True
        if self.stream is not None:
            self.stream.cancel()

    def work(self) -> None:
        """A worker thread takes the job (threads.Job)."""
        assert self.step is not None
        self.step.run(self)

    def on_loop(self) -> None:
        """The job is back on the loop (threads.Arrival)."""
        assert self.step is not None
        self.step.arrive(self)


class Hall:
    """What the steps of one model share: the ways to and from the loop, and what becomes of results.

    encode: makes content of a result, on the thread that made the result: a CUDA tensor, say, must be read there.
    finish: called on the loop with each job that is over.
    """

    __slots__ = ("budget", "completions", "encode", "finish", "loop", "tasks")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        budget: StreamBudget,
        encode: Callable[[Any], Any],
        finish: Callable[[Job], None],
    ) -> None:
        self.loop = loop
        self.completions = Completions(loop)
        self.budget = budget
        self.encode = encode
        self.finish = finish
        self.tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly

    def open_stream(self, job: Job, tell: Callable[[Any], None]) -> Stream:
        """A stream for `job`'s output. Announced at once: the reader counts the time to the first chunk from now."""
        stream = job.stream = Stream(job, self.budget, tell)
        if job.is_cancelled:
            stream.cancel()
        stream.announce()
        return stream


class Step:
    """One method of the model. next: what follows it, None for the last.

    workers: the threads for whatever of it may block.
    """

    __slots__ = ("_call", "_hall", "_is_predict", "_workers", "next")

    def __init__(self, hall: Hall, method: Method, workers: Workers, following: Step | None) -> None:
        self._hall = hall
        self._call = method.call
        self._is_predict = method.name == "predict"
        self._workers = workers
        self.next = following

    def start(self, job: Job) -> None:
        """Begin this step for `job`; on the loop."""
        raise NotImplementedError

    def forward(self, job: Job) -> None:
        """Begin this step for `job`; on a worker thread."""
        raise NotImplementedError

    def run(self, job: Job) -> None:
        """On one of this step's worker threads."""
        raise NotImplementedError

    def arrive(self, job: Job) -> None:
        """`job` came from a worker thread to the loop."""
        raise NotImplementedError

    def _check_handed_on(self, value: Any) -> None:
        """A generator's output cannot be post-processed: it would have to be gathered first."""
        if self._is_predict and type(value) in _GENERATORS:
            raise ModelDefinitionError(
                "`predict` returned a generator and the model has a `postprocess`; leave one out"
            )

    def _conclude(self, job: Job, value: Any) -> Any:
        """The content made of the last step's result, or None if that was a stream, now at its end. On a worker."""
        kind = type(value)
        if kind not in _GENERATORS:
            return self._hall.encode(value)
        if kind is AsyncGeneratorType:  # its place is the loop; this thread, and so the slot, is held meanwhile
            return asyncio.run_coroutine_threadsafe(self._conclude_on_loop(job, value), self._hall.loop).result()
        if job.wants_whole:
            return self._hall.encode(gather(value))
        produce(self._hall.open_stream(job, self._hall.completions.put), value)
        return None

    async def _conclude_on_loop(self, job: Job, value: Any) -> Any:
        """The same, on the loop."""
        kind = type(value)
        if kind not in _GENERATORS:
            return self._hall.encode(value)
        if kind is GeneratorType:
            context = copy_context()
            return await self._workers.call(lambda: context.run(self._conclude, job, value), self._hall.completions)
        if job.wants_whole:
            return self._hall.encode(await gather_on_loop(value))
        await produce_on_loop(self._hall.open_stream(job, self._tell_on_loop), value)
        return None

    def _tell_on_loop(self, stream: Stream) -> None:
        self._hall.loop.call_soon(stream.on_loop)


class ThreadStep(Step):
    """A plain or generator function: on a worker thread, since it may block."""

    __slots__ = ()

    def start(self, job: Job) -> None:
        self._workers.put(job)

    def forward(self, job: Job) -> None:
        self._workers.put(job)

    def run(self, job: Job) -> None:
        context = job.context
        assert context is not None
        following = self.next
        try:
            if job.is_cancelled:
                pass
            elif following is None:
                value = context.run(self._call, job.value)
                job.value = context.run(self._conclude, job, value)
            else:
                job.value = value = context.run(self._call, job.value)
                self._check_handed_on(value)
                job.step = following
                following.forward(job)
                return
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; endpoints/failures.py answers it
            job.error = error
        self._hall.completions.put(job)

    def arrive(self, job: Job) -> None:
        self._hall.finish(job)


class LoopStep(Step):
    """A coroutine or async generator function: a task on the loop, in one of `slots` if it is the predict."""

    __slots__ = ("_is_awaited", "_slots")

    def __init__(
        self, hall: Hall, method: Method, workers: Workers, following: Step | None, slots: Slots | None
    ) -> None:
        super().__init__(hall, method, workers, following)
        self._is_awaited = method.kind is Kind.COROUTINE
        self._slots = slots

    def start(self, job: Job) -> None:
        create_task = self._hall.loop.create_task
        coroutine = self._run_task(job)
        task = create_task(coroutine) if job.context is None else job.context.run(create_task, coroutine)
        self._hall.tasks.add(task)
        task.add_done_callback(self._hall.tasks.discard)

    def forward(self, job: Job) -> None:
        self._hall.completions.put(job)

    def arrive(self, job: Job) -> None:
        self.start(job)

    async def _run_task(self, job: Job) -> None:
        slots, following = self._slots, self.next
        try:
            if slots is not None and not slots.try_take():
                await slots.take()
            try:
                if not job.is_cancelled:
                    value = self._call(job.value)
                    if self._is_awaited:
                        value = await value
                    if following is None:
                        job.value = await self._conclude_on_loop(job, value)
                    else:
                        self._check_handed_on(value)
                        job.value = value
            finally:
                if slots is not None:
                    slots.release()
        except BaseException as error:  # noqa: BLE001 - as above; a cancelled task ends here too
            job.error = error
        if following is None or job.error is not None or job.is_cancelled:
            self._hall.finish(job)
        else:
            job.step = following
            job.context = copy_context()  # what this step set is seen by the next
            following.start(job)
