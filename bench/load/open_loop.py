"""Open loop: requests at a constant rate, answered or not the ones before, each timed from the moment it was due.

So a server that stalls is charged for all that should have been sent meanwhile (no coordinated omission). h2load with
--rps is not used: it starts a request's clock when it is written, not when it was due, and prints no quantiles. The
client spins on its own core: a sleep would be up to 1 ms late.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from bench.load.exchanges import connect, is_whole, request_bytes
from bench.load.quantiles import Figures, in_us, quantile
from bench.questions import Question
from bench.server import ContestantError, Server

CONNECTIONS: Final = 64  # a request that is due when none is free waits, and its waiting counts
GRACE_S: Final = 5.0  # for the last answers; what has not come by then counts as an error


@dataclass(frozen=True)
class OpenLoop:
    """rate: requests a second."""

    rate: float
    is_all_requests: ClassVar[bool] = True
    checks_answers: ClassVar[bool] = False

    def drive(self, server: Server, question: Question, seconds: int) -> Figures:
        """Raises ContestantError if nothing is answered."""
        due = [number / self.rate for number in range(max(1, round(self.rate * seconds)))]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(server.port)) for _ in range(CONNECTIONS)]
            stack.enter_context(without_collections())
            latencies, lateness = run_schedule(clients, request_bytes(server, question), due)
        if not latencies:
            raise ContestantError(f"no answer at {self.rate:.0f} requests a second")
        return {
            **in_us(latencies),
            "requests": len(latencies),
            "seconds": seconds,
            "rps": len(latencies) / seconds,
            "rate": self.rate,
            "late_us": quantile(sorted(lateness), 0.99) * 1e6,
            "errors": len(due) - len(latencies),
        }


def run_schedule(
    clients: list[socket.socket], request: bytes, due: list[float], grace_s: float = GRACE_S
) -> tuple[list[float], list[float]]:
    """Send `request` at each of `due`, in seconds from now, on whichever connection is free first.

    Returns the latencies of those answered with 2xx, from when they were due, and how late this client itself noticed
    each that was due: proof that it kept up.
    """
    by_descriptor = {client.fileno(): client for client in clients}
    free = collections.deque(by_descriptor)
    waiting: collections.deque[float] = collections.deque()
    sent: dict[int, float] = {}
    received: dict[int, bytearray] = {descriptor: bytearray() for descriptor in by_descriptor}
    latencies: list[float] = []
    lateness: list[float] = []
    readable = select.epoll()
    for descriptor in by_descriptor:
        readable.register(descriptor, select.EPOLLIN)
    number = 0
    began = time.perf_counter()
    while (number < len(due) or waiting or sent) and time.perf_counter() - began < due[-1] + grace_s:
        now = time.perf_counter() - began
        while number < len(due) and due[number] <= now:
            waiting.append(due[number])
            lateness.append(now - due[number])
            number += 1
        while waiting and free:
            descriptor = free.popleft()
            sent[descriptor] = waiting.popleft()
            by_descriptor[descriptor].send(request)
        for descriptor, _ in readable.poll(0):
            piece = by_descriptor[descriptor].recv(65536)
            received[descriptor] += piece
            if is_whole(received[descriptor]):
                took_s = time.perf_counter() - began - sent.pop(descriptor)
                if received[descriptor].startswith(b"HTTP/1.1 2"):
                    latencies.append(took_s)
                received[descriptor].clear()
                free.append(descriptor)
            elif not piece:  # its request is lost, and so is the connection
                readable.unregister(descriptor)
                sent.pop(descriptor, None)
                if descriptor in free:
                    free.remove(descriptor)
    readable.close()
    return latencies, lateness


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """A collection among thousands of requests under way would be the client's own stall."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
