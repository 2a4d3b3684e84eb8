"""A small origin server that writes down what a front end forwards: where it saw messages, and what it took them for.

Takes one request a connection, as the front ends are told; whatever comes behind it is written down too. Made by
`front_ends.py`, on the event loop that the front ends' clients are on.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from tests.differential.recipients import Message, Taken, message
from tests.support.process import PATIENCE_S

_LENGTH: Final = re.compile(rb"(?im)^content-length:[ \t]*(\d+)[ \t]*\r?$")
_CODING: Final = re.compile(rb"(?im)^transfer-encoding:[ \t]*chunked[ \t]*\r?$")
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
# Longer than any input; the default of asyncio is less.
_LIMIT_BYTES: Final = 2**20


class Origin:
    """Listens on a port of 127.0.0.1 from `start` on."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._taken: list[Message] = []
        self._open: set[asyncio.Task[None] | None] = set()
        self._all_closed = asyncio.Event()

    async def start(self) -> int:
        """Returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", limit=_LIMIT_BYTES)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def take(self) -> Taken:
        """What has been forwarded in full since the last time, once the front end has closed all its connections."""
        while self._open:
            await asyncio.wait_for(self._all_closed.wait(), PATIENCE_S)
        taken, self._taken = tuple(self._taken), []
        return taken

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        self._all_closed.clear()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.partition(b"\r\n")[0].split(b" ", 2)
            content = await _read_content(reader, head)
            self._taken.append(message(method, target, content))
            writer.write(_ANSWER)
            writer.write_eof()
            if behind := await reader.read():
                self._taken.append(Message(b"", b"", behind))
        except (asyncio.IncompleteReadError, OSError):
            pass  # the front end has changed its mind: this was no complete message to it
        finally:
            writer.close()
            self._open.discard(task)
            if not self._open:
                self._all_closed.set()


async def _read_content(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if _CODING.search(head) is None:
        length = _LENGTH.search(head)
        return await reader.readexactly(int(length[1])) if length is not None else b""
    content = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        content += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return content
