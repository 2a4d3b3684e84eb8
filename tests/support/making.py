"""Asks the models tests/models/response_* for a response of a certain make, and reads it with h11."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.answers import Answer, read_answers
from tests.support.process import Server

MODELS = Path(__file__).parent.parent / "models"
PREDICT, CHAT = "/v1/models/model:predict", "/v1/chat/completions"
FAILED = {"error": "Internal Server Error (in model/chainlet)."}


def whole(name: str = "Response", **arguments: Any) -> dict[str, Any]:
    """The payload that asks for a response of the class `name`, made with `arguments`."""
    return {"class": name, "arguments": arguments}


def stream(source: str, *chunks: object, **arguments: Any) -> dict[str, Any]:
    """The same for a StreamingResponse. source: sync, async or list. A chunk "fail" raises."""
    return {"class": "StreamingResponse", "source": source, "chunks": chunks, "arguments": arguments}


def exchange(
    server: Server, payload: object, path: str = PREDICT, *, fields: str = "", version: str = "1.1"
) -> tuple[list[Answer], bytes]:
    """The answers to a POST and to a GET sent right behind it, and all that was received until the close."""
    content = json.dumps(payload).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\n{fields}Content-Length: {len(content)}\r\n\r\n"
    behind = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    received = b""
    with server.connect() as peer:
        peer.sendall(head.encode() + content + behind)
        while piece := peer.recv(65536):
            received += piece
    return read_answers(received, [b"POST", b"GET"], is_closed=True), received


def make(server: Server, payload: object, path: str = PREDICT) -> Answer:
    """One response of the model, whole; the connection is good for another request afterwards."""
    answers, received = exchange(server, payload, path)
    assert [answer.is_complete for answer in answers] == [True, True], received
    assert answers[1].content == b"true"
    return answers[0]


def error_fields(answer: Answer) -> list[str | None]:
    """Truss's X-BASETEN-ERROR-SOURCE and -CODE."""
    return [answer.fields.get(f"x-baseten-error-{name}") for name in ("source", "code")]


@contextlib.contextmanager
def asking(server: Server, payload: dict[str, Any], path: str = PREDICT) -> Iterator[socket.socket]:
    """A request whose answer has not been read. The model's methods wait until they are released."""
    server.log = ""
    release(server, is_released=False)
    content = json.dumps(payload)
    with server.connect() as peer:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        peer.sendall((head + content).encode())
        yield peer
        release(server)


def release(server: Server, *, is_released: bool = True) -> None:
    """Have the methods that wait go on."""
    server.request("POST", "/v1/messages", json.dumps(is_released).encode())
