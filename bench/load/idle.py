"""Ten thousand idle connections: what each one holds in memory, how many are kept, and a load beside them.

Each has had one request answered, as the connections of real clients have. Leaves the load itself to wrk.
"""

from __future__ import annotations

import contextlib
import resource
import socket
from dataclasses import dataclass
from typing import ClassVar, Final

from bench.load.closed import Closed
from bench.load.exchanges import connect, receive_small, request_bytes
from bench.load.quantiles import Figures
from bench.questions import Question
from bench.server import Server

BESIDE: Final = 64  # connections of the load
TOGETHER: Final = 50  # connections that ask at the same time: slow servers are no faster one by one
SPARE: Final = 200  # file descriptors that this process has besides


@dataclass(frozen=True)
class Idle:
    """count: of idle connections."""

    count: int
    is_all_requests: ClassVar[bool] = False  # the first ones, of the idle connections, are not counted
    checks_answers: ClassVar[bool] = False

    def drive(self, server: Server, question: Question, seconds: int) -> Figures:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, self.count + SPARE), hard))
        request = request_bytes(server, question)
        before_kb = server.watch_peak()
        with contextlib.ExitStack() as stack:
            clients: list[socket.socket] = []
            while len(clients) < self.count:
                together = [
                    stack.enter_context(connect(server.port)) for _ in range(min(TOGETHER, self.count - len(clients)))
                ]
                for client in together:
                    client.sendall(request)
                for client in together:
                    receive_small(client)
                clients += together
            held_kb = server.resident_kb() - before_kb
            figures = Closed(BESIDE).drive(server, question, seconds)
            figures["kept"] = sum(is_open(client) for client in clients)
        figures["idle_kb"] = held_kb / self.count
        return figures


def is_open(client: socket.socket) -> bool:
    """Whether the server has neither closed nor reset the connection. It has nothing to say otherwise."""
    client.setblocking(False)
    try:
        client.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
