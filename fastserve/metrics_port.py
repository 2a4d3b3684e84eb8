"""The metrics page and the probes at a port of their own, so that the public one need not show the page.

What is answered there is `endpoints/router.py`'s. Made by `server.py`, if --metrics-port is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from fastserve.config import Config
from fastserve.http11.acceptor import Acceptor, make_room, open_sockets, url_of
from fastserve.http11.connection import Connection
from fastserve.http11.listener import Listener
from fastserve.messages import Head, Route
from fastserve.metrics import Metrics

# A few Prometheus keep a connection each, a kubelet makes one for each probe: room for ten times as many, beside all
# the clients that there may be.
CONNECTIONS: Final = 64
# What is being answered when the server ends has this long: as long as a scrape takes on a busy machine.
CLOSE_S: Final = 1.0


class MetricsPort:
    """Another listener on the same host.

    Without keys, TLS or a limit for each client: it is there for those inside, a kubelet and a Prometheus, which have
    no key, know the server by an address that no certificate names, and may all come from one. Who it is not for must
    not reach it, which is the network's to see to. Its timeouts are the server's.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, config: Config, find: Callable[[Head], Route], metrics: Metrics
    ) -> None:
        self._config = config
        self._opened: list[socket.socket] = []
        self.listener = Listener(loop, config, find, metrics)

    def open(self) -> None:
        """Listen. Raises SetupError if the address cannot be had."""
        make_room(self._config.max_connections + CONNECTIONS)  # in descriptors, before either port counts them
        self._opened = open_sockets(self._config.host, self._config.metrics_port, "--metrics-port")

    async def start(self) -> list[str]:
        """Accept. Returns where, for people."""
        listener = self.listener
        self._acceptor = listener.acceptor = Acceptor(
            listener.loop, self._opened, lambda: Connection(listener), CONNECTIONS, limit="the metrics port"
        )
        await self._acceptor.start()
        return [url_of(listening) for listening in self._opened]

    async def close(self) -> None:
        """Give the address back, when all else is over: scrapes are to see a drain to its end."""
        await self._acceptor.drain()
        self.listener.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.listener.wait_closed(), CLOSE_S)
        self.listener.abort()
