"""Plays a scenario: a connection on a transport that behaves as uvloop's, its peer, and the route behind it.

What came of it is an Outcome, for `judge.py`. One World serves one scenario after the other, as a server its peers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, Final, cast

from fastserve.config import Config
from fastserve.http11.connection import READ_OFF_BYTES
from fastserve.http11.listener import Listener
from fastserve.messages import Head, Request, Response, Route
from tests.fuzz.answering import CUTTING, UNSIZED, Answer, choose, echo_of, send_whole
from tests.fuzz.grammar import REFUSED
from tests.fuzz.scenario import LATER, Ending, Scenario
from tests.fuzz.watching import Complaints, Outcome, Patience, Seen, ViolationError, WatchedConnection, Wire
from tests.support.fakes import FakeLoop

PROBE: Final = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n"
PROBE_TARGET: Final = b"/probe"

# Longer than every timeout there is by default, in one tick of the sweep.
LONG_S: Final = 400.0
# Ticks of half a second between reads: fewer than reach the shortest timeout, so that the outcome stays the same.
MAX_TICKS: Final = 2
# Turns of the loop until a connection has nothing left to do; with 400 pipelined requests it takes some hundreds.
MAX_TURNS: Final = 20_000

# What the bits of a tempo's byte mean, each before one read.
STALL: Final = 1  # the peer reads nothing until further notice
NO_TURN: Final = 2  # the loop does not get to what was called soon
TICK: Final = 4  # half a second passes
STEPS: Final = 8  # so many steps are made of the answer that is being given: the bits from here on

TIGHT: Final = Config(
    max_request_line_bytes=64,
    max_header_bytes=256,
    max_header_fields=6,
    max_content_bytes=64,
    keep_alive_timeout_s=5.0,
)


class World:
    """One listener, and a loop and a clock that it lives by. To be closed."""

    def __init__(self, connection: type[WatchedConnection] = WatchedConnection) -> None:
        self.loop = FakeLoop()
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.listeners = [Listener(loop, config, self._route) for config in (Config(), TIGHT)]
        self._connection = connection
        self._answered, self._refused = Route(self._on_request), Route(self._on_request, is_refusal=True)
        self._logged = Complaints()
        logging.getLogger("fastserve").addHandler(self._logged)
        self.line: Line

    def close(self) -> None:
        logging.getLogger("fastserve").removeHandler(self._logged)

    def _route(self, head: Head) -> Route:
        return self._refused if head.path.startswith(REFUSED) else self._answered

    def _on_request(self, request: Request) -> None:
        self.line.on_request(request)

    def play(self, scenario: Scenario) -> Outcome:
        """Raises ViolationError, or whatever reaches the loop's exception handler."""
        listener = self.listeners[scenario.is_tight]
        listener.deadlines.tick(self.loop.now)  # the other listener may have been in use
        self.line = line = Line(self.loop, listener, scenario, self._connection)
        try:
            outcome = line.play()
        finally:
            listener.is_draining = False
            self._logged.lines, complaints = [], self._logged.lines
        if listener.connections:
            listener.connections.clear()
            raise ViolationError("a connection that is lost is still known to the listener")
        outcome.complaints.extend(complaints)
        return outcome


