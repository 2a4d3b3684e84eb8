"""Predict slots for coroutines: at most so many at once, first come, first served.

(For a sync predict the worker threads themselves are the slots.) Called by `steps.py`, on the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """asyncio.Semaphore's rule at a fifth of its price where nothing waits.

    free: slots that nobody has; none while somebody waits. Who finds one takes it by lowering the number, and who
    gives one back raises it and calls `hand_out` if anybody is `waiting`: two frames less, 2 % of a request.
    waiting: who waits for one, the longest first.
    """

    __slots__ = ("free", "waiting")

    def __init__(self, count: int) -> None:
        self.free = count
        self.waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waits(self) -> int:
        return sum(not turn.done() for turn in self.waiting)

    async def take(self) -> None:
        """Take a slot, behind all who wait already."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        self.hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given the slot while it was being cancelled
                self.free += 1
                self.hand_out()
            raise

    def hand_out(self) -> None:
        """Give what is free to who has waited longest."""
        while self.free and self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():  # cancelled while it waited
                self.free -= 1
                turn.set_result(None)
