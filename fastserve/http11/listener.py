"""What all connections of one server share: configuration, the route finder, clock and encoder; and their number.

Knows connections by three calls. Made by `server.py`, which drains and aborts through it; `connection.py` reads it.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from typing import Protocol

from fastserve.config import Config
from fastserve.http11.acceptor import Acceptor
from fastserve.http11.deadlines import Deadlines, Watched
from fastserve.http11.encoder import Encoder
from fastserve.messages import MEANINGFUL, Head, Route
from fastserve.metrics import Metrics
from fastserve.turns import Turns


class OpenConnection(Watched, Protocol):
    """A connection, as the listener sees it."""

    def close_after_response(self) -> None:
        """Make the present response, or the next, the last."""
        ...

    def close_if_idle(self) -> None:
        """Close between exchanges; else make the present response the last."""
        ...

    def close_now(self) -> None:
        """Drop everything, what is written and not sent included."""
        ...

    def reroute(self) -> None:
        """The same head may have another route from now on."""
        ...


class Listener:
    """What all connections of one server share.

    route: finds what answers a head; called once for each head that is parsed, and again by `reroute`.
    is_leaving: the server is about to stop: every response closes its connection.
    is_draining: it is stopping: idle connections are closed, too.
    acceptor: told of each connection that comes or goes; None before there is one.
    context: that of no request.
    metrics: of the server. unrouted: where the answers are counted of what is no request.
    meaningful: names of the fields whose values `route` or the parser looks at, but for Content-Length.
    refusal_fields: header field lines for answers to what cannot be read as a request.
    turns: for connections that have more to do than others should wait for.
    """

    __slots__ = (
        "_emptied",
        "acceptor",
        "config",
        "connections",
        "context",
        "deadlines",
        "encoder",
        "is_draining",
        "is_leaving",
        "loop",
        "meaningful",
        "metrics",
        "refusal_fields",
        "route",
        "turns",
        "unrouted",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        route: Callable[[Head], Route],
        metrics: Metrics | None = None,
    ) -> None:
        self.loop = loop
        self.config = config
        self.route = route
        self.metrics = Metrics() if metrics is None else metrics
        self.unrouted = self.metrics.endpoint("none")
        self.encoder = Encoder()
        self.connections: set[OpenConnection] = set()
        self.turns = Turns(loop)
        self.deadlines = Deadlines(loop.time(), self.connections, self.turns)
        self.acceptor: Acceptor | None = None
        self.is_leaving = self.is_draining = False
        self.context = contextvars.copy_context()
        self.meaningful: frozenset[bytes] = MEANINGFUL
        self.refusal_fields = b""
        self._emptied: asyncio.Future[None] | None = None

    def tick(self) -> None:
        """Every TICK_S."""
        self.encoder.refresh(time.time())
        self.deadlines.tick(self.loop.time())
        if self.acceptor is not None:
            self.acceptor.check_room()

    def enter(self, connection: OpenConnection, transport: asyncio.BaseTransport) -> None:
        """`connection` has been made."""
        self.connections.add(connection)
        if self.acceptor is not None:
            self.acceptor.on_connection(len(self.connections), transport)

    def leave(self) -> None:
        """Close every connection with its next response, so that its peer turns to another server by itself."""
        self.is_leaving = True
        for connection in tuple(self.connections):
            connection.close_after_response()

    def hand_over(self, connection: OpenConnection, successor: OpenConnection) -> None:
        """`successor` goes on with the transport of `connection` and enters next: it is one connection still."""
        self.connections.discard(connection)

    def drain(self) -> None:
        """Close idle connections now, and every other one with its present response."""
        self.is_draining = True
        for connection in tuple(self.connections):
            connection.close_if_idle()

    async def wait_closed(self) -> None:
        """Until no connection is left."""
        while self.connections:
            self._emptied = self.loop.create_future()
            await self._emptied

    def forget(self, connection: OpenConnection) -> None:
        """`connection` is lost."""
        self.connections.discard(connection)
        if self.acceptor is not None:
            self.acceptor.on_lost(len(self.connections))
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def reroute(self) -> None:
        """What answers a head, or the configuration, has changed: the model was loaded, say, or loaded anew."""
        for connection in tuple(self.connections):
            connection.reroute()

    def abort(self) -> None:
        """End every connection at once, whatever is in flight."""
        for connection in tuple(self.connections):
            connection.close_now()
