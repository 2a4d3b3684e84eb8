"""One attack on a running server with a client beside it that behaves, and what the test of it asserts in the end.

Timings are bounded generously here, since other processes may have the cores; bench/load/hostile.py measures them.
Used by tests/server/test_starvation.py and test_floods.py.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from tests.support.crowd import crowd_at
from tests.support.footprint import KEPT_KB, Footprint, footprint_of, reset_peak, settled
from tests.support.neighbour import Neighbour, neighbour_of
from tests.support.process import Server, serving
from tests.support.starvation import FLAGS, MODEL, Attack

# An answer takes 0.2 ms alone, and 4 ms when another process has the core.
WORST_S: Final = 2.0
# Whoever comes in a storm of connections has thousands before him.
NEWCOMER_S: Final = 10.0
# Beyond what the attacks may take by right: the largest is 300 answers of 400 kB that nobody reads.
PEAK_KB: Final = 200 * 1024


class Siege:
    """A server, and the client beside the attacks."""

    def __init__(self, server: Server, neighbour: Neighbour) -> None:
        self.server = server
        self._neighbour = neighbour

    def endure(self, attack: Attack, *, idles: bool) -> None:
        """Play `attack` and see that nobody else notices, and nothing is left of it.

        idles: the attack mostly waits, so that the server must too.
        """
        pid = self.server.process.pid
        self._neighbour.report()
        reset_peak(pid)
        before, began = footprint_of(pid), time.monotonic()
        with crowd_at(self.server.port) as crowd:
            attack(crowd)
            after = settled(pid, before)  # while the clients are still there: some must be got rid of
        lasted = time.monotonic() - began
        self._check_neighbour()
        _check_footprint(before, after)
        if idles:
            # Some attacks last 0.1 s, which is ten ticks of the CPU clock, and make work for most of it.
            assert after.cpu_s - before.cpu_s < 0.9 * lasted + 0.05, "it spins"
        assert "Traceback" not in self.server.read_log()
        assert self.server.predict({"wish": "open streams"}) == 0

    def _check_neighbour(self) -> None:
        report = self._neighbour.report()
        assert report.mistakes == []
        assert report.answers > 0
        assert report.worst_s < WORST_S
        assert report.newcomer_s < NEWCOMER_S


def _check_footprint(before: Footprint, after: Footprint) -> None:
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads
    assert after.peak_kb - before.memory_kb < PEAK_KB
    assert after.memory_kb - before.memory_kb < KEPT_KB


@contextlib.contextmanager
def siege() -> Iterator[Siege]:
    """A server for attacks, already warm, with a client beside them."""
    with serving(MODEL, *FLAGS) as server, neighbour_of(server.port) as neighbour:
        server.predict({"wish": "open streams"})
        yield Siege(server, neighbour)
        assert server.stop() == 0
