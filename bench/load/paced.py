"""Many streams at once, one chunk each 10 ms: how long a chunk takes from its yield to the client's read.

Each chunk says when it was yielded, by the machine's monotonic clock, which both processes read. Streams begin spread
over one gap, so that the client does not have to read them all at the same moment.
"""

from __future__ import annotations

import gc
import re
import select
import socket
import time
from dataclasses import dataclass
from typing import ClassVar, Final

from bench import questions
from bench.load.exchanges import LAST_CHUNK, PATIENCE_S, connect, request_bytes
from bench.load.quantiles import Figures, in_us
from bench.questions import Question
from bench.server import ContestantError, Server

GAP_S: Final = 0.01  # of contestants/shared/work.py
FIRST_DROPPED: Final = 10  # chunks of each stream, while others still begin
_STAMP: Final = re.compile(rb"t(\d{10}\.\d{6})")


@dataclass(frozen=True)
class Paced:
    """streams: at once."""

    streams: int
    is_all_requests: ClassVar[bool] = True
    checks_answers: ClassVar[bool] = True

    def drive(self, server: Server, question: Question, seconds: int) -> Figures:
        """Raises ContestantError if a stream does not end well."""
        chunks = round(seconds / GAP_S)
        request = request_bytes(server, questions.paced(chunks))
        gc.disable()  # a collection here would be a late chunk there
        began = time.monotonic()
        try:
            reads = self._read(server.port, request)
        finally:
            gc.enable()
        took = time.monotonic() - began
        latencies: list[float] = []
        for pieces in reads:
            latencies += latencies_of(pieces, chunks)[FIRST_DROPPED:]
        return {
            **in_us(latencies),
            "requests": len(latencies),
            "seconds": took,
            "rps": len(latencies) / took,
            "errors": 0,
        }

    def _read(self, port: int, request: bytes) -> list[list[tuple[float, bytes]]]:
        """For each stream, what was read of it and when."""
        reads: dict[int, list[tuple[float, bytes]]] = {}
        clients: dict[int, socket.socket] = {}
        readable = select.epoll()
        started = time.monotonic()
        running: set[int] = set()
        while len(clients) < self.streams or running:
            if len(clients) < self.streams and time.monotonic() >= started + len(clients) * GAP_S / self.streams:
                client = connect(port)
                client.sendall(request)
                clients[client.fileno()] = client
                reads[client.fileno()] = []
                running.add(client.fileno())
                readable.register(client, select.EPOLLIN)
            for descriptor, _ in readable.poll(0 if len(clients) < self.streams else 1):
                piece = clients[descriptor].recv(65536)
                reads[descriptor].append((time.monotonic(), piece))
                if not piece or piece.endswith(LAST_CHUNK):
                    readable.unregister(descriptor)
                    running.discard(descriptor)
            if time.monotonic() - started > PATIENCE_S:
                raise ContestantError(f"{len(running)} streams had not ended after {PATIENCE_S:.0f} s")
        readable.close()
        for client in clients.values():
            client.close()
        return list(reads.values())


def latencies_of(pieces: list[tuple[float, bytes]], chunks: int) -> list[float]:
    """Of each chunk in `pieces`, which were read at those times. Raises ContestantError if chunks are missing."""
    latencies = [read_at - float(stamp) for read_at, piece in pieces for stamp in _STAMP.findall(piece)]
    if len(latencies) < chunks:
        content = b"".join(piece for _, piece in pieces)
        raise ContestantError(f"a stream of {chunks} chunks brought {len(latencies)}: {content[:200]!r}")
    return latencies
