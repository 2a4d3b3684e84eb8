"""Counts what is in flight in one version of the model, and tells who waits when nothing is.

Does not know what it counts. Used by `runtime.py` and `version.py`, on the loop.
"""

from __future__ import annotations

import asyncio


class InFlight:
    """count: what has begun and is not over. Whoever lowers it calls `tell` afterwards, if it `is_awaited`."""

    __slots__ = ("_waiting", "count", "is_awaited")

    def __init__(self) -> None:
        self.count = 0
        self.is_awaited = False
        self._waiting: list[asyncio.Future[None]] = []

    def tell(self) -> None:
        """The count may have become 0."""
        if self._waiting and not self.count:
            for waiting in self._waiting:
                if not waiting.done():  # cancelled while it waited
                    waiting.set_result(None)
            self._waiting.clear()
            self.is_awaited = False

    async def wait_idle(self) -> None:
        """Until nothing is in flight."""
        while self.count:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            self.is_awaited = True
            await waiting
