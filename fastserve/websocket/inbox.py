"""Messages that have come and wait for the model: how many may, and who waits for one.

No frames, no I/O. Owned by `session.py`, which lets the peer wait while it is full.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from fastserve.config import MIB

# Then the peer waits. One message of any size fits, and thousands of short ones.
MAX_UNREAD_BYTES: Final = MIB
# What a message costs besides its content: without it short ones would pile up many times their bytes.
MESSAGE_COST: Final = 256
# Messages taken in a row without a turn for the loop's other tasks: some milliseconds of a short method's time.
MESSAGES_A_TURN: Final = 256


class Inbox:
    """First in, first out. is_over: no further message comes."""

    __slots__ = ("_arrived", "_messages", "_receivers", "_taken", "_unread_bytes", "is_over")

    def __init__(self) -> None:
        self._messages: deque[str | bytes] = deque()
        self._unread_bytes = 0
        self._arrived = asyncio.Event()
        self._receivers = 0
        self._taken = 0
        self.is_over = False

    @property
    def is_full(self) -> bool:
        return self._unread_bytes > MAX_UNREAD_BYTES

    @property
    def is_awaited(self) -> bool:
        """A task waits for a message, so there is none."""
        return self._receivers > 0

    def put(self, message: str | bytes) -> None:
        self._messages.append(message)
        self._unread_bytes += len(message) + MESSAGE_COST
        self._arrived.set()

    async def take(self) -> str | bytes | None:
        """The next message; None if none is left and none comes. A cancelled call takes none."""
        self._taken += 1
        if self._taken % MESSAGES_A_TURN == 0:
            await asyncio.sleep(0)
        self._receivers += 1
        try:
            while not self._messages and not self.is_over:
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self._receivers -= 1
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._unread_bytes -= len(message) + MESSAGE_COST
        return message

    def end(self) -> None:
        """No further message comes."""
        self.is_over = True
        self._arrived.set()

    def clear(self) -> None:
        """What is unread is not wanted any more."""
        self._messages.clear()
        self._unread_bytes = 0
