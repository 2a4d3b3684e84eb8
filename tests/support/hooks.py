"""Hooks with a loop of their own, ended afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import uvloop

from fastserve.model.hooks import Hooks
from fastserve.model.threads import Completions

T = TypeVar("T")
PATIENCE_S = 20.0


def with_hooks(scenario: Callable[[Hooks], Awaitable[T]], threads: int = 2) -> T:
    """Play `scenario` on a loop with hooks; no thread may be left. Log lines show frames from /model/ on."""
    before = set(threading.enumerate())
    loop = uvloop.new_event_loop()
    hooks = Hooks("fastserve-hook", threads, loop, Completions(loop), "/model")

    async def play() -> T:
        return await asyncio.wait_for(scenario(hooks), PATIENCE_S)

    try:
        return loop.run_until_complete(play())
    finally:
        has_ended = hooks.stop()
        loop.close()
        assert has_ended
        assert set(threading.enumerate()) <= before
