"""The loop's time, shared out among those who would hold it: pipelines, floods of chunks, endless output.

However many are in one queue, together they get TURN_S of each round of the loop, and all others are looked after in
between. Used by `http11/connection.py` for callbacks, by `model/streams.py` and `websocket/session.py` for
coroutines.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable
from typing import Final

# Long enough that the turns themselves (20 us) cost little. Who is beside a flood waits for two or three of them.
TURN_S: Final = 0.0005
# What those in turn do later in the same round is not seen in advance: the coroutines that they wake go on only after
# all have been woken. So no more than these go on in one round, and half as many as in the round before if that took
# longer than LONG_S.
MOST_IN_TURN: Final = 16
LONG_S: Final = 2 * TURN_S
# Who has not been heard of for so long has waited for something: ten turns, so that nobody takes for waiting what was
# the others' turns.
WAIT_S: Final = 10 * TURN_S


class Turns:
    """A queue of those who are to go on in a later turn of the loop, first come, first served."""

    __slots__ = ("_began", "_context", "_ends", "_is_giving", "_loop", "_share", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.copy_context()  # that of no request
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_giving = False
        self._began = 0.0  # this round of the loop, as far as it is known
        self._ends = 0.0  # the present turn
        self._share = MOST_IN_TURN  # so many may go on in one round

    def put(self, go_on: Callable[[], None]) -> None:
        """Have `go_on` called in a later turn of the loop, in a fresh context."""
        self._waiting.append(go_on)
        if not self._is_giving:
            self._is_giving = True
            self._began = time.monotonic()
            self._loop.call_soon(self._give_turn)

    def time(self) -> float:
        """When this round of the loop began, in seconds. With uvloop it stands still while a callback runs."""
        return self._loop.time()

    async def give(self) -> float:
        """For a coroutine that would not wait: wait for the next turn if the present one is over.

        Returns when the one that it has then is over, by time.monotonic().
        """
        if time.monotonic() < self._ends:
            return self._ends
        turn = self._loop.create_future()
        self.put(lambda: None if turn.done() else turn.set_result(None))  # done if the coroutine was cancelled
        await turn
        return self._ends

    def _give_turn(self) -> None:
        now = time.monotonic()
        is_long = now > self._began + LONG_S
        self._share = max(1, self._share // 2) if is_long else min(MOST_IN_TURN, self._share + 1)
        self._began = now
        self._ends = now + TURN_S
        try:
            for _ in range(self._share):
                self._context.copy().run(self._waiting.popleft())
                if not self._waiting or time.monotonic() > self._ends:
                    break
        finally:  # one that fails, by a bug, does not stop the others
            self._is_giving = bool(self._waiting)
            if self._is_giving:
                self._loop.call_soon(self._give_turn)
