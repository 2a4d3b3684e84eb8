"""Many clients in one process, cheaply: raw sockets that send the same, read what comes, leave or reset.

Knows no HTTP but for the status lines it counts. Used by the attacks in tests/support/attacks.py and floods.py.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

PATIENCE_S: Final = 60.0
# Connections from one loopback address: well below the ports that Linux hands out (28,232), some of which wait.
PER_ADDRESS: Final = 4000
_RESET: Final = struct.pack("ii", 1, 0)  # struct linger: on, for 0 s
_IP_BIND_ADDRESS_NO_PORT: Final = 24  # the port is chosen at connect: socket.h, not in Python's socket before 3.12


class Peer:
    """One client of a crowd. received: all that came; is_over: the server has closed, or reset."""

    __slots__ = ("is_over", "received", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.is_over = False

    @property
    def status(self) -> int:
        """Of its first final answer; 0 without any."""
        text = bytes(self.received)
        while text.startswith(b"HTTP/1.1 1"):
            text = text.partition(b"\r\n\r\n")[2]
        return int(text[9:12]) if text.startswith(b"HTTP/1.1 ") and len(text) > 12 else 0


class Crowd:
    """Clients of the server at `port` on loopback. Those that are left at the end are reset."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._count = 0
        self.peers: list[Peer] = []

    def join(self, count: int, first: bytes = b"", *, receive_buffer: int = 0) -> list[Peer]:
        """Connect so many more; each sends `first`. receive_buffer: bytes, for those that are not going to read."""
        joined = []
        for _ in range(count):
            sock = socket.socket()
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.1.{1 + self._count // PER_ADDRESS % 200}", 0))
            sock.settimeout(PATIENCE_S)
            sock.connect(("127.0.0.1", self._port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self._count += 1
            peer = Peer(sock)
            self.peers.append(peer)
            joined.append(peer)
            if first:
                self.say([peer], first)
        return joined

    def say(self, peers: Sequence[Peer], piece: bytes) -> None:
        """Each sends all of `piece`, which its socket's buffer must have room for."""
        for peer in peers:
            with contextlib.suppress(ConnectionError):  # closed on us: what it read tells why
                sent = peer.sock.send(piece)
                assert sent == len(piece), f"room for {sent} of {len(piece)} bytes"

    def pour(self, peers: Sequence[Peer], stream: bytes, enough: Callable[[Peer], bool]) -> None:
        """Each sends `stream`, as fast as it is taken, and reads, until it has `enough` or the server closes."""
        left = {peer.sock.fileno(): (peer, memoryview(stream)) for peer in peers}
        poll = select.epoll()
        for descriptor in left:
            poll.register(descriptor, select.EPOLLIN | select.EPOLLOUT)
        deadline = time.monotonic() + PATIENCE_S
        while left:
            assert time.monotonic() < deadline, f"{len(left)} of {len(peers)} do not get to the end"
            for descriptor, events in poll.poll(1.0):
                peer, rest = left[descriptor]
                if events & select.EPOLLOUT:
                    with contextlib.suppress(BlockingIOError, ConnectionError):
                        rest = rest[peer.sock.send(rest[:262144]) :]
                    left[descriptor] = (peer, rest)
                    if not rest:
                        poll.modify(descriptor, select.EPOLLIN)
                if events & ~select.EPOLLOUT:
                    _read(peer)
                if peer.is_over or enough(peer):
                    poll.unregister(descriptor)
                    del left[descriptor]
        poll.close()

    def hear(self, peers: Sequence[Peer], enough: Callable[[Peer], bool] = lambda peer: False) -> None:
        """Read until each has `enough` or the server has closed on it."""
        self.pour(peers, b"", enough)

    def exchange(self, request: bytes) -> bytes:
        """One more client asks, reads its answer and leaves: what others sent before has been received by then."""
        peers = self.join(1, request)
        self.hear(peers, lambda peer: peer.status > 0)
        self.leave(peers)
        return bytes(peers[0].received)

    def drip(self, peers: Sequence[Peer], drop: bytes, pause_s: float) -> None:
        """All send `drop` every `pause_s`, and read, until the server has closed on each."""
        deadline = time.monotonic() + PATIENCE_S
        while left := [peer for peer in peers if not peer.is_over]:
            assert time.monotonic() < deadline, f"{len(left)} of {len(peers)} are let go on"
            self.say([peer for peer in left if not peer.received], drop)  # what is sent behind an answer resets it
            time.sleep(pause_s)
            for peer in left:
                _read(peer)

    def half_close(self, peers: Sequence[Peer]) -> None:
        """Each says that it sends no more."""
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_WR)

    def reset(self, peers: Sequence[Peer]) -> None:
        """Each leaves with a TCP reset."""
        for peer in peers:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            peer.sock.close()
        self.peers = [peer for peer in self.peers if peer.sock.fileno() >= 0]

    def leave(self, peers: Sequence[Peer]) -> None:
        """Each closes in the usual way."""
        for peer in peers:
            peer.sock.close()
        self.peers = [peer for peer in self.peers if peer.sock.fileno() >= 0]


def statuses(peers: Sequence[Peer]) -> Counter[int]:
    """How many were answered with what."""
    return Counter(peer.status for peer in peers)


def _read(peer: Peer) -> None:
    try:
        while piece := peer.sock.recv(262144):
            peer.received += piece
        peer.is_over = True
    except BlockingIOError:
        pass
    except ConnectionError:
        peer.is_over = True


@contextlib.contextmanager
def crowd_at(port: int) -> Iterator[Crowd]:
    """A crowd for a while; nobody of it is left afterwards. This process may have all descriptors it can get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(port)
    try:
        yield crowd
    finally:
        crowd.reset(crowd.peers)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
