"""A connection without a socket: a transport that records, a loop with a hand-wound clock, a route that collects."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from fastserve.config import Config
from fastserve.http11.connection import Connection
from fastserve.http11.listener import Listener
from fastserve.messages import Head, Request, Response, Route

HIGH_WATER = 64 * 1024


class FakeTransport:
    """Records what a connection does. With `is_stalled` the peer reads nothing: what is written stays unsent."""

    def __init__(self) -> None:
        self.sent = b""
        self.unsent = 0
        self.is_stalled = False
        self.is_reading = True
        self.is_closing_now = False
        self.is_aborted = False
        self.has_sent_eof = False
        self.protocol: Any = None
        self.on_resume: Callable[[], None] = lambda: None

    def write(self, piece: bytes | memoryview) -> None:
        assert not self.has_sent_eof, "written after the end"
        if self.is_closing_now:
            return
        self.sent += piece
        if self.is_stalled:
            was_under = self.unsent <= HIGH_WATER
            self.unsent += len(piece)
            if was_under and self.unsent > HIGH_WATER:
                self.protocol.pause_writing()

    def read_all(self) -> None:
        """The peer reads everything."""
        was_over = self.unsent > HIGH_WATER
        self.unsent = 0
        if was_over:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True
        self.on_resume()

    def set_protocol(self, protocol: Any) -> None:
        assert not self.is_reading, "uvloop picks its callbacks when reading starts"
        self.protocol = protocol

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_sent_eof = True

    def is_closing(self) -> bool:
        return self.is_closing_now

    def close(self) -> None:
        self.is_closing_now = True

    def abort(self) -> None:
        self.is_closing_now = self.is_aborted = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return None


class FakeLoop:
    """`call_soon` and a clock that moves only by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., Any], *arguments: Any) -> None:
        self._ready.append((callback, arguments))

    def run_ready(self) -> int:
        """Run what is ready, and what becomes so. Returns how many callbacks ran."""
        count = 0
        while self._ready:
            callback, arguments = self._ready.popleft()
            callback(*arguments)
            count += 1
        return count


class Peer:
    """One end of a connection, with the server's side behind it.

    requests: what the route was given, in order. With `answers_at_once` each gets its path and content back as a 200.
    refused: paths whose route is a refusal with 404. quiet: paths of probes.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        answers_at_once: bool = True,
        refused: tuple[bytes, ...] = (),
        quiet: tuple[bytes, ...] = (),
        connection: type[Connection] = Connection,
    ) -> None:
        self.loop = FakeLoop()
        self.transport = FakeTransport()
        self.transport.on_resume = lambda: self.loop.call_soon(self._deliver)
        self._held = b""  # sent, and not read by the server
        self.requests: list[Request] = []
        self.answers_at_once = answers_at_once
        self._refused = refused
        self._quiet = quiet
        self.listener = Listener(cast(asyncio.AbstractEventLoop, self.loop), config or Config(), self._route)
        self.listener.encoder.refresh(0.0)  # the Date of two peers compared must be the same
        self.connection = connection(self.listener)
        self.transport.protocol = self.connection
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def _route(self, head: Head) -> Route:
        if head.path in self._refused:
            return Route(lambda r: r.connection.send_response(r, Response((404, b""), b"no")), is_refusal=True)
        return Route(self._answer, is_quiet=head.path in self._quiet)

    def _answer(self, request: Request) -> None:
        self.requests.append(request)
        if self.answers_at_once:
            self.answer(request)

    def answer(self, request: Request) -> None:
        request.connection.send_response(request, Response((200, b""), request.head.path + b" " + request.content))

    def send(self, *pieces: bytes) -> bytes:
        """Send in one read each; held back while the server does not read. Returns all that was answered."""
        for piece in pieces:
            self._held += piece
            self._deliver()
            self.loop.run_ready()
        return self.transport.sent

    def _deliver(self) -> None:
        while self._held and self.transport.is_reading and not self.transport.is_closing_now:
            protocol = self.transport.protocol
            if not hasattr(protocol, "get_buffer"):
                piece, self._held = self._held, b""
                protocol.data_received(piece)
                continue
            view = protocol.get_buffer(-1)
            taken = min(len(view), len(self._held))
            view[:taken] = self._held[:taken]
            self._held = self._held[taken:]
            protocol.buffer_updated(taken)
            view.release()

    def end(self) -> None:
        """Half-close: the peer sends no more."""
        self.transport.protocol.eof_received()
        self.loop.run_ready()

    def leave(self) -> None:
        self.transport.protocol.connection_lost(None)

    def advance(self, seconds: float) -> None:
        """Let time pass, with a tick each half second as the server has."""
        ends = self.loop.now + seconds
        while self.loop.now < ends:
            self.loop.now = min(ends, self.loop.now + 0.5)
            self.listener.deadlines.tick(self.loop.now)
            self.loop.run_ready()

    @property
    def is_closed(self) -> bool:
        """Our side is done: closed, or shut down and lingering."""
        return self.transport.is_closing_now or self.transport.has_sent_eof
