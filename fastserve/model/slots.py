"""Predict slots for coroutines: at most so many at once, first come, first served.

(For a sync predict the worker threads themselves are the slots.) Called by `steps.py`, on the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """asyncio.Semaphore's rule at a fifth of its price where nothing waits: `try_take` is a plain call."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    def try_take(self) -> bool:
        """Take a slot if one is free; none is while somebody waits."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def take(self) -> None:
        """Take a slot, behind all who wait already."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given the slot while it was being cancelled
                self.release()
            raise

    def release(self) -> None:
        """Give the slot to who has waited longest."""
        self._free += 1
        if self._waiting:
            self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # cancelled while it waited
                self._free -= 1
                turn.set_result(None)
