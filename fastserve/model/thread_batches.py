"""The batch step of a plain or generator function: gathered and run on the threads of predict.

Made by `version.py`. What becomes of a batch's results, `batch_step.py` knows.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import copy_context
from time import monotonic
from typing import Any

from fastserve.model.batch_step import GENERATORS, BatchStep
from fastserve.model.batches import Batches
from fastserve.model.contract import Method
from fastserve.model.inference import check_runs_here
from fastserve.model.steps import Batch, Hall, Job, Step
from fastserve.model.threads import Workers


class ThreadBatchStep(BatchStep):
    """A plain or generator function: on a worker thread, as many batches at once as there are threads.

    One thread at a time gathers, or has been called to: it makes the next batch, calls another for what is left, and
    runs its own.
    """

    __slots__ = ("_bell", "_gathering", "_is_closed", "_lock")
    _is_on_loop = False

    def __init__(
        self, hall: Hall, method: Method, workers: Workers, following: Step | None, batches: Batches
    ) -> None:
        super().__init__(hall, method, workers, following, batches)
        self._bell = threading.Event()  # rung for the thread that waits for more to arrive
        self._lock = threading.Lock()  # between those who put and the one who gathers
        self._gathering: Batch | None = None  # of that one
        self._is_closed = False
        self.start = self.enter = functools.partial(self._put, workers.put)
        self.forward = functools.partial(self._put, workers.put_from_thread)
        batches.on_close.append(self._close)

    def _put(self, call: Callable[[Callable[[Batch], None], Batch], None], job: Job) -> None:
        self._queue.put(job, monotonic())
        called = None
        with self._lock:
            if self._gathering is None:
                called = self._gathering = Batch(self._on_lost)
        if called is not None:
            call(self._work, called)
        elif self._queue.may_be_full and not self._bell.is_set():
            self._bell.set()

    def _look_again(self) -> None:
        self._bell.set()

    def _close(self) -> None:
        self._is_closed = True
        self._bell.set()

    def _work(self, batch: Batch) -> None:
        """Make one batch and run it. On a worker thread."""
        with self._lock:
            if batch.has_begun:
                return
            batch.has_begun = True
        self._gather(batch.jobs)
        with self._lock:
            following = None if self._queue.is_empty or self._is_closed else Batch(self._on_lost)
            self._gathering = following
        if following is not None:
            self._workers.put_from_thread(self._work, following)
        if batch.jobs:
            self._begin_all(batch.jobs)
            self._predict(batch.jobs)

    def _on_lost(self, batch: Batch) -> None:
        """The thread of `batch` was struck, maybe before it had called another. On the loop."""
        with self._lock:
            if self._gathering is batch:
                self._gathering = None if self._queue.is_empty else Batch(self._on_lost)
            next_one = self._gathering
        if next_one is not None and not next_one.has_begun:
            self._workers.put(self._work, next_one)

    def _gather(self, jobs: list[Job]) -> None:
        """Sleeps until the next batch goes, and adds it to `jobs`; nothing if nobody waits any more."""
        queue, bell, now = self._queue, self._bell, monotonic()
        while True:
            bell.clear()  # before looking: what is put after the look then rings
            if queue.take(now, jobs) or queue.is_empty or self._is_closed:
                return
            goes_at = queue.goes_at
            now = monotonic() if bell.wait(goes_at - monotonic()) else goes_at

    def _predict(self, batch: list[Job]) -> None:
        """Call predict with `batch`, and anew with parts of it if that fails. On a worker thread."""
        parts: list[list[Job]] = []
        context = copy_context()  # of this thread: what `load` set there is seen
        try:
            called = context.run(self._call, [job.value for job in batch])
            self._end_all(batch)
            if type(called) in GENERATORS:
                self._check_generator(called)
                context.run(self._produce_on_thread, batch, called)
                return
            self._share_out(batch, called)
            del called
            self._settle(batch)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; endpoints/failures.py answers it
            self._hall.on_failure(error, False)
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
            self._hall.on_failure(error, False)
        self._end(job)


class InferenceBatchStep(ThreadBatchStep):
    """One whose predict runs in `torch.inference_mode()`, from its call to the encoded results (`inference.py`)."""

    __slots__ = ("_inference_mode",)

    def __init__(
        self,
        hall: Hall,
        method: Method,
        workers: Workers,
        following: Step | None,
        batches: Batches,
        inference_mode: Any,
    ) -> None:
        super().__init__(hall, method, workers, following, batches)
        self._inference_mode = inference_mode

    def _predict(self, batch: list[Job]) -> None:
        with self._inference_mode():
            super()._predict(batch)

    def _produce_on_thread(self, batch: list[Job], generator: Any) -> None:
        check_runs_here(generator)
        super()._produce_on_thread(batch, generator)

    def _finish_on_thread(self, job: Job, content: Any) -> Any:
        check_runs_here(content)
        with self._inference_mode():
            return super()._finish_on_thread(job, content)
