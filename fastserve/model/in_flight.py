"""Counts what is in flight in one version of the model, and tells who waits when nothing is.

Does not know what it counts. Used by `runtime.py` and `version.py`, on the loop.
"""

from __future__ import annotations

import asyncio


class Load:
    """What one way into the model has taken on. jobs: at work or waiting. size: bytes of large content they hold."""

    __slots__ = ("jobs", "size")

    def __init__(self) -> None:
        self.jobs = 0
        self.size = 0


class InFlight:
    """All that has begun and is not over. Who lowers a number of it calls `tell` afterwards, if it `is_awaited`.

    tasks: those that are no jobs.
    """

    __slots__ = ("_keeps_score", "_loads", "_waiting", "finished", "is_awaited", "tasks")

    def __init__(self) -> None:
        self._loads: list[Load] = []
        self.tasks = 0
        self.finished = 0  # how much is over since `keep_score`
        self.is_awaited = False
        self._keeps_score = False
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def count(self) -> int:
        return self.tasks + sum(load.jobs for load in self._loads)

    def add_load(self) -> Load:
        """Count the jobs of one more way into the model."""
        self._loads.append(Load())
        return self._loads[-1]

    def keep_score(self) -> None:
        """From now on `finished` counts."""
        self._keeps_score = self.is_awaited = True

    def tell(self) -> None:
        """Something is over, and the count may have become 0."""
        self.finished += 1
        if self._waiting and not self.count:
            for waiting in self._waiting:
                if not waiting.done():  # cancelled while it waited
                    waiting.set_result(None)
            self._waiting.clear()
            self.is_awaited = self._keeps_score

    async def wait_idle(self) -> None:
        """Until nothing is in flight."""
        while self.count:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            self.is_awaited = True
            await waiting
