"""A client that behaves: asks for its own payload again and again, and notes how long each answer took.

A process of its own, so that whoever floods the server beside it does not also delay the clock it measures with.
Used by the tests of floods and by bench/load/hostile.py; run as `python -m tests.support.neighbour PORT LIFE`.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PATIENCE_S: Final = 30.0
PAUSE_S: Final = 0.001  # between two requests: it is a client among others, not a flood of its own
LIFE: Final = 100  # requests on one connection; then a fresh one, since newcomers must get in too
FOR_EVER: Final = 1 << 60


@dataclass(frozen=True)
class Report:
    """Of the time since the report before. Times in seconds, of answers on a connection that has been accepted.

    mistakes: what it got instead of right answers.
    newcomer_s: the slowest first answer on a fresh connection, from before connecting.
    """

    answers: int
    mistakes: list[str]
    p50_s: float
    p99_s: float
    worst_s: float
    newcomer_s: float


class Neighbour:
    """The client's process, seen from the one that started it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def report(self) -> Report:
        """How it went since it was asked last."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        return Report(**json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def neighbour_of(port: int, life: int = LIFE) -> Iterator[Neighbour]:
    """Start a client of the server at `port`; end it afterwards. life: requests on one connection."""
    command = [sys.executable, "-m", "tests.support.neighbour", str(port), str(life)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            neighbour = Neighbour(process)
            neighbour.report()
            yield neighbour
        finally:
            process.kill()


class _Client:
    def __init__(self, port: int, life: int) -> None:
        self._port = port
        self._life = life
        self._peer: socket.socket | None = None
        self._asked = 0
        self.mistakes: list[str] = []
        self.answers = 0
        self.times: list[float] = []
        self.newcomer_s = 0.0

    def ask(self) -> None:
        self._asked += 1
        is_fresh = self._peer is None or self._asked % self._life == 0
        began = time.perf_counter()
        try:
            if is_fresh:
                self._connect()
            found = self._exchange(json.dumps({"mine": self._asked}).encode())
        except (OSError, ValueError) as error:
            self._peer = None
            self.mistakes.append(repr(error))
            return
        took = time.perf_counter() - began
        self.answers += 1
        if is_fresh:
            self.newcomer_s = max(self.newcomer_s, took)
        else:
            self.times.append(took)
        if found != {"echo": {"mine": self._asked}}:
            self.mistakes.append(repr(found))

    def _connect(self) -> None:
        if self._peer is not None:
            self._peer.close()
        self._peer = socket.create_connection(("127.0.0.1", self._port), PATIENCE_S)
        self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _exchange(self, content: bytes) -> object:
        assert self._peer is not None
        head = b"POST /v1/models/model:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
        self._peer.sendall(head + content)
        received = b""
        while not received.endswith((b"}}", b'"}')):  # as the answer does, and any error
            piece = self._peer.recv(65536)
            if not piece:
                raise ValueError(f"closed after {received!r}")
            received += piece
        section, _, answer = received.partition(b"\r\n\r\n")
        if not section.startswith(b"HTTP/1.1 200 "):
            raise ValueError(f"answered {received!r}")
        return json.loads(answer)

    def report(self) -> Report:
        """What was noted so far; noting starts anew."""
        times = sorted(self.times) or [0.0]
        report = Report(
            answers=self.answers,
            mistakes=self.mistakes[:5],
            p50_s=times[len(times) // 2],
            p99_s=times[len(times) * 99 // 100],
            worst_s=times[-1],
            newcomer_s=self.newcomer_s,
        )
        self.answers, self.mistakes, self.times, self.newcomer_s = 0, [], [], 0.0
        return report


def main() -> None:
    client = _Client(int(sys.argv[1]), int(sys.argv[2]))
    while True:
        client.ask()
        if select.select([sys.stdin], [], [], PAUSE_S)[0]:
            if not sys.stdin.readline():
                return
            print(json.dumps(vars(client.report())), flush=True)


if __name__ == "__main__":
    main()
