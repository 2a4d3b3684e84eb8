"""Whether the client of one request has gone: told by the connection, known to whoever asks, on any thread.

Nothing is polled. Made by `endpoints/` for a method that takes the request; `request.py` and `asgi.py` hand it on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator


class Disconnection:
    """The end of one client's interest. has_happened: it has gone, or its answer is complete."""

    __slots__ = ("_lock", "_told", "has_happened")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: list[Callable[[], object]] = []
        self.has_happened = False

    def happen(self) -> None:
        """The client has gone. On the loop."""
        with self._lock:
            self.has_happened = True
            told, self._told = self._told, []
        for tell in told:
            tell()

    def call(self, tell: Callable[[], object]) -> None:
        """Have `tell` called when it happens. Before the model can see this."""
        self._told.append(tell)

    async def wait(self) -> None:
        """Until it has happened. On any loop: a sync method may run one of its own."""
        happened, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(happened.set)

        with self._telling(tell):
            await happened.wait()

    @contextlib.contextmanager
    def watch(self) -> Iterator[threading.Event]:
        """An event for code on a thread, set as soon as the client has gone (Truss's `watch_disconnect`)."""
        event = threading.Event()
        with self._telling(event.set):
            yield event

    @contextlib.contextmanager
    def _telling(self, tell: Callable[[], object]) -> Iterator[None]:
        with self._lock:
            self._told.append(tell)
            is_late = self.has_happened
        if is_late:
            tell()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):  # told already
                self._told.remove(tell)
