"""Results that are sent from where they lie, over real sockets: nothing is copied, and nothing changes on its way."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

SIZE = 32 << 20  # more than all buffers of the kernel hold

# A connection's server with routes that answer as an endpoint does with what a model returns. `peak` is the most
# memory the process has had, in KiB (that of getrusage begins with the parent's).
SERVER = f"""
import asyncio, re
import numpy as np, uvloop
from fastserve.codec.msgpack_encode import encode_msgpack
from fastserve.codec.buffers import as_content
from fastserve.config import Config
from fastserve.http11.connection import Connection
from fastserve.http11.listener import Listener
from fastserve.messages import OCTET_STREAM, Response, Route
from fastserve.http11.acceptor import open_sockets

kept = np.zeros({SIZE}, np.uint8)
count = 0

def predict(path):
    global count
    count += 1
    if path == b"/fresh":
        return np.full({SIZE}, count, np.uint8)
    kept[:] = count
    return kept[:] if path == b"/part" else kept

def answer(request):
    path, _, form = request.head.path.partition(b".")
    if path == b"/peak":
        pieces = [re.search(rb"VmHWM:\\s+(\\d+) kB", open("/proc/self/status", "rb").read())[1]]
    elif form == b"msgpack":
        pieces = encode_msgpack([{{"array": predict(path)}}])
    else:
        pieces = [as_content([predict(path)])]
    request.connection.send_response(request, Response((200, OCTET_STREAM), b"", pieces=pieces))

async def serve():
    listener = Listener(loop, Config(), lambda head: Route(answer))
    (listening,) = open_sockets("127.0.0.1", 0)
    await loop.create_server(lambda: Connection(listener), sock=listening)
    print(listening.getsockname()[1], flush=True)
    await asyncio.Event().wait()

loop = uvloop.new_event_loop()
loop.run_until_complete(serve())
"""


@pytest.fixture
def port() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
            process.wait()


def ask(port: int, path: str) -> http.client.HTTPConnection:
    """Send a request whose answer is not read yet, over a connection that takes little at once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    connection.request("GET", path)
    return connection


def read(connection: http.client.HTTPConnection) -> bytes:
    with contextlib.closing(connection):
        return connection.getresponse().read()


@pytest.mark.parametrize("form", ["", ".msgpack"])
@pytest.mark.parametrize("path", ["/kept", "/part", "/fresh"])
def test_an_answer_that_is_read_late_is_the_one_that_was_given(port: int, path: str, form: str) -> None:
    waiting = []
    for _ in range(3):
        waiting.append(ask(port, path + form))
        waiting[-1].sock.recv(1, socket.MSG_PEEK)  # its answer has begun: the next predict may come
    for number, connection in enumerate(waiting, 1):
        assert read(connection)[-SIZE:] == bytes([number]) * SIZE


@pytest.mark.parametrize("form", ["", ".msgpack"])
def test_the_process_grows_by_the_result_alone(port: int, form: str) -> None:
    before = int(read(ask(port, "/peak")))
    for _ in range(3):
        read(ask(port, "/fresh" + form))
    grown = int(read(ask(port, "/peak"))) - before
    assert grown < 1.25 * SIZE / 1024, f"grown by {grown} KiB"
