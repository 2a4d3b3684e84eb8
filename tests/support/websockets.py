"""A WebSocket connection without a socket: raw frames in, raw frames out, a method that echoes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from fastserve.config import Config
from fastserve.http11.listener import Listener
from fastserve.messages import Request
from fastserve.turns import Turns
from fastserve.websocket.handshake import MAX_MESSAGE_BYTES, read_handshake
from fastserve.websocket.session import Session
from tests.support.fakes import Peer

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3, with what answers it
ACCEPT: Final = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MASK: Final = b"\x37\xfa\x21\x3d"


def handshake(**fields: str | None) -> bytes:
    """A handshake as a client sends it; `fields` (sec_websocket_key=...) replace its own, None leaves one out."""
    said: dict[str, str | None] = {
        "Host": "example.com",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    for name, value in fields.items():
        said = {k: v for k, v in said.items() if k.lower() != name.replace("_", "-")}
        said[name.replace("_", "-")] = value
    lines = [f"{name}: {value}\r\n" for name, value in said.items() if value is not None]
    return f"GET /v1/websocket HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """One frame as a client sends it (RFC 6455 section 5.2)."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    size, is_masked = len(payload), 0 if mask is None else 0x80
    if size < 126:
        head += bytes([is_masked | size])
    elif size < 1 << 16:
        head += bytes([is_masked | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([is_masked | 127]) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(b ^ m for b, m in zip(payload, itertools.cycle(mask), strict=False))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


class Sent(NamedTuple):
    """A frame that the server sent."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    @property
    def code(self) -> int:
        assert self.opcode == CLOSE
        return int.from_bytes(self.payload[:2], "big")


def read_frames(received: bytes) -> list[Sent]:
    """All of what a server sent, behind its 101. A server masks nothing (RFC 6455 section 5.1)."""
    frames = []
    at = 0
    while at < len(received):
        size, start = received[at + 1], at + 2
        assert size < 128, "masked"
        if size >= 126:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(received[start : start + width], "big"), start + width
        assert start + size <= len(received), "cut short"
        first = received[at]
        frames.append(Sent(first & 15, received[start : start + size], bool(first >> 7), first >> 4 & 7))
        at = start + size
    return frames


class WebSocketPeer(Peer):
    """A client on a real Connection that hands over to a real Session. session: there once the handshake is sent."""

    def __init__(
        self, config: Config | None = None, *, accepts: bool = True, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        super().__init__(config)
        self.session: Session
        self._accepts = accepts
        self._max_message_bytes = max_message_bytes

    def answer(self, request: Request) -> None:
        good = read_handshake(request.head, self._max_message_bytes)
        request.connection.upgrade(request, lambda listener: self._open(listener, good))

    def _open(self, listener: Listener, good: Any) -> Session:
        listener.turns = Turns(asyncio.get_running_loop())  # where the method runs
        self.session = Session(listener, good)
        if self._accepts:
            self.loop.call_soon(self.session.accept)
        return self.session

    @property
    def head(self) -> bytes:
        """The 101."""
        return self.transport.sent.partition(b"\r\n\r\n")[0]

    @property
    def frames(self) -> list[Sent]:
        return read_frames(self.transport.sent.partition(b"\r\n\r\n")[2])

    async def say(self, *pieces: bytes) -> list[Sent]:
        """Send pieces in one read each, and let the method do what it can. Returns all frames of the server's."""
        for piece in pieces:
            self.send(piece)
            await self.settle()
        return self.frames

    async def settle(self) -> None:
        """Until neither the server nor the method has anything to do."""
        idle = 0
        while idle < 4:
            await asyncio.sleep(0)
            idle = 0 if self.loop.run_ready() else idle + 1


async def echo(session: Session) -> None:
    while (message := await session.receive()) is not None:
        await session.send(message)


Method = Callable[[Session], Awaitable[None]]


def scene(
    play: Callable[[WebSocketPeer], Awaitable[None]], peer: Callable[[], WebSocketPeer] = WebSocketPeer
) -> None:
    """Run `play` with a client that has shaken hands."""

    async def run() -> None:
        client = peer()
        client.send(handshake())
        await play(client)

    asyncio.run(run())


def converse(
    *pieces: bytes, opening: bytes | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> WebSocketPeer:
    """What a client that sends `pieces` gets from a method that echoes."""
    peer = WebSocketPeer(max_message_bytes=max_message_bytes)

    async def run() -> None:
        peer.send(opening or handshake())
        task = asyncio.create_task(echo(peer.session))
        await peer.say(*pieces)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, ConnectionError), error  # it was sending when the client left

    asyncio.run(run())
    return peer
