"""What only real transports and processes show: TCP_NODELAY, one port for all addresses, nothing left at the end."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
import uvloop

from fastserve.config import Config
from fastserve.errors import SetupError
from fastserve.http11.acceptor import open_sockets
from fastserve.http11.connection import Connection
from fastserve.http11.listener import Listener
from fastserve.messages import Response, Route
from tests.support.process import serving, write_model

LAST_WORDS = """
import asyncio, atexit, threading
def tell():
    print("alive at exit:", sorted(t.name for t in threading.enumerate()), flush=True, file=__import__("sys").stderr)
class Model:
    def __init__(self): atexit.register(tell)
    async def load(self): self.task = asyncio.create_task(asyncio.Event().wait())
    def preprocess(self, x): return x
    async def predict(self, x): return x
"""


def test_small_answers_are_not_held_back_by_nagles_algorithm() -> None:
    loop = uvloop.new_event_loop()
    route = Route(lambda request: request.connection.send_response(request, Response((200, b""), b"ok")))

    async def scene() -> bool:
        listener = Listener(loop, Config(), lambda head: route)
        (listening,) = open_sockets("127.0.0.1", 0)
        acceptor = await loop.create_server(lambda: Connection(listener), sock=listening)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        (connection,) = listener.connections
        assert isinstance(connection, Connection)
        served = connection._transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(served.fileno())) as duplicate:
            is_set = bool(duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()
        await writer.wait_closed()
        await listener.wait_closed()
        acceptor.close()
        await acceptor.wait_closed()
        return is_set

    try:
        assert loop.run_until_complete(scene())
    finally:
        loop.close()


def test_no_thread_and_no_task_is_left_at_the_end(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, LAST_WORDS)) as server:
        assert server.predict(1) == 1
        assert server.stop() == 0
    assert "alive at exit: ['MainThread']" in server.log
    assert "never retrieved" not in server.log
    assert "was destroyed" not in server.log


def test_all_addresses_of_a_host_share_one_port() -> None:
    opened = open_sockets("localhost", 0)
    assert len({listening.getsockname()[1] for listening in opened}) == 1
    for listening in opened:
        listening.close()


def test_an_address_that_cannot_be_listened_on_is_a_clear_mistake() -> None:
    for host in ("no-such-host.invalid", "192.0.2.1"):
        with pytest.raises(SetupError, match=f"cannot listen on {host}:0"):
            open_sockets(host, 0)
