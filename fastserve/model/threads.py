"""Worker threads for user code that may block, and the way back to the loop.

Threads and queues only; what is run is `steps.py`'s. `Workers` take jobs off the loop, `Completions` bring them back.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")

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


class _Call:
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
        self._completions.put(_Call.settle, self)

    def settle(self) -> None:
        if self.future.done():  # who awaited it was cancelled
            return
        if self._error is None:
            self.future.set_result(self._value)
        else:
            self.future.set_exception(self._error)


class Workers:
    """Long-lived threads that take jobs in the order they were put.

    One sleeping thread is woken at a time, and wakes the next only if more jobs wait when it has the GIL. With short
    jobs one thread does them all while the others sleep; with jobs that block, as many run as there are.
    """

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._call_soon = loop.call_soon
        self._jobs: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._tokens: SimpleQueue[None] = SimpleQueue()  # one for each thread to be woken
        self._is_waking = False
        self._threads: list[threading.Thread] = []
        self._is_stopping = False

    @property
    def waiting(self) -> int:
        """Jobs that no worker has begun."""
        return len(self._jobs)

    def start(self, count: int) -> None:
        """Have `count` threads in all. More may be started later, none is ended before `stop`."""
        for number in range(len(self._threads), count):
            thread = threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

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

    async def call(self, function: Callable[[], Any], completions: Completions) -> Any:
        """Run `function` on a worker, and return or raise what it does."""
        call = _Call(function, completions)
        self.put(_Call.work, call)
        return await call.future

    def stop(self) -> bool:
        """End the threads. Returns False if one is still in user code after STOP_S: it cannot be ended."""
        self._is_stopping = True
        for _ in self._threads:
            self._tokens.put(None)
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        jobs, tokens = self._jobs, self._tokens
        while True:
            tokens.get()
            # Reset before looking: what is put after the last look then brings a token of its own.
            self._is_waking = False
            if self._is_stopping:
                return
            while jobs and not self._is_stopping:
                try:
                    function, argument = jobs.popleft()
                except IndexError:  # another worker was faster
                    break
                if jobs and not self._is_waking and len(self._threads) > 1:
                    self._is_waking = True
                    tokens.put(None)
                function(argument)
                del function, argument  # an idle worker must not keep the last payload alive
