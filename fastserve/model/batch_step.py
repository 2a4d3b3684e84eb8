"""The step in which predict is given a batch: what it has in common on a worker thread and on the loop.

Which jobs make a batch and when it goes, `batch_queue.py` says; streams are `batch_streams.py`'s. It stands in the
place of a step of `steps.py`, and is walked as those are.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import operator
from time import monotonic_ns
from types import AsyncGeneratorType, GeneratorType
from typing import Any, ClassVar, Final

from fastserve.errors import DeadlineError, ModelDefinitionError, ModelError, ResultError, text_of
from fastserve.model.batch_queue import BatchQueue
from fastserve.model.batch_streams import BatchStreams, check_list, produce_batch, produce_batch_on_loop
from fastserve.model.batches import Batches
from fastserve.model.contract import Method
from fastserve.model.memory import is_out_of_memory
from fastserve.model.steps import Hall, Job, Step
from fastserve.model.threads import Workers

_logger: Final = logging.getLogger("fastserve")

GENERATORS: Final = frozenset({GeneratorType, AsyncGeneratorType})


class BatchStep(Step):
    """predict, called with the payloads of several jobs: what both kinds have in common.

    It runs in a context of its own, in which nothing of any request is seen, however many jobs there are: what
    `preprocess` has set in that of one job is for its `postprocess`.
    """

    __slots__ = ("_batches", "_measure", "_queue")

    def __init__(
        self, hall: Hall, method: Method, workers: Workers, following: Step | None, batches: Batches
    ) -> None:
        super().__init__(hall, method, workers, following)
        self._batches = batches
        self._measure = batches.size_of  # the model's
        settings, size_of = batches.settings, None if batches.size_of is None else self._size_of
        self._queue: BatchQueue[Job] = BatchQueue(settings.max_size, settings.wait_s, self._is_wanted, size_of)
        batches.queues.append(self._queue)

    def withdraw(self, job: Job) -> None:
        if self._queue.withdraw(job):
            self._hall.finish(job)
        else:  # the window is open that it has been looked at in, and may be for long
            self._look_again()

    # Of each kind its own.

    _is_on_loop: ClassVar[bool]  # where predict is called, and what is around it

    def _look_again(self) -> None:
        """Have who waits for more to arrive see what is still wanted. On the loop."""

    def _end(self, job: Job) -> None:
        """`job` is over."""

    def _hand_on(self, job: Job, following: Step) -> None:
        """Begin the next step."""

    def _run_on(self, job: Job) -> None:
        """See what `job.value` is, a generator or an awaitable, through to its end, in a slot of its own."""

    # Where a batch is made.

    def _is_wanted(self, job: Job) -> bool:
        """Each job is looked at here, and only here, just before predict is called with it; if it is not to be, it is
        over now.
        """
        if not job.is_cancelled:
            if job.times is None or monotonic_ns() <= job.expires:
                return True
            job.error = DeadlineError()
        self._end(job)
        return False

    def _size_of(self, job: Job) -> int:
        """By the model's own measure, and never less than 1, so that no batch is endless; 0 if that has failed."""
        assert self._measure is not None
        assert job.context is not None
        try:
            size = job.context.run(self._measure, job.value)
            if not hasattr(size, "__index__"):
                raise ResultError(f"`batch_size_of` must return a whole number, not {type(size).__name__}")
            return max(1, operator.index(size))
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; it is this job's failure alone
            job.error = error
            self._hall.on_failure(error, self._is_on_loop)
        self._end(job)
        return 0

    # When it runs.

    def _begin_all(self, batch: list[Job]) -> None:
        """Once, although parts of it may be tried anew: that is the same predict to who waits."""
        self._batches.count(len(batch))
        now = monotonic_ns()
        for job in batch:
            job.running = self
            if job.times is not None:
                job.times.append(now)

    def _end_all(self, batch: list[Job]) -> None:
        """predict has returned, for the first time if it is a generator that is tried anew."""
        now = monotonic_ns()
        for job in batch:
            if job.times is not None and not len(job.times) % 2:  # it has begun and has no end yet
                job.times.append(now)

    # What becomes of it.

    def _share_out(self, batch: list[Job], results: Any) -> None:
        """Each job gets its own result, and nobody here refers to it any more. Raises ResultError."""
        for place, result in enumerate(check_list(results, len(batch), "return", "results")):
            batch[place].value = result

    def _settle(self, batch: list[Job]) -> None:
        """Have each job go on with its result. Those that are over are told of together: while the rest is encoded,
        the loop would want the GIL for each.
        """
        for job in [job for job in batch if self._is_over(job)]:
            self._end(job)

    def _is_over(self, job: Job) -> bool:
        """Begin what follows predict, if anything does, or encode the result."""
        try:
            if self._following is not None:
                self._check_handed_on(job.value)
                job.running = None
                self._hand_on(job, self._following)
                return False
            content = job.value
            if type(content) not in GENERATORS:
                content = job.value = job.encode()
            if type(content) is not bytes and (type(content) in GENERATORS or inspect.isawaitable(content)):
                self._run_on(job)
                return False
        except BaseException as error:  # noqa: BLE001 - a result that cannot be encoded fails alone
            job.error = error
            self._hall.on_failure(error, self._is_on_loop)
        return True

    def _fail(self, batch: list[Job], error: BaseException) -> list[list[Job]]:
        """predict has raised `error` for `batch`. Returns the parts of it that are to be tried anew; if there are
        none, that was the failure of each job.

        Not tried anew is a result of the wrong shape, which is so for any input, and a task that was cancelled. What
        is too much for the device's memory is tried in halves: none of the inputs need be the culprit.
        """
        what = f"{type(error).__name__}: {text_of(error)}"
        if len(batch) > 1 and is_out_of_memory(error):
            self._batches.count_retried()
            _logger.warning("predict ran out of memory with a batch of %d (%s); tried in halves", len(batch), what)
            half = len(batch) // 2
            return [batch[:half], batch[half:]]
        may_be_one_s = not isinstance(error, (ModelError, asyncio.CancelledError))
        if self._batches.settings.isolates and len(batch) > 1 and may_be_one_s:
            self._batches.count_retried()
            _logger.warning("predict failed for a batch of %d (%s); each input is tried alone", len(batch), what)
            return [[job] for job in batch]
        for job in batch:
            job.error = error
            self._end(job)
        return []

    def _check_generator(self, generator: Any) -> None:
        """Raises ModelDefinitionError if the model has a `postprocess`."""
        if self._following is not None:
            self._check_handed_on(generator)

    def _streams(self, batch: list[Job], *, on_loop: bool) -> BatchStreams:
        hall = self._hall
        open_stream = functools.partial(hall.open_stream, on_loop=on_loop, stops_unread=self._may_stop())
        return BatchStreams(batch, open_stream, functools.partial(hall.completions.put, hall.finish))

    def _produce_on_thread(self, batch: list[Job], generator: Any) -> None:
        """Run `generator` to its end. Raises what it raises before its first chunks; later its streams are told."""
        if type(generator) is AsyncGeneratorType:  # its place is the loop; this thread, and so the slot, is held
            self._await_on_thread(self._produce_on_loop(batch, generator))
        else:
            streams = self._streams(batch, on_loop=False)
            produce_batch(streams, generator)
            if streams.error is not None:
                self._hall.on_failure(streams.error, False)

    async def _produce_on_loop(self, batch: list[Job], generator: Any) -> None:
        """The same, on the loop."""
        if type(generator) is GeneratorType:
            raise ModelDefinitionError(
                "`predict` is a coroutine and returned a generator, which may block: have it yield the lists itself"
            )
        streams = self._streams(batch, on_loop=True)
        await produce_batch_on_loop(streams, generator, self._hall.turns)
        if streams.error is not None:
            self._hall.on_failure(streams.error, True)
