"""How the model is beyond being loaded: stuck, out of memory again and again, its threads alive.

Looked after once every tick, never for a request. Owned by `runtime.py`; `server.py` calls it and turns readiness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fastserve.config import Config
from fastserve.model.memory import Shortage
from fastserve.model.threads import Workers
from fastserve.model.watchdog import Watchdog


class Condition:
    """shortage: of memory. watchdog: None unless it was asked for.

    is_good: requests are wanted here. must_end: a new process is wanted instead.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        directory: str,
        pools: Callable[[], Sequence[Workers]],
    ) -> None:
        """directory: the model's. pools: the threads that run what requests ask for, as of now."""
        self._ends_for_want_of_memory = config.exit_on_oom
        self._pools = pools
        self.shortage = Shortage(config.oom_limit)
        self.watchdog: Watchdog | None = None
        if config.predict_watchdog_s:
            from fastserve.model.running import find_runs

            self.watchdog = Watchdog(config.predict_watchdog_s, directory, lambda: find_runs(loop, pools()))
        self.is_good = True

    def tick(self, now: float) -> None:
        """Look again. now: monotonic."""
        for pool in self._pools():
            pool.replace_ended()
        if self.watchdog is not None:
            self.watchdog.look(now)
        is_stuck = self.watchdog is not None and self.watchdog.is_stuck
        self.is_good = not is_stuck and not self.shortage.keeps_from_ready(now)

    @property
    def must_end(self) -> bool:
        return self._ends_for_want_of_memory and self.shortage.is_too_long
