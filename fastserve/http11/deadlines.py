"""Header, content, keep-alive, stall and linger timeouts: one sweep for all connections.

A coarse clock that ticks, and the set of connections that it asks. What is due is each connection's own to say.
`server.py` calls `tick`; connections read `now`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from typing import Final, Protocol

from fastserve.turns import TURN_S, Turns

_logger: Final = logging.getLogger("fastserve.http11")

# Timeouts are seconds long; a deadline is met within this. `Date` needs one tick a second at least.
TICK_S: Final = 0.5
# Asked together, however long it takes: 475 requests that expired in one sweep, under ten times the load that a model
# can bear, held the loop for 15 ms, and 10,000 idle connections do for 10.
LEAST_IN_TURN: Final = 16


class Watched(Protocol):
    """A connection, as the sweep sees it."""

    def check_deadline(self, now: float) -> None:
        """Close or refuse if the deadline of the present phase has passed at `now`."""
        ...


class Deadlines:
    """now: seconds on the loop's clock as of the last tick. Reading an attribute replaces a system call."""

    __slots__ = ("_left", "_turns", "_watched", "now")

    def __init__(self, now: float, watched: Collection[Watched], turns: Turns) -> None:
        """watched: every connection there is. turns: for sweeps that take long."""
        self.now = now
        self._watched = watched
        self._turns = turns
        self._left: Iterator[Watched] | None = None  # those that the sweep has not come to

    def tick(self, now: float) -> None:
        """Set the clock and ask every connection, many of them in later turns of the loop."""
        self.now = now
        if self._left is None:  # else the sweep before is not over
            self._left = iter(tuple(self._watched))
            self._go_on()

    def _go_on(self) -> None:
        assert self._left is not None
        ends = time.monotonic() + TURN_S
        for number, connection in enumerate(self._left, 1):
            if connection in self._watched:  # not closed meanwhile
                self._check(connection)
            if number >= LEAST_IN_TURN and time.monotonic() > ends:
                self._turns.put(self._go_on)
                return
        self._left = None

    def _check(self, connection: Watched) -> None:
        try:
            connection.check_deadline(self.now)
        except Exception:  # the others' deadlines must still be met
            _logger.exception("a deadline could not be checked; this is a bug of fastserve")
