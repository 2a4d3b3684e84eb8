"""A limit to the connections of one client, by its address: further ones are closed before a byte is read.

Instead of a Listener for who sets --max-connections-per-client. Made by `entrance.py`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, cast

from fastserve.config import Config
from fastserve.http11.listener import Listener, OpenConnection
from fastserve.messages import Head, Route
from fastserve.metrics import Metrics

# What connections over the limit are counted as.
CLIENT_LIMIT: Final = "client_limit"

_logger: Final = logging.getLogger("fastserve.http11")


class LimitedListener(Listener):
    """Listener, with a count for each client. Clients of a Unix socket have no address and are not counted.

    Closed, not answered with 429: over TLS that would take the handshake first, the most expensive of all there is.
    """

    __slots__ = ("_clients", "_counts", "_has_told")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        route: Callable[[Head], Route],
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(loop, config, route, metrics)
        self._clients: dict[OpenConnection, bytes] = {}
        self._counts: dict[bytes, int] = {}  # no zeros: clients that are gone are forgotten
        self._has_told = False
        self.metrics.rejected[CLIENT_LIMIT] += 0  # there from the start

    def enter(self, connection: OpenConnection, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        # A Unix socket's is no pair. One that is counted has taken the place of another.
        if isinstance(peer, tuple) and connection not in self._clients and not self._count(connection, peer[0]):
            self._refuse(cast(asyncio.Transport, transport), peer[0])
            return
        super().enter(connection, transport)

    def hand_over(self, connection: OpenConnection, successor: OpenConnection) -> None:
        super().hand_over(connection, successor)
        client = self._clients.pop(connection, None)
        if client is not None:
            self._clients[successor] = client

    def forget(self, connection: OpenConnection) -> None:
        client = self._clients.pop(connection, None)
        if client is not None:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]
        super().forget(connection)

    def _count(self, connection: OpenConnection, host: str) -> bool:
        """Returns False, and counts nothing, if the client has as many as it may."""
        client = client_of(host)
        count = self._counts.get(client, 0)
        if count >= self.config.max_connections_per_client:
            return False
        self._counts[client] = count + 1
        self._clients[connection] = client
        return True

    def _refuse(self, transport: asyncio.Transport, host: str) -> None:
        self.metrics.rejected[CLIENT_LIMIT] += 1
        if not self._has_told:  # once: it may happen many times a second
            self._has_told = True
            _logger.warning(
                "%s has %d connections, as many as --max-connections-per-client allows: further ones are closed",
                host,
                self.config.max_connections_per_client,
            )
        transport.abort()


def client_of(host: str) -> bytes:
    """What a client is counted by: its IPv4 address, or the first half of its IPv6 address.

    The second half is for the client itself to choose (RFC 4291 section 2.5.4).
    """
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]
    return socket.inet_pton(socket.AF_INET, host)
