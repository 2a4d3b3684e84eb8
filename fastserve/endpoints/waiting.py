"""An answer that has to be waited for, other than a predict's: a task on the loop for each request.

Not for the hot path: probes that ask the model, and scrapes. Called by `probes.py` and `metrics.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastserve.messages import Request, Response


def answer_when_known(request: Request, ask: Callable[[], Awaitable[Response]]) -> None:
    """Send what `ask` comes to; nothing if the client leaves before. It may raise nothing but CancelledError."""
    request.work = _Waiting(request, ask)


class _Waiting:
    """messages.Work: the task, held as long as the request is."""

    __slots__ = ("_task",)

    def __init__(self, request: Request, ask: Callable[[], Awaitable[Response]]) -> None:
        self._task = asyncio.get_running_loop().create_task(_answer(request, ask))

    def on_disconnect(self) -> None:
        self._task.cancel()

    def on_writable(self) -> None:
        """Nothing of the answer is there yet."""

    def on_tick(self, elapsed_s: float) -> None:
        """Whoever asks for a probe or a scrape has a deadline of its own."""


async def _answer(request: Request, ask: Callable[[], Awaitable[Response]]) -> None:
    request.connection.send_response(request, await ask())
