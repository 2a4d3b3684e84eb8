"""The listening sockets: connections are accepted while there is room for them, in number and in file descriptors.

Without room they wait in the kernel's backlog, and nothing is dropped. Made by `server.py`; told by the listener how
many connections there are.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fastserve.errors import SetupError
from fastserve.metrics import Metrics
from fastserve.options import KIB

# uvicorn's and Truss's: a burst of new connections waits in the kernel instead of being refused.
BACKLOG: Final = 2048
# What the kernel takes of a connection's answers before it can send them; connections inherit it. Without it that is
# up to 4 MB each (tcp_wmem), which hundreds of clients that do not read fill with what models go on to make for them,
# and the stall timeout does not run meanwhile. The transport's own buffer goes on where this ends.
UNSENT_BYTES: Final = 128 * KIB
# Descriptors that connections never take: what the model and its libraries open at work (weights, pipes, clients of
# their own), and what the server needs to reset a connection. Half of them if there are few.
SPARE_DESCRIPTORS: Final = 64

DESCRIPTORS_SHORT: Final = "file descriptors are nearly used up (ulimit -n)"

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h, not in Python's socket; takes a struct sock_fprog
# One struct sock_filter: BPF_RET, 0 bytes of the packet are taken. An array, because it says where it lies.
_DROP_ALL: Final = array.array("B", struct.pack("HBBI", 6, 0, 0, 0))

_logger: Final = logging.getLogger("fastserve.http11")


class Acceptor:
    """Accepts connections on listening sockets.

    is_accepting: False while there is no room, and before `start`.
    """

    __slots__ = (
        "_capacity",
        "_count",
        "_has_told",
        "_highest_fd",
        "_is_closed",
        "_limit",
        "_listening",
        "_loop",
        "_make_connection",
        "_metrics",
        "_resuming",
        "_servers",
        "is_accepting",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: Sequence[socket.socket],
        make_connection: Callable[[], asyncio.Protocol],
        capacity: int,
        metrics: Metrics | None = None,
        limit: str = "--max-connections",
    ) -> None:
        """capacity: how many connections there may be, if the descriptors suffice. limit: what says so, in words."""
        self._loop = loop
        self._listening = listening
        self._make_connection = make_connection
        self._capacity = capacity
        self._highest_fd = make_room(capacity)
        self._metrics = Metrics() if metrics is None else metrics
        self._limit = limit
        self._servers: list[asyncio.AbstractServer] = []
        self._resuming: asyncio.Task[None] | None = None  # held: the loop holds its tasks only weakly
        self._count = 0
        self._has_told = False
        self._is_closed = False
        self.is_accepting = False

    async def start(self) -> None:
        """Accept, until there is no room. Raises OSError if there is none even for that."""
        self.is_accepting = True
        for listening in self._listening:
            duplicate = listening.dup()  # when there is no room uvloop's server is closed, and its socket with it
            is_unix = duplicate.family is socket.AF_UNIX
            create = self._loop.create_unix_server if is_unix else self._loop.create_server
            server = await create(self._make_connection, sock=duplicate, backlog=BACKLOG)
            if not self.is_accepting:  # the one before has filled it
                server.close()
                return
            self._servers.append(server)

    def on_connection(self, count: int, transport: asyncio.BaseTransport) -> None:
        """One has been accepted, and now there are `count`."""
        self._count = count
        if count >= self._capacity:
            self._pause("max_connections", f"{count} connections, as many as {self._limit} allows")
        elif descriptor_of(transport) >= self._highest_fd:
            self._pause("descriptors", DESCRIPTORS_SHORT)

    def on_lost(self, count: int) -> None:
        """A connection has gone, and `count` are left."""
        self._count = count
        # Not at each one, since to pause and resume costs as much as a few connections.
        if not self.is_accepting and count < self._capacity - self._capacity // 100:
            self.check_room()

    def check_room(self) -> None:
        """Accept, or not. Also called once in a while by `server.py`, since descriptors are not only ours."""
        has_descriptor = self._has_descriptor()
        if self.is_accepting:
            if not has_descriptor:
                self._pause("descriptors", DESCRIPTORS_SHORT)
        elif has_descriptor and self._count < self._capacity and not self._is_closed:
            self.is_accepting = True
            self._resuming = self._loop.create_task(self._restart())

    async def _restart(self) -> None:
        if self._servers or not self.is_accepting:  # another restart came first, or there is no room any more
            return
        try:
            await self.start()
        except OSError:  # another thread has taken the last descriptor
            self._stop()

    async def drain(self) -> None:
        """Close, once the connections that wait already have been made: the close would reset them."""
        has_room = self.is_accepting
        self._is_closed = True
        self._stop()  # from here on nobody but us accepts on the sockets, which go on listening
        for listening in self._listening:
            hold_newcomers(listening)
        waiting = [one for listening in self._listening for one in accept_waiting(listening)] if has_room else []
        self.close()
        making = [self._loop.connect_accepted_socket(self._make_connection, sock=one) for one in waiting]
        await asyncio.gather(*making, return_exceptions=True)  # one whose peer has gone meanwhile is no loss

    def close(self) -> None:
        """Accept no more, and give the address back."""
        self._is_closed = True
        self._stop()
        for listening in self._listening:
            listening.close()

    def _pause(self, reason: str, why: str) -> None:
        """reason: in one word, as it is counted. why: for the log."""
        if not self.is_accepting:
            return
        self._metrics.paused[reason] += 1
        if not self._has_told:  # once: it may come and go many times a second
            self._has_told = True
            _logger.warning("%s: further ones wait until there is room", why)
        self._stop()

    def _stop(self) -> None:
        self.is_accepting = False
        for server in self._servers:
            server.close()
        self._servers.clear()

    def _has_descriptor(self) -> bool:
        """The kernel gives the lowest number that is free, so all below are in use, by whomever."""
        try:
            probe = os.dup(self._listening[0].fileno())
        except OSError:
            return False
        os.close(probe)
        return probe < self._highest_fd


def hold_newcomers(listening: socket.socket) -> None:
    """Have the kernel drop what asks for a connection, and with it the moment between the last accept and the close.

    Who asks in that moment asks again a second later (RFC 6298 section 2.1), and is refused before it has sent
    anything: a proxy then turns to another server, which it may not do with a request that was lost in a reset.
    """
    address, _ = _DROP_ALL.buffer_info()
    with contextlib.suppress(OSError):  # a kernel that will not: the moment is short
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, address))


def accept_waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """Every connection that waits to be accepted, as far as descriptors go; no more than can wait at a time."""
    listening.setblocking(False)
    with contextlib.suppress(OSError):  # BlockingIOError: no more waits
        for _ in range(BACKLOG):
            accepted, _ = listening.accept()
            accepted.setblocking(False)
            yield accepted


def descriptor_of(transport: asyncio.BaseTransport) -> int:
    tcp = transport.get_extra_info("socket")
    return -1 if tcp is None else tcp.fileno()


def make_room(capacity: int) -> int:
    """Raise the soft limit of descriptors (RLIMIT_NOFILE) for `capacity` connections as far as the hard one allows.

    Go does so for every program. Returns the descriptor from which on there is no room for a connection.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = capacity + 2 * SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return 1 << 31
    return soft - min(SPARE_DESCRIPTORS, soft // 2)


def open_sockets(host: str, port: int, flag: str = "--port") -> list[socket.socket]:
    """A listening socket for each address of `host`, all on one port; port 0 takes a free one.

    flag: that of the port. (Resolved here rather than by the loop, whose resolver would leave four threads behind.)
    Raises SetupError if one cannot be had.
    """
    opened: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            host_and_port = (address[0], opened[0].getsockname()[1] if opened else port)
            listening = socket.create_server(host_and_port, family=family, backlog=BACKLOG)
            opened.append(listening)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    except (OSError, UnicodeError) as error:  # UnicodeError: not a host name at all
        for listening in opened:
            listening.close()
        why = error.strerror if isinstance(error, OSError) else error
        raise SetupError(f"cannot listen on {host}:{port}: {why}; try another --host or {flag}") from None
    return opened


def url_of(listening: socket.socket, scheme: str = "http") -> str:
    """Where to find a server, for people."""
    address, port = listening.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    return f"{scheme}://{shown}:{port}"
