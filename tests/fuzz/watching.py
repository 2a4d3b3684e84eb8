"""What is put around a connection to see all that it does: its phases, its transport, its log, who works for it.

And what was seen, as plain values. The playing is `play.py`'s, the rules are `judge.py`'s. Used by both.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from fastserve.http11.connection import Connection
from fastserve.http11.listener import Listener
from fastserve.http11.phase import MOVES, Phase
from tests.support.fakes import FakeLoop, FakeTransport


class ViolationError(AssertionError):
    """fastserve did what it must never do."""


class Seen(NamedTuple):
    """A request as the route saw it. is_cut: its answer ends in the middle, or is none. closes: with its answer."""

    method: bytes
    target: bytes
    content: bytes
    status: int
    is_http10: bool
    is_cut: bool
    closes: bool


class Outcome(NamedTuple):
    """seen, sent: all of it, the probe and its answer included.

    is_open: before the probe, and before time passed, our side of the connection was open.
    is_timing_free: nothing in it depends on when the bytes came.
    complaints: what was logged, and moves that are not in the table.
    """

    seen: list[Seen]
    sent: bytes
    is_open: bool
    is_timing_free: bool
    complaints: list[str]


class WatchedConnection(Connection):
    """Tells of moves that are not in the table, by itself: `assert` may be off, or change."""

    __slots__ = ("_watched_phase", "complaints")

    _watched_phase: Phase

    def __init__(self, listener: Listener, complaints: list[str]) -> None:
        self.complaints = complaints
        super().__init__(listener)

    @property
    def _phase(self) -> Phase:
        return self._watched_phase

    @_phase.setter
    def _phase(self, phase: Phase) -> None:
        before = getattr(self, "_watched_phase", None)
        if before is not None and phase not in MOVES[before]:
            self.complaints.append(f"{before.name} -> {phase.name}")
        self._watched_phase = phase


class Wire(FakeTransport):
    """Ends as uvloop's does: in a later turn of the loop, once what is written has been read by the peer."""

    def __init__(self, loop: FakeLoop) -> None:
        super().__init__()
        self._loop = loop
        self.is_lost = False

    def close(self) -> None:
        super().close()
        if not self.unsent:
            self._loop.call_soon(self.lose, None)

    def abort(self) -> None:
        super().abort()
        self._loop.call_soon(self.lose, None)

    def read_all(self) -> None:
        super().read_all()
        if self.is_closing_now:
            self._loop.call_soon(self.lose, None)

    def lose(self, error: Exception | None) -> None:
        if not self.is_lost:
            self.is_lost = self.is_closing_now = True
            self.protocol.connection_lost(error)


class Patience:
    """messages.Work of a request that is answered later."""

    def __init__(self) -> None:
        self.disconnects = 0

    def on_disconnect(self) -> None:
        self.disconnects += 1

    def on_writable(self) -> None: ...

    def on_tick(self, elapsed_s: float) -> None: ...


class Complaints(logging.Handler):
    """Whatever is logged: nothing that a peer does is worth a line, and a bug of ours is one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
