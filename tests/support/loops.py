"""A uvloop for the length of one scene: what the server runs on, and never for longer than PATIENCE_S."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import uvloop

T = TypeVar("T")
PATIENCE_S: Final = 20.0


def run(main: Coroutine[Any, Any, T]) -> T:
    """What `main` returns. Raises TimeoutError if it takes longer than PATIENCE_S."""
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(main, PATIENCE_S))
    finally:
        loop.close()
