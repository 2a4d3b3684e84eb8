"""fastserve behind nginx and HAProxy that keep their connections to it, and clients that know their own answers.

A connection that has lost step would show as another's answer, or as a 502. Called by `test_upstream.py` alone.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.differential.front_ends import front_end
from tests.support.answers import Answer, read_answers
from tests.support.process import PATIENCE_S, Server

PREDICT: Final = "/v1/models/model:predict"
WHICH_CONNECTION: Final = "/v1/completions"

# Sends its payload back. "pieces": a stream of so many, which says when it has ended. "ran": the marks of all that
# has run. `completions` says which of its connections a request came on.
MODEL: Final = """
import sys
import fastserve

class Model:
    def __init__(self):
        self.ran = []

    async def predict(self, payload):
        if payload.get("ask") == "ran":
            return self.ran
        self.ran.append(payload["mark"])
        return self.stream(payload) if "pieces" in payload else payload

    async def completions(self, payload, request: fastserve.Request):
        return request.client.port

    async def stream(self, payload):
        number = 0
        try:
            for number in range(payload["pieces"]):
                yield f"{payload['mark']} {number};" + "." * payload["size"]
        finally:
            print(f"{payload['mark']} ended at {number}.", file=sys.stderr, flush=True)
"""

# No second attempt, which would hide what went wrong. Few connections, so that each is soon used again. A stream that
# its client does not read is not put on disk.
KEPT: Final = {
    "nginx": """
        upstream kept{socket} {{
            server 127.0.0.1:{upstream};
            keepalive 2;
            keepalive_requests 100000;
        }}
        server {{
            listen 127.0.0.1:{listen};
            location / {{
                proxy_pass http://kept{socket};
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_next_upstream off;
                proxy_max_temp_file_size 0;
            }}
        }}
    """,
    "haproxy": """
        listen kept{socket}
            bind fd@{socket}
            option httplog
            log global
            retries 0
            http-reuse always
            server kept 127.0.0.1:{upstream} pool-max-conn 2
    """,
}
UNBUFFERED: Final = KEPT["nginx"].replace(
    "proxy_next", "proxy_request_buffering off; proxy_buffering off; proxy_next"
)
FRONTS: Final = {
    "nginx": ("nginx", KEPT["nginx"]),
    "nginx unbuffered": ("nginx", UNBUFFERED),
    "haproxy": ("haproxy", KEPT["haproxy"]),
}

# What they log when a server's answer was none, or not whole. HAProxy: the two letters of how a session ended, the
# first of which is the side that ended it: with a refusal that may be fastserve's, whose content has not been sent.
_COMPLAINTS: Final = {
    "nginx": re.compile(r".*\[(?:error|crit|alert|emerg)\].* upstream.*"),
    "haproxy": re.compile(r".*/kept \S+ (?!4\d\d )-?\d+ \d+ - - [SPIR][A-Z]-- .*"),
}


class Front:
    """A front end with fastserve behind it. port: where it listens."""

    def __init__(self, name: str, port: int, log: Path, server: Server) -> None:
        self.name = name
        self.port = port
        self.server = server
        self._log = log

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def exchange(self, raw: bytes, methods: Sequence[bytes] = (b"POST",)) -> list[Answer]:
        """All answers on a connection of its own; the last request of `raw` closes it."""
        with self.connect() as peer:
            peer.sendall(raw)
            return read_answers(receive_all(peer), list(methods), is_closed=True)

    def complaints(self) -> list[str]:
        """What its log says against the server behind it."""
        return _COMPLAINTS[self.name.split()[0]].findall(self._log.read_text("latin-1"))


@contextlib.contextmanager
def in_front_of(server: Server, name: str, directory: Path) -> Iterator[Front]:
    """One of FRONTS, with `server` behind it."""
    binary, service = FRONTS[name]
    with front_end(binary, directory, [(service, server.port)]) as ports:
        yield Front(name, ports[0], directory / f"{binary}.log", server)


def post(payload: Any, *, fields: str = "", path: str = PREDICT) -> bytes:
    """A request with content of a known length."""
    content = json.dumps(payload).encode()
    return head(path, f"{fields}Content-Length: {len(content)}\r\n") + content


def post_chunked(payload: Any, size: int = 7, *, fields: str = "", path: str = PREDICT) -> bytes:
    """The same in chunks of `size` bytes."""
    content = json.dumps(payload).encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head(path, f"{fields}Transfer-Encoding: chunked\r\n") + chunks + b"0\r\n\r\n"


def head(path: str, fields: str, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()


def receive_all(peer: socket.socket) -> bytes:
    """Until the end."""
    pieces = []
    while piece := peer.recv(2**16):
        pieces.append(piece)
    return b"".join(pieces)


def receive_answer(peer: socket.socket, received: bytes = b"") -> Answer:
    """One answer to a POST, as soon as it is whole. received: its beginning."""
    while not (answers := read_answers(received, [b"POST"])) or not answers[0].is_complete:
        piece = peer.recv(2**20)
        assert piece, received[:1000]
        received += piece
    return answers[0]


def send_until_answered(peer: socket.socket, raw: bytes) -> Answer:
    """Send what the other side takes, until the answer to it is whole. Raises AssertionError if there is none."""
    sending, received = memoryview(raw), b""
    peer.settimeout(0)
    while not (answers := read_answers(received, [b"POST"])) or not answers[0].is_complete:
        is_readable, is_writable, _ = select.select([peer], [peer] if sending else [], [], PATIENCE_S)
        assert is_readable or is_writable, f"nothing moves after {received[:1000]!r}"
        if is_readable:
            piece = peer.recv(2**16)
            assert piece, received[:1000]
            received += piece
        elif is_writable:
            sending = sending[peer.send(sending) :]
    return answers[0]


def receive_until(peer: socket.socket, enough: bytes) -> bytes:
    received = b""
    while enough not in received:
        piece = peer.recv(2**16)
        assert piece, received
        received += piece
    return received
