"""The batch step of a coroutine or async generator function: gathered and run on the loop, in predict's slots.

Made by `version.py`. What becomes of a batch's results, `batch_step.py` knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from time import monotonic
from typing import Any

from fastserve.model.batch_step import GENERATORS, BatchStep
from fastserve.model.batches import Batches
from fastserve.model.contract import Kind, Method
from fastserve.model.first_step import first_steps
from fastserve.model.memory import is_out_of_memory
from fastserve.model.slots import Slots
from fastserve.model.steps import Hall, Job, Step
from fastserve.model.threads import Workers


class LoopBatchStep(BatchStep):
    """A coroutine or async generator function: a task for each batch, on the loop, in one of `slots`.

    One task at a time gathers, or waits for the slot in which it will.
    """

    __slots__ = ("_bell", "_first_steps", "_is_awaited", "_is_called", "_slots", "_tasks")
    _is_on_loop = True

    def __init__(
        self, hall: Hall, method: Method, workers: Workers, following: Step | None, batches: Batches, slots: Slots
    ) -> None:
        super().__init__(hall, method, workers, following, batches)
        self._is_awaited = method.kind is Kind.COROUTINE
        self._slots = slots
        self._first_steps = first_steps(hall.loop)
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks only weakly
        self._is_called = False
        self._bell: asyncio.Future[bool] | None = None  # of the task that waits for more to arrive
        self.start = self.enter = self._put
        self.forward = functools.partial(hall.completions.put, self._put)

    def _put(self, job: Job) -> None:
        if job.context is None:
            job.context = copy_context()
        self._queue.put(job, monotonic())
        if not self._is_called:
            self._call_soon()
        elif self._bell is not None and self._queue.may_be_full:
            _ring(self._bell, True)

    def _look_again(self) -> None:
        if self._bell is not None:
            _ring(self._bell, True)

    def _call_soon(self) -> None:
        """Have a batch made when this turn of the loop is over: what else it brings is then in it."""
        self._is_called = True
        self._hall.loop.call_soon(lambda: self._spawn(self._work(), Context()))

    def _spawn(self, coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None] | None:
        """Begin `coroutine`, which raises nothing. Returns its task if it goes on."""
        task = self._first_steps.begin(coroutine, context)
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self) -> None:
        """Make one batch and run it."""
        try:
            await self._in_slot(self._gather_and_predict)
        except asyncio.CancelledError as error:  # while it gathered: by the model, or because the server ends
            self._is_called = False
            for job in self._queue.take_all():
                job.error = error
                self._end(job)

    async def _in_slot(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        slots = self._slots
        if slots.free:
            slots.free -= 1
        else:
            await slots.take()
        try:
            await work()
        finally:
            slots.free += 1
            slots.hand_out()

    async def _gather_and_predict(self) -> None:
        batch = await self._next_batch()
        self._is_called = False
        if not self._queue.is_empty:
            self._call_soon()
        if batch:
            self._begin_all(batch)
            await self._predict(batch)

    async def _next_batch(self) -> list[Job]:
        """Waits until it goes. Empty if nobody waits any more."""
        queue, now = self._queue, monotonic()
        while True:
            batch = queue.take(now)
            if batch or queue.is_empty:
                return batch
            goes_at = queue.goes_at
            now = monotonic() if await self._is_rung_before(goes_at) else goes_at

    async def _is_rung_before(self, goes_at: float) -> bool:
        """Sleep until then, or until the bell is rung. Returns which."""
        loop = self._hall.loop
        self._bell = loop.create_future()
        timer = loop.call_later(goes_at - monotonic(), _ring, self._bell, False)
        try:
            return await self._bell
        finally:
            timer.cancel()
            self._bell = None

    async def _predict(self, batch: list[Job]) -> None:
        """Call predict with `batch`, and anew with parts of it if that fails."""
        parts: list[list[Job]] = []
        try:
            called = self._call([job.value for job in batch])
            if self._is_awaited:
                called = await called
            self._end_all(batch)
            if type(called) in GENERATORS:
                self._check_generator(called)
                await self._produce_on_loop(batch, called)
                return
            self._share_out(batch, called)
            del called
            self._settle(batch)
        except BaseException as error:  # noqa: BLE001 - as above; a cancelled task ends here too
            await self._free_memory_after(error)
            parts = self._fail(batch, error)
        for part in parts:
            if wanted := [job for job in part if self._is_wanted(job)]:
                await self._predict(wanted)

    async def _free_memory_after(self, error: BaseException) -> None:
        """If that is what it says: before parts are tried anew, and on a thread, since it may take long."""
        if is_out_of_memory(error):
            free = functools.partial(self._hall.on_failure, error, False)
            with contextlib.suppress(asyncio.CancelledError):  # each job is told all the same
                await self._workers.call(free, self._hall.completions)

    def _end(self, job: Job) -> None:
        assert job.context is not None
        job.context.run(self._hall.finish, job)

    def _hand_on(self, job: Job, following: Step) -> None:
        following.start(job)

    def _run_on(self, job: Job) -> None:
        assert job.context is not None
        job.task = self._spawn(self._finish_alone(job), job.context.copy())

    async def _finish_alone(self, job: Job) -> None:
        async def run_on() -> None:
            job.value = await self._finish_on_loop(job, job.value)

        try:
            await self._in_slot(run_on)
        except BaseException as error:  # noqa: BLE001 - as above
            job.error = error
            self._hall.on_failure(error, True)
        self._end(job)


def _ring(bell: asyncio.Future[bool], is_early: bool) -> None:
    if not bell.done():
        bell.set_result(is_early)
