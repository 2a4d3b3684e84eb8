"""The rooms together: real endpoints and a real model on a real event loop, and peers on sockets of its process.

Slower by ten than `play.py`, so for one stream in many. What must hold is checked by who calls: `live_streams.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from fastserve.config import Config
from fastserve.endpoints.predict import MethodEndpoint
from fastserve.endpoints.probes import Readiness, answer_liveness
from fastserve.endpoints.router import Endpoints, Router
from fastserve.endpoints.websocket import WebSocketEndpoint
from fastserve.http11.connection import Connection
from fastserve.http11.listener import Listener
from fastserve.lifecycle import Lifecycle, State
from fastserve.metrics import Metrics
from fastserve.model.directory import read_directory
from fastserve.model.runtime import Runtime
from tests.fuzz.watching import ViolationError
from tests.support.process import write_model

# How long an answer may take: none needs more than milliseconds, and the machine may be busy.
PATIENCE_S: Final = 20.0

# Without `predict`, which may not stand beside `websocket`; the OpenAI-style methods go the same way.
MODEL: Final = """
class Model:
    async def chat_completions(self, inputs):
        return self.count(inputs["stream"]) if isinstance(inputs, dict) and "stream" in inputs else inputs

    async def count(self, most):
        for number in range(most):
            yield str(number)

    def completions(self, inputs):
        return inputs

    async def websocket(self, websocket):
        await websocket.accept()
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            if "bytes" in message:
                await websocket.send_bytes(message["bytes"])
            else:
                await websocket.send_text(message["text"])
"""


class _Bugs(logging.Handler):
    """Lines that say fastserve, or the loop, is at fault. What a model's method raises is no such line."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if record.name.startswith("asyncio") or "bug of fastserve" in line:
            self.lines.append(line)


class LiveServer:
    """A server without a listening socket. To be closed."""

    def __init__(self, directory: Path) -> None:
        """directory: an empty one, for the model."""
        self.loop = loop = uvloop.new_event_loop()
        self._bugs = _Bugs()
        for name in ("fastserve", "asyncio"):
            logging.getLogger(name).addHandler(self._bugs)
        loop.set_exception_handler(lambda _, context: self._bugs.lines.append(repr(context)))
        read = read_directory(write_model(directory, MODEL))
        self.runtime = Runtime(loop, read, Config())
        self._lifecycle = Lifecycle()
        self.listener = Listener(loop, Config(), self._router(str(read.path)).route)
        loop.run_until_complete(self.runtime.load())
        self._lifecycle.move_to(State.READY)

    def close(self) -> None:
        for name in ("fastserve", "asyncio"):
            logging.getLogger(name).removeHandler(self._bugs)
        self.runtime.stop()  # on a busy machine its forty threads may need longer than it waits
        self.loop.close()

    def _router(self, directory: str) -> Router:
        runtime, lifecycle, loop = self.runtime, self._lifecycle, self.loop

        def method(name: str, entry: Any) -> Any:
            endpoint = MethodEndpoint(name, entry, runtime, lifecycle, loop, directory, Config(), Metrics())
            runtime.on_adopted.append(endpoint.fit)
            return endpoint.route

        return Router(
            Endpoints(
                predict=method("predict", runtime.predict),
                openai={name: method(name, entry) for name, entry in runtime.openai.items()},
                websocket=WebSocketEndpoint(runtime, lifecycle, loop, directory, Metrics()).route,
                liveness=answer_liveness,
                readiness=Readiness(lifecycle).answer,
                health=answer_liveness,
                metrics=answer_liveness,
                schema=answer_liveness,
                openapi=lambda operations, request: answer_liveness(request),
            )
        )

    def converse(self, pieces: Sequence[bytes], turns: bytes, *, leaves: bool = False) -> bytes:
        """Send pieces, with turns[n] turns of the loop before the nth, then half-close. Returns what was answered.

        leaves: the peer goes without reading. Raises ViolationError for what nobody may ever see.
        """
        received = self.loop.run_until_complete(asyncio.wait_for(self._converse(pieces, turns, leaves), PATIENCE_S))
        if self._bugs.lines:
            self._bugs.lines, lines = [], self._bugs.lines
            raise ViolationError("; ".join(lines))
        if self.listener.connections or self.runtime.in_flight:
            raise ViolationError("its connection, or its work, is still there")
        return received

    async def _converse(self, pieces: Sequence[bytes], turns: bytes, leaves: bool) -> bytes:
        peer, ours = socket.socketpair()
        with peer:
            peer.setblocking(False)
            await self.loop.connect_accepted_socket(lambda: Connection(self.listener), ours)
            reading = self.loop.create_task(self._read(peer))
            try:
                for piece, count in zip(pieces, itertools.cycle(turns or b"\1"), strict=False):
                    for _ in range(count % 4):
                        await asyncio.sleep(0)
                    await self.loop.sock_sendall(peer, piece)
                if not leaves:
                    peer.shutdown(socket.SHUT_WR)
            except OSError:  # our side was closed before the peer had said all
                pass
            if leaves:
                reading.cancel()
                await asyncio.wait({reading})
            received = b"" if leaves else await reading
        await self._wait_until_over()
        return received

    async def _read(self, peer: socket.socket) -> bytes:
        received = b""
        try:
            while piece := await self.loop.sock_recv(peer, 65536):
                received += piece
        except ConnectionError:
            pass
        return received

    async def _wait_until_over(self) -> None:
        while self.listener.connections or self.runtime.in_flight:
            self.listener.deadlines.tick(self.loop.time() + 10)  # a lingering close has had its time
            await asyncio.sleep(0)
