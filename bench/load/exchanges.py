"""HTTP from the client's side over plain sockets: the bytes of a request, and where its answer ends.

As little as the loads need: status, Content-Length, the chunked transfer coding. Called by every load but wrk's.
"""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from typing import Final

from bench.questions import Question
from bench.server import ContestantError, Server

LAST_CHUNK: Final = b"0\r\n\r\n"
PIECE: Final = 1 << 20
PATIENCE_S: Final = 60.0
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNKED: Final = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")


@dataclass(frozen=True)
class Answer:
    """first_s and last_s: from the first byte of the request to the first and the last of the content."""

    status: int
    content: bytes | bytearray
    first_s: float
    last_s: float


def request_bytes(server: Server, question: Question) -> bytes:
    content = question.content(server.contestant.is_wrapped)
    fields = f"Host: bench\r\nContent-Type: {question.content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
    return f"POST {server.path} HTTP/1.1\r\n{fields}".encode() + content


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def is_whole(received: bytes | bytearray) -> bool:
    """Whether `received` is one whole answer, for small ones."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(received, 0, end)
    if length is None:
        return received.endswith(LAST_CHUNK)
    return len(received) >= end + 4 + int(length[1])


def receive_small(client: socket.socket) -> bytearray:
    """One whole small answer, its head included. Raises as `exchange` does."""
    received = bytearray()
    while not is_whole(received):
        received += _receive(client)
    return received


def exchange(client: socket.socket, request: bytes) -> Answer:
    """Send a request and read its answer, which has content.

    Raises ContestantError if the server closes first, OSError if it says nothing for PATIENCE_S.
    """
    began = time.perf_counter()
    client.sendall(request)
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += _receive(client)
    head = bytes(received[:end])
    content = received[end + 4 :]
    length = _LENGTH.search(head)
    if length is None and not _CHUNKED.search(head):
        raise ContestantError("an answer with neither Content-Length nor chunks")
    if not content:
        content += _receive(client)
    first_s = time.perf_counter() - began
    if length is not None:
        whole = _receive_rest(client, content, int(length[1]))
    else:
        while content[-5:] != LAST_CHUNK:
            content += _receive(client)
        whole = content
    last_s = time.perf_counter() - began
    return Answer(int(head[9:12]), whole if length else _unchunk(whole), first_s, last_s)


def _receive(client: socket.socket) -> bytes:
    piece = client.recv(PIECE)
    if not piece:
        raise ContestantError("the server closed the connection before its answer was whole")
    return piece


def _receive_rest(client: socket.socket, begun: bytearray, length: int) -> bytearray:
    """Content of `length` bytes of which `begun` is there; into one buffer, as a careful client does."""
    buffer = bytearray(length)
    buffer[: len(begun)] = begun
    view = memoryview(buffer)[len(begun) :]
    while view:
        count = client.recv_into(view)
        if not count:
            raise ContestantError("the server closed the connection before its answer was whole")
        view = view[count:]
    return buffer


def _unchunk(received: bytearray) -> bytes:
    pieces: list[bytearray] = []
    at = 0
    while True:
        line = received.index(b"\r\n", at)
        size = int(received[at:line], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(received[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
