"""Everything that clients do, mixed by chance, and every answer checked: for a soak of one server with models/soak.

Each kind of traffic is a function that plays one scene on connections of its own and raises what is wrong. Called by
bench/soak.py.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from bench.load.exchanges import connect, exchange, receive_small
from bench.server import ContestantError

CLIENTS: Final = 6
# Scenes by how often they are played, of 30 in all.
SCENES_OF_30: Final = {
    "asks": 10,
    "uploads": 3,
    "reads_streams": 4,
    "cuts_streams": 3,
    "sends_bad_input": 5,
    "leaves": 4,
    "overloads": 1,
}
# Ten times what four slots work off in the time that one waits.
OVERLOAD: Final = 40
WAIT_S: Final = 0.02
ENDLESS: Final = 10**9
MANY_MISTAKES: Final = 20  # so many are told; all are counted
REFUSALS: Final = frozenset({429, 503})
RESET: Final = struct.pack("ii", 1, 0)  # struct linger: on, for 0 s

_LINE: Final = b"POST /v1/models/model:predict HTTP/1.1\r\nHost: soak\r\n"


class WrongError(Exception):
    """An answer that is not the right one."""


def post(wish: Any) -> bytes:
    """A whole request."""
    content = json.dumps(wish).encode()
    return _LINE + b"Content-Length: %d\r\n\r\n%b" % (len(content), content)


def post_chunked(wish: Any, size: int) -> bytes:
    """The same in the chunked transfer coding, in pieces of `size` bytes."""
    content = json.dumps(wish).encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return _LINE + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


# Each on a connection of its own, and the status that it gets.
BAD: Final[Sequence[tuple[bytes, int]]] = (
    (_LINE + b"Content-Length: 5\r\n\r\n{not ", 400),
    (_LINE.replace(b"Host: soak\r\n", b"") + b"Content-Length: 1\r\n\r\n1", 400),
    (_LINE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n1", 400),
    (_LINE + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1", 400),
    (_LINE + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n", 400),
    (b"NO SENSE\r\n\r\n", 400),
    (_LINE.replace(b"POST", b"PATCH") + b"\r\n", 405),
    (_LINE.replace(b"/v1/models/model:predict", b"/nowhere") + b"\r\n", 404),
    (_LINE + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\n1", 415),
    (_LINE + b"Content-Length: 1000000000\r\n\r\n", 413),
    (_LINE.replace(b":predict", b"x" * 9000) + b"\r\n", 414),
    (_LINE + b"X-Field: 1\r\n" * 101 + b"\r\n", 431),
    (post({"what": "fail"}), 500),
)


def asks(port: int, chance: random.Random) -> None:
    """Some questions on one connection, each answered with what it is."""
    with connect(port) as client:
        for _ in range(chance.randint(1, 30)):
            wish = {"what": "echo", "n": chance.random(), "text": "x" * chance.choice([0, 10, 1000, 100_000])}
            answer = exchange(client, post(wish))
            if answer.status != 200 or json.loads(answer.content) != {"echo": wish}:
                raise WrongError(f"{answer.status} {bytes(answer.content[:200])!r}")


def uploads(port: int, chance: random.Random) -> None:
    """Megabytes, in one piece or in chunks, and their checksum back."""
    text = chance.choice("abc") * chance.randint(1 << 18, 1 << 22)
    wish = {"what": "sum", "text": text}
    with connect(port) as client:
        answer = exchange(client, post(wish) if chance.random() < 0.5 else post_chunked(wish, 60_000))
    if answer.status != 200 or json.loads(answer.content) != zlib.crc32(text.encode()):
        raise WrongError(f"{answer.status} {bytes(answer.content[:200])!r}")


def reads_streams(port: int, chance: random.Random) -> None:
    """A stream to its end."""
    mark, pieces = chance.randint(0, 10**6), chance.choice([0, 1, 10, 10_000])
    with connect(port) as client:
        client.sendall(post({"what": "stream", "mark": mark, "pieces": pieces}))
        received = bytearray()
        while not received.endswith(b"0\r\n\r\n"):  # which is all there is of an empty one
            piece = client.recv(1 << 20)
            if not piece:
                raise WrongError(f"a stream that ends with {bytes(received[-100:])!r}")
            received += piece
    content = b"".join(received.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2])
    right = "".join(f"{mark}:{number};" for number in range(pieces)).encode()
    if not received.startswith(b"HTTP/1.1 200 ") or content != right:
        raise WrongError(f"a stream of {pieces}: {bytes(received[:200])!r}")


def cuts_streams(port: int, chance: random.Random) -> None:
    """A stream that has no end, of which its client has enough."""
    mark, enough, received = chance.randint(0, 10**6), chance.randint(1, 300_000), 0
    with connect(port) as client:
        client.sendall(post({"what": "stream", "mark": mark, "pieces": ENDLESS}))
        while received < enough:
            piece = client.recv(1 << 16)
            if not piece or (received == 0 and not piece.startswith(b"HTTP/1.1 200 ")):
                raise WrongError(f"a stream that begins with {piece[:200]!r}")
            received += len(piece)
        leave(client, chance)


def sends_bad_input(port: int, chance: random.Random) -> None:
    """What no server can take; each is told so."""
    raw, status = chance.choice(BAD)
    with connect(port) as client:
        answer = exchange(client, raw)
    if answer.status != status or not json.loads(answer.content).get("error"):
        raise WrongError(f"{answer.status} {bytes(answer.content[:200])!r} instead of {status} for {raw[:100]!r}")


def leaves(port: int, chance: random.Random) -> None:
    """Goes in the middle of its request, while that waits, or while it is answered."""
    wish = chance.choice([{"what": "wait", "seconds": WAIT_S}, {"what": "echo", "text": "x" * 100_000}])
    raw = post(wish)
    with connect(port) as client:
        client.sendall(raw[: chance.choice([0, chance.randint(1, len(raw)), len(raw)])])
        if chance.random() < 0.5:
            time.sleep(chance.random() * WAIT_S)
        leave(client, chance)


def overloads(port: int, chance: random.Random) -> None:
    """More at once than there is room for: each is answered in the end, or told to come again."""
    wishes = [{"what": "wait", "seconds": WAIT_S, "mark": chance.random()} for _ in range(OVERLOAD)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in wishes]
        for client, wish in zip(clients, wishes, strict=True):
            client.sendall(post(wish))
        for client, wish in zip(clients, wishes, strict=True):
            head, _, content = bytes(receive_small(client)).partition(b"\r\n\r\n")
            status = int(head[9:12])
            is_refused = status in REFUSALS and b"\r\nretry-after:" in head.lower()
            if not is_refused and (status != 200 or json.loads(content) != {"echo": wish}):
                raise WrongError(f"{head!r} {content[:200]!r}")


def leave(client: socket.socket, chance: random.Random) -> None:
    """Close as any client does, or with a reset."""
    if chance.random() < 0.5:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


SCENES: Final[dict[str, Callable[[int, random.Random], None]]] = {
    scene.__name__: scene
    for scene in (asks, uploads, reads_streams, cuts_streams, sends_bad_input, leaves, overloads)
}


class Traffic:
    """Clients that play scenes until they are told to stop. played: how often each; mistakes: what was wrong."""

    def __init__(self, port: int, seed: int) -> None:
        self.played: Counter[str] = Counter()
        self.mistakes: list[str] = []
        self.mistaken = 0
        self._port = port
        self._seed = seed
        self._must_stop = threading.Event()
        self._lock = threading.Lock()

    def run(self, seconds: float) -> None:
        """Play for so long. The same seed chooses the same scenes, though not in the same order for the server."""
        self._must_stop.clear()
        clients = [threading.Thread(target=self._play, args=(random.Random(self._seed + n),)) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        self._must_stop.wait(seconds)
        self._must_stop.set()
        for client in clients:
            client.join()
        self._seed += CLIENTS

    def _play(self, chance: random.Random) -> None:
        names, weights = list(SCENES_OF_30), list(SCENES_OF_30.values())
        while not self._must_stop.is_set():
            (name,) = chance.choices(names, weights)
            try:
                SCENES[name](self._port, chance)
            except (WrongError, ContestantError, OSError, ValueError) as mistake:
                self._note(f"{name}: {mistake!r}")
            with self._lock:
                self.played[name] += 1

    def _note(self, mistake: str) -> None:
        with self._lock:
            self.mistaken += 1
            if len(self.mistakes) < MANY_MISTAKES:
                self.mistakes.append(mistake)
