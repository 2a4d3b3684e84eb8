"""Runs a case over a real socket: what comes back until the server closes, and what the model has seen of it.

Judging is `judge.py`'s. Called by `test_sockets.py` and `python -m tests.cases`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.cases.case import Case
from tests.cases.judge import judge
from tests.cases.load import all_cases
from tests.support.process import serving

MODEL = Path(__file__).parent.parent / "models" / "echo"
PATIENCE_S = 20.0  # for a machine that does much else; a server that answers takes milliseconds
# So that a deadline passes while one waits for it; with room for the requests of a busy machine.
SHORT_DEADLINES = ("--timeout-header", "1", "--timeout-content-grace", "1", "--timeout-keep-alive", "1")


class Received(NamedTuple):
    """All bytes that came back, and whether the server then ended the connection by itself."""

    raw: bytes
    is_closed: bool


def exchange(case: Case, address: tuple[str, int], patience_s: float = PATIENCE_S) -> Received:
    """Send the case, and what belongs behind it; read until the server closes or patience ends."""
    received = b""
    with socket.create_connection(address, patience_s) as peer:
        try:
            for number, piece in enumerate(case.sent):
                while number and received.count(b"\r\n\r\n") < number:
                    if not (read := peer.recv(65536)):
                        return Received(received, True)
                    received += read
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                    peer.sendall(piece)
            if case.ends:
                peer.shutdown(socket.SHUT_WR)
            while read := peer.recv(65536):
                received += read
        except TimeoutError:
            return Received(received, False)
        except ConnectionResetError:
            return Received(received + b"<reset>", True)
    return Received(received, True)


class Witness:
    """A connection that is kept beside those of the cases, and asks the model what it has been given."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=PATIENCE_S)
        self._connection.connect()
        self._socket = self._connection.sock

    def ask(self) -> list[bytes]:
        """The contents that the model has been given since it was last asked."""
        self._connection.request("POST", "/v1/embeddings", b"{}")
        response = self._connection.getresponse()
        content = response.read()
        assert response.status == 200, content
        assert self._connection.sock is self._socket, "the witness had to connect anew"
        return [text.encode("latin-1") for text in json.loads(content)]

    def close(self) -> None:
        self._connection.close()


class Place(NamedTuple):
    """Our server, the witness on it, and what came back to the cases that wait for a deadline."""

    address: tuple[str, int]
    witness: Witness
    waited: dict[str, Received]


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Start the server, and until the waiting is over another one with short deadlines; end them afterwards."""
    with serving(MODEL) as server:
        witness = Witness(("127.0.0.1", server.port))
        try:
            yield Place(("127.0.0.1", server.port), witness, _wait_for_deadlines())
        finally:
            witness.close()


def _wait_for_deadlines() -> dict[str, Received]:
    """All cases that wait for one, at once: by name, what came back."""
    waiting = [case for case in all_cases() if case.waits]
    with serving(MODEL, *SHORT_DEADLINES) as short, ThreadPoolExecutor(len(waiting)) as threads:
        address = ("127.0.0.1", short.port)
        received = threads.map(lambda case: exchange(case, address), waiting)
        return {case.name: answers for case, answers in zip(waiting, received, strict=True)}


def run(case: Case, where: Place) -> tuple[Received, list[str]]:
    """What came back to the case, and what is wrong with it; [] if nothing is."""
    received = where.waited[case.name] if case.waits else exchange(case, where.address)
    problems = judge(case, received.raw, is_closed=received.is_closed)
    seen = where.witness.ask()
    if seen != case.seen and not case.waits:
        problems.append(f"the model was given {seen} instead of {case.seen}")
    return received, problems
