"""One request to a server on this machine, over a plain socket, and all that can be seen of its answer.

Knows neither of the two servers that are compared. Called by `record.py` (Truss's) and `compare.py` (ours).
"""

from __future__ import annotations

import base64
import dataclasses
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

PATIENCE_S: Final = 30.0

# Of these one server says more than the other, and none of it is the model's.
UNCOMPARED: Final = frozenset({"date", "server", "x-request-id", "connection", "keep-alive"})

Seen = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A request. content: as it is sent; Content-Length is added if there is any, or the method is POST."""

    method: str
    path: str
    content: bytes = b""
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    version: str = "1.1"

    @property
    def bytes(self) -> bytes:
        names = {name.lower() for name in self.fields}
        lines = [f"{self.method} {self.path} HTTP/{self.version}", *(f"{k}: {v}" for k, v in self.fields.items())]
        if "host" not in names:
            lines.append("Host: model.example")
        if (self.content or self.method == "POST") and not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(self.content)}")
        return "".join(line + "\r\n" for line in lines).encode("latin-1") + b"\r\n" + self.content


def ask(port: int, exchange: Exchange) -> Seen:
    """Send it on a connection of its own. Returns what `read_answer` makes of the answer."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(exchange.bytes)
        return read_answer(connection, exchange.method)


def read_answer(connection: socket.socket, method: str) -> Seen:
    """Read one answer.

    Returns status, fields (names in lower case, in order of name), content (text, or base64 under `base64`) or, if it
    came in chunks, each of them under `chunks`, and `cut` if it did not end as its framing says. Interim responses
    are left out. An answer that never began is {"cut": True}.
    """
    reader = connection.makefile("rb")
    while True:
        line = reader.readline()
        if not line:
            return {"cut": True}
        status = int(line.split()[1])
        fields: dict[str, Any] = {}
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            name, value = name.lower(), value.strip()
            fields[name] = f"{fields[name]} & {value}" if name in fields else value
        if status >= 200:
            break
    seen: Seen = {
        "status": status,
        "fields": {name: fields[name] for name in sorted(fields) if name not in UNCOMPARED},
    }
    if method == "HEAD" or status in (204, 304):
        return seen
    if fields.get("transfer-encoding") == "chunked":
        return seen | _read_chunks(reader)
    if "content-length" not in fields:
        return seen | as_text(reader.read())
    content = reader.read(int(fields["content-length"]))
    return seen | as_text(content) | ({"cut": True} if len(content) < int(fields["content-length"]) else {})


def _read_chunks(reader: Any) -> Seen:
    chunks: list[Seen] = []
    while True:
        size = reader.readline()
        if not size.endswith(b"\r\n"):
            return {"chunks": chunks, "cut": True}
        chunk = reader.read(int(size, 16))
        assert reader.read(2) == b"\r\n"
        if not chunk:
            return {"chunks": chunks}
        chunks.append(as_text(chunk))


def as_text(content: bytes) -> Seen:
    """`content` as JSON can hold it."""
    try:
        return {"content": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def converse(port: int, messages: list[Any], fields: Mapping[str, str]) -> Seen:
    """A WebSocket session: send the messages one by one, each once the answer to the one before is there.

    messages: text; bytes as {"base64": ...}; {"close": code} ends the session from this side.
    Returns the answers and at last the close code and reason that the server sent (`cut` without), or the refusal of
    the handshake.
    """
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{port}/v1/websocket"
    try:
        session = connect(url, additional_headers=dict(fields), open_timeout=PATIENCE_S, proxy=None)
    except InvalidStatus as refusal:
        answer = refusal.response
        kept = {k.lower(): v for k, v in answer.headers.raw_items() if k.lower() not in UNCOMPARED}
        return {"status": answer.status_code, "fields": dict(sorted(kept.items()))} | as_text(
            bytes(answer.body or b"")
        )
    received: list[Any] = []
    with session:
        try:
            for message in messages:
                if isinstance(message, dict) and "close" in message:
                    session.close(message["close"], "")
                    break
                session.send(base64.b64decode(message["base64"]) if isinstance(message, dict) else message)
                answered = session.recv(PATIENCE_S)
                received.append(answered if isinstance(answered, str) else as_text(answered))
            else:
                session.recv(PATIENCE_S)
        except ConnectionClosed:
            pass
    closed = session.protocol.close_rcvd
    if closed is None:
        return {"received": received, "cut": True}
    return {"received": received, "code": closed.code, "reason": closed.reason}


def wait_until_ready(port: int, patience_s: float = PATIENCE_S) -> bool:
    """Ask until the model is loaded. Returns whether it is; False if the server has gone."""
    deadline = time.monotonic() + patience_s
    has_answered = False
    while time.monotonic() < deadline:
        try:
            if ask(port, Exchange("GET", "/v1/models/model/loaded")).get("status") == 200:
                return True
            has_answered = True
        except OSError:
            if has_answered:
                return False
        time.sleep(0.05)
    raise TimeoutError(f"nothing ready on port {port}")