class Line:
    """One connection and its peer."""

    def __init__(
        self, loop: FakeLoop, listener: Listener, scenario: Scenario, connection: type[WatchedConnection]
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._scenario = scenario
        self._complaints: list[str] = []
        self._wire = Wire(loop)
        self._wire.on_resume = lambda: loop.call_soon(self._deliver)
        self._held = b""  # sent, and not received
        self._has_ended = False  # the peer sends no more; told once all that is held has been received
        self._is_told = False
        self._seen: list[Seen] = []
        self._pending: Iterator[None] | None = None  # an answer that is being given
        self._patience = Patience()
        self._is_timing_free = True
        self._ticks = 0
        self._wire.protocol = self._connection = connection(listener, self._complaints)
        self._connection.connection_made(cast(asyncio.Transport, self._wire))

    # --- the route ---

    def on_request(self, request: Request) -> None:
        if self._pending is not None:
            raise ViolationError("a request was given to its route before the one before it was answered")
        head = request.head
        manners = self._scenario.manners or b"\0"
        manner = manners[len(self._seen) % len(manners)]
        answer = choose(manner, head.method)
        if head.path.startswith(REFUSED):
            self._saw(request, 404, send_whole)
            self._is_timing_free &= not head.expects_continue and 0 <= head.content_length <= READ_OFF_BYTES
            request.connection.send_response(request, Response((404, b""), b"no"))
            return
        self._saw(request, 200, answer)
        steps = answer(request, echo_of(request))
        if not manner & LATER:
            for _ in range(8):  # as many as there are; one that waits for a peer that does not read goes on later
                if next(steps, "over") == "over":
                    return
        request.work = self._patience = Patience()
        self._pending = steps

    def _saw(self, request: Request, status: int, answer: Answer) -> None:
        head = request.head
        is_cut = answer in CUTTING
        closes = is_cut or (head.is_http10 and answer in UNSIZED)
        seen = Seen(head.method, head.target, request.content, status, head.is_http10, is_cut, closes)
        self._seen.append(seen)

    def _step(self) -> bool:
        """Go on with the answer. Returns whether there is one."""
        steps, self._pending = self._pending, None
        if steps is None:
            return False
        # The end of one answer lets the next request in, and what is pending then is the answer to that.
        if not self._patience.disconnects and next(steps, "over") != "over":
            self._pending = steps
        return True

    # --- the peer ---

    def play(self) -> Outcome:
        tempo = self._scenario.tempo
        for number, piece in enumerate(self._scenario.pieces):
            if tempo:
                self._pass(tempo[number % len(tempo)])
            self._send(piece)
        self._end()
        self._settle()
        is_open, written = self._is_open, len(self._wire.sent)
        if self._scenario.ending is Ending.PROBE:
            self._send(PROBE)
            self._settle()
        elif self._is_told and not self._wire.is_lost:
            raise ViolationError("a peer that has said all, and has had its answers, is kept")
        self._wait_for_end()
        if not is_open and len(self._wire.sent) > written:
            raise ViolationError("something was answered after the end")
        return Outcome(self._seen, self._wire.sent, is_open, self._is_timing_free, self._complaints)

    def _end(self) -> None:
        ending = self._scenario.ending
        if ending is Ending.HALF_CLOSE:
            self._has_ended = True
        elif ending is Ending.RESET:
            self._wire.lose(ConnectionResetError())
        elif ending is Ending.DRAIN:
            self._listener.drain()

    @property
    def _is_open(self) -> bool:
        return not (self._wire.is_closing_now or self._wire.has_sent_eof)

    def _pass(self, tempo: int) -> None:
        if tempo & STALL:
            self._wire.is_stalled = True
        else:
            self._read_all()
        if not tempo & NO_TURN:
            self._loop.run_ready()
        if tempo & TICK and self._ticks < MAX_TICKS:
            self._ticks += 1
            self._tick(0.5)
        for _ in range(tempo // STEPS % 4):
            self._step()

    def _read_all(self) -> None:
        self._wire.is_stalled = False
        if self._wire.unsent and not self._wire.is_lost:
            self._wire.read_all()

    def _tick(self, seconds: float) -> None:
        self._loop.now += seconds
        self._listener.deadlines.tick(self._loop.now)

    def _send(self, piece: bytes) -> None:
        self._held += piece
        self._deliver()

    def _deliver(self) -> None:
        wire = self._wire
        while self._held and wire.is_reading and not wire.is_closing_now:
            protocol: Any = wire.protocol
            if protocol is self._connection:
                piece, self._held = self._held, b""
                protocol.data_received(piece)
                continue
            view = protocol.get_buffer(-1)
            size = min(len(view), len(self._held))
            view[:size] = self._held[:size]
            view.release()
            self._held = self._held[size:]
            protocol.buffer_updated(size)
        if self._has_ended and not self._is_told and wire.is_reading and not wire.is_closing_now:
            self._is_told = True
            if not wire.protocol.eof_received():
                wire.close()

    def _settle(self) -> None:
        """Until nothing happens any more by itself, with a peer that reads."""
        for _ in range(MAX_TURNS):
            self._read_all()
            self._deliver()
            if not self._loop.run_ready() and not self._step():
                return
        raise ViolationError("it does not come to rest")

    def _wait_for_end(self) -> None:
        """Time passes, and the peer does nothing. Raises ViolationError if that does not end the connection."""
        for _ in range(4):
            if self._wire.is_lost:
                break
            self._tick(LONG_S)
            self._settle()
        else:
            raise ViolationError("a silent peer is kept for ever")
        self._settle()
        if self._pending is not None:
            raise ViolationError("who works for a request was not told that its peer has gone")
