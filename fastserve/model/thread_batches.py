"""The batch step of a plain or generator function: gathered and run on the threads of predict.

Made by `version.py`. What becomes of a batch's results, `batch_step.py` knows.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import copy_context
from time import monotonic

from fastserve.model.batch_step import GENERATORS, BatchStep
from fastserve.model.batches import Batches
from fastserve.model.contract import Method
from fastserve.model.steps import Hall, Job, Step
from fastserve.model.threads import Workers


class ThreadBatchStep(BatchStep):
    """A plain or generator function: on a worker thread, as many batches at once as there are threads.

    One thread at a time gathers, or has been called to: it makes the next batch, calls another for what is left, and
    runs its own.
    """

    __slots__ = ("_bell", "_is_called", "_is_closed", "_lock")

    def __init__(
        self, hall: Hall, method: Method, workers: Workers, following: Step | None, batches: Batches
    ) -> None:
        super().__init__(hall, method, workers, following, batches)
        self._bell = threading.Event()  # rung for the thread that waits for more to arrive
        self._lock = threading.Lock()  # between those who put and the one who gathers
        self._is_called = False
        self._is_closed = False
        self.start = self.enter = functools.partial(self._put, workers.put)
        self.forward = functools.partial(self._put, workers.put_from_thread)
        batches.on_close.append(self._close)

    def _put(self, call: Callable[[Callable[[None], None], None], None], job: Job) -> None:
        self._queue.put(job, monotonic())
        with self._lock:
            is_called, self._is_called = self._is_called, True
        if not is_called:
            call(self._work, None)
        elif self._queue.may_be_full and not self._bell.is_set():
            self._bell.set()

    def _close(self) -> None:
        self._is_closed = True
        self._bell.set()

    def _work(self, _: None) -> None:
        """Make one batch and run it. On a worker thread."""
        batch = self._next_batch()
        with self._lock:
            has_more = self._is_called = not (self._queue.is_empty or self._is_closed)
        if has_more:
            self._workers.put_from_thread(self._work, None)
        if batch:
            self._batches.count(len(batch))
            self._predict(batch)

    def _next_batch(self) -> list[Job]:
        """Sleeps until it goes. Empty if nobody waits any more."""
        queue, bell, now = self._queue, self._bell, monotonic()
        while True:
            bell.clear()  # before looking: what is put after the look then rings
            batch = queue.take(now)
            if batch or queue.is_empty or self._is_closed:
                return batch
            goes_at = queue.goes_at
            now = monotonic() if bell.wait(goes_at - monotonic()) else goes_at

    def _predict(self, batch: list[Job]) -> None:
        """Call predict with `batch`, and anew with parts of it if that fails. On a worker thread."""
        parts: list[list[Job]] = []
        context = copy_context()  # of this thread: what `load` set there is seen
        try:
            called = context.run(self._call, [job.value for job in batch])
            if type(called) in GENERATORS:
                self._check_generator(called)
                context.run(self._produce_on_thread, batch, called)
                return
            self._share_out(batch, called)
            del called
            self._settle(batch)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; endpoints/failures.py answers it
            parts = self._fail(batch, error)
        for part in parts:  # not above: what is raised there would name this error as its context
            if wanted := [job for job in part if self._is_wanted(job)]:
                self._predict(wanted)

    def _end(self, job: Job) -> None:
        self._hall.completions.put(self._hall.finish, job)

    def _hand_on(self, job: Job, following: Step) -> None:
        following.forward(job)

    def _run_on(self, job: Job) -> None:
        self._workers.put_from_thread(self._finish_alone, job)

    def _finish_alone(self, job: Job) -> None:
        assert job.context is not None
        try:
            job.value = job.context.run(self._finish_on_thread, job, job.value)
        except BaseException as error:  # noqa: BLE001 - as above
            job.error = error
        self._end(job)
