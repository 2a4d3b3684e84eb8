"""Worker threads for user code that may block, and the way back to the loop.

Threads and queues only; what is run is `steps.py`'s. `Workers` take jobs off the loop, `Completions` bring them back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")
Work = tuple[Callable[[Any], None], Any]
"""What a worker is to call, and with what."""

_logger: Final = logging.getLogger("fastserve")

# How long a worker that was told to stop may take to leave the user's code.
STOP_S: Final = 0.2


class Completions:
    """Brings work back to the loop: many arrivals, one wake-up.

    A worker wakes the loop only if no wake-up is pending, so that requests which finish together are answered in one
    turn: three times the throughput of a Future and a wake-up each (bench/load, sync predict).
    """

    __slots__ = ("_arrived", "_is_pending", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._is_pending = False

    def put(self, function: Callable[[T], None], argument: T) -> None:
        """Have `function(argument)` called on the loop. From any thread."""
        self._arrived.append((function, argument))
        if not self._is_pending:
            self._is_pending = True
            self._wake()

    def put_after_strike(self, function: Callable[[T], None], argument: T) -> None:
        """The same, for a thread that may have been struck in the middle of it: the loop is woken in any case."""
        self._arrived.append((function, argument))
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            self._arrived.clear()

    def _drain(self) -> None:
        # Reset before the first look: what arrives after the last look then wakes the loop again.
        self._is_pending = False
        arrived = self._arrived
        # Only what is there now: a stream that produces while this runs must not keep the loop from its sockets.
        for _ in range(len(arrived)):
            function, argument = arrived.popleft()
            try:
                function(argument)
            except Exception:  # one request's trouble must not cost the others behind it their answers
                _logger.exception("a completion failed; this is a bug of fastserve")


class Call:
    """A job that is one plain call, awaited on the loop."""

    __slots__ = ("_completions", "_error", "_function", "_value", "future")

    def __init__(self, function: Callable[[], Any], completions: Completions) -> None:
        self._function = function
        self._completions = completions
        self._value: Any = None
        self._error: BaseException | None = None
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def work(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            self._error = error
        self._completions.put(Call.settle, self)

    def fail(self, error: BaseException) -> None:
        """It did not come to its end, or nobody knows whether it did. From any thread."""
        self._completions.put_after_strike(self._fail_on_loop, error)

    def _fail_on_loop(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def settle(self) -> None:
        if self.future.done():  # who awaited it was cancelled
            return
        if self._error is None:
            self.future.set_result(self._value)
        else:
            self.future.set_exception(self._error)


class Worker:
    """One thread of Workers, as others see it.

    job: what it runs at the moment, None if it runs nothing.
    """

    __slots__ = ("job", "thread")

    thread: threading.Thread

    def __init__(self) -> None:
        self.job: Work | None = None


def _forget(argument: Any, error: BaseException) -> None:
    """Nobody waits for it."""


class Workers:
    """Long-lived threads that take jobs in the order they were put.

    One sleeping thread is woken at a time, and wakes the next only if more jobs wait when it has the GIL. With short
    jobs one thread does them all while the others sleep; with jobs that block, as many run as there are.

    An exception that user code has raised in a thread from outside (PyThreadState_SetAsyncExc, as timeouts do) may
    strike it between jobs, or where a job is handed on. The thread goes on then, and one that has ended is replaced.

    all: the threads, as they were started. revived: how often one went on or was replaced like that.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Any, BaseException], None] = _forget,
    ) -> None:
        """on_lost: told of the argument that a thread had in hand when it was struck, which may be over all the same;
        on any thread.
        """
        self._name = name
        self._loop = loop
        self._call_soon = loop.call_soon
        self._on_lost = on_lost
        self._jobs: deque[Work] = deque()
        self._tokens: SimpleQueue[None] = SimpleQueue()  # one for each thread to be woken
        self._is_waking = False
        self._is_stopping = False
        self.all: list[Worker] = []
        self.revived = 0

    @property
    def waiting(self) -> int:
        """Jobs that no worker has begun."""
        return len(self._jobs)

    def start(self, count: int) -> None:
        """Have `count` threads in all. More may be started later, none is ended before `stop`."""
        while len(self.all) < count:
            worker = Worker()
            self.all.append(worker)
            self._start_thread(worker, len(self.all) - 1)

    def _start_thread(self, worker: Worker, number: int) -> None:
        name = f"{self._name}-{number}"
        worker.thread = threading.Thread(target=self._run, args=(worker,), name=name, daemon=True)
        worker.thread.start()

    def replace_ended(self) -> None:
        """Start another thread in the place of each that has ended; what it had in hand is lost. On the loop."""
        for number, worker in enumerate(self.all):
            if not worker.thread.is_alive() and not self._is_stopping:
                self._lose_job_of(worker, f"thread {worker.thread.name} has ended and is replaced")
                self._start_thread(worker, number)

    def put(self, function: Callable[[T], None], argument: T) -> None:
        """Run `function(argument)`, which never raises, on a worker, behind those put before. On the loop.

        A worker is woken when this turn of the loop is over: one that wants the GIL sooner makes each of the turn's
        other callbacks fight for it (a third of the throughput at 64 connections).
        """
        self._jobs.append((function, argument))
        if not self._is_waking:
            self._is_waking = True
            self._call_soon(self._tokens.put, None)

    def put_from_thread(self, function: Callable[[T], None], argument: T) -> None:
        """The same, on any thread: a worker is woken now."""
        self._jobs.append((function, argument))
        if not self._is_waking:
            self._is_waking = True
            self._tokens.put(None)

    def withdraw(self, function: Callable[[T], None], argument: T) -> bool:
        """Take back what was put, unless a worker has begun it. Returns whether it could be. On the loop."""
        try:
            self._jobs.remove((function, argument))
        except ValueError:
            return False
        return True

    def wake_after_strike(self) -> None:
        """Wake a worker, for a thread that may have been struck before it did so."""
        self._tokens.put(None)

    async def call(self, function: Callable[[], Any], completions: Completions) -> Any:
        """Run `function` on a worker, and return or raise what it does."""
        call = Call(function, completions)
        self.put(Call.work, call)
        return await call.future

    def stop(self) -> bool:
        """End the threads. Returns False if one is still in user code after STOP_S: it cannot be ended."""
        self._is_stopping = True
        for _ in self.all:
            self._tokens.put(None)
        deadline = time.monotonic() + STOP_S
        for worker in self.all:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(worker.thread.is_alive() for worker in self.all)

    def _run(self, worker: Worker) -> None:
        while True:
            try:
                self._work(worker)
                return
            except BaseException as error:  # noqa: BLE001 - no job raises: this is meant for what ran before
                struck = f"{type(error).__name__} struck thread {worker.thread.name} outside of the model's methods"
                self._lose_job_of(worker, struck, error)

    def _lose_job_of(self, worker: Worker, what: str, error: BaseException | None = None) -> None:
        """Give up what `worker` has in hand. what: happened to it."""
        self.revived += 1
        with contextlib.suppress(RuntimeError):  # the loop is closed
            # Logged there: a second strike must not hit the thread while it has the lock of a log handler.
            self._loop.call_soon_threadsafe(functools.partial(_logger.error, "%s", what, exc_info=error))
        if worker.job is not None:
            _, argument = worker.job
            if isinstance(argument, Call):
                argument.fail(RuntimeError(what))
            else:
                self._on_lost(argument, RuntimeError(what))
            worker.job = None

    def _work(self, worker: Worker) -> None:
        jobs, tokens, threads = self._jobs, self._tokens, self.all
        # Taken by `for`, not by a call of its own: after each call a thread may be struck, and then what was taken
        # and not yet noted would be lost without a trace.
        take = map(deque.popleft, itertools.repeat(jobs))
        while True:
            # Reset before looking: what is put after the last look then brings a token of its own.
            self._is_waking = False
            while jobs and not self._is_stopping:
                try:
                    for job in take:
                        worker.job = job
                        break
                except IndexError:  # another worker was faster
                    break
                if jobs and not self._is_waking and len(threads) > 1:
                    self._is_waking = True
                    tokens.put(None)
                function, argument = job
                function(argument)
                worker.job = None
                del job, function, argument  # an idle worker must not keep the last payload alive
            if self._is_stopping:
                return
            tokens.get()
