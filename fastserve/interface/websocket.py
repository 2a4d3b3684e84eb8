"""`fastserve.WebSocket`: what a `websocket` method is given without starlette, by starlette's names.

Made by `endpoints/websocket.py`; accepted already when the method sees it.
"""

from __future__ import annotations

import enum
import json
import types
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from fastserve.interface.channel import Channel, Message, as_asgi
from fastserve.interface.request import Address, Fields, Pairs
from fastserve.messages import Head

# What `send` tells of a peer that has gone: no Close was seen (RFC 6455 section 7.1.5).
ABNORMAL_CLOSURE: Final = 1006


class WebSocketState(enum.Enum):
    """One side of a WebSocket."""

    CONNECTING = 0
    CONNECTED = 1
    DISCONNECTED = 2


class WebSocketDisconnect(Exception):  # noqa: N818 - starlette's name
    """The client has gone, or the server stops. code, reason: of the closing handshake (RFC 6455 section 7.4)."""

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        super().__init__(code, reason or "")
        self.code = code
        self.reason = reason or ""


class WebSocket:
    """One WebSocket connection, as a model's method sees it.

    url: absolute, made of the Host field. client: None on a Unix socket. headers, query_params: mappings.
    client_state: DISCONNECTED once the method has been told that no message comes any more.
    application_state: DISCONNECTED once the method has closed.
    """

    def __init__(self, head: Head, channel: Channel) -> None:
        self._channel = channel
        self._receive, self._send = as_asgi(channel)
        self.headers = Fields(head.fields)
        target = head.target.decode("latin-1")
        origin = f"{'wss' if channel.is_encrypted else 'ws'}://{self.headers.get('host', '')}"
        self.url = origin + target if target.startswith("/") else target
        self.query_params = Pairs(target.partition("?")[2])
        self.path_params: dict[str, str] = {}
        self.client = None if channel.client is None else Address(*channel.client)
        self.state = types.SimpleNamespace()
        self.client_state = self.application_state = WebSocketState.CONNECTED

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Not needed; to be heard, `subprotocol` and `headers` must come before anything else is awaited."""
        self._channel.accept(subprotocol, headers or ())

    async def receive(self) -> Message:
        """The next message as ASGI has it: `websocket.receive` or, once, `websocket.disconnect`."""
        if self.client_state is WebSocketState.DISCONNECTED:
            raise RuntimeError('Cannot call "receive" once a disconnect message has been received.')
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.client_state = WebSocketState.DISCONNECTED
        return message

    async def send(self, message: Message) -> None:
        """Send a message as ASGI has it: `websocket.send` or `websocket.close`.

        Waits until the client keeps up. Raises WebSocketDisconnect if it has gone.
        """
        if self.application_state is WebSocketState.DISCONNECTED:
            raise RuntimeError('Cannot call "send" once a close message has been sent.')
        if message["type"] == "websocket.close":
            self.application_state = WebSocketState.DISCONNECTED
        try:
            await self._send(message)
        except ConnectionError:
            self.application_state = WebSocketState.DISCONNECTED
            raise WebSocketDisconnect(ABNORMAL_CLOSURE) from None

    async def receive_text(self) -> str:
        """The next message. Raises WebSocketDisconnect, or TypeError if it is binary."""
        text: str = await self._receive_as("text")
        return text

    async def receive_bytes(self) -> bytes:
        """The next message. Raises WebSocketDisconnect, or TypeError if it is text."""
        content: bytes = await self._receive_as("bytes")
        return content

    async def receive_json(self, mode: str = "text") -> Any:
        """The next message, decoded. Raises ValueError if it is no JSON. mode: text or binary."""
        return json.loads(await self._receive_as("text" if _check_mode(mode) == "text" else "bytes"))

    async def send_text(self, data: str) -> None:
        await self.send({"type": "websocket.send", "text": data})

    async def send_bytes(self, data: bytes) -> None:
        await self.send({"type": "websocket.send", "bytes": data})

    async def send_json(self, data: Any, mode: str = "text") -> None:
        """Send `data` as JSON, in a message of the kind that `mode` says: text or binary."""
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        await (self.send_text(text) if _check_mode(mode) == "text" else self.send_bytes(text.encode()))

    async def iter_text(self) -> AsyncIterator[str]:
        """Every message until the client goes."""
        try:
            while True:
                yield await self.receive_text()
        except WebSocketDisconnect:
            return

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Every message until the client goes."""
        try:
            while True:
                yield await self.receive_bytes()
        except WebSocketDisconnect:
            return

    async def iter_json(self) -> AsyncIterator[Any]:
        """Every message until the client goes, decoded."""
        try:
            while True:
                yield await self.receive_json()
        except WebSocketDisconnect:
            return

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Begin the closing handshake. Raises ValueError for a code that may not be sent (RFC 6455 section 7.4)."""
        await self.send({"type": "websocket.close", "code": code, "reason": reason or ""})

    async def _receive_as(self, kind: str) -> Any:
        message = await self.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"], message["reason"])
        if kind not in message:
            raise TypeError(f"the client sent {'bytes' if kind == 'text' else 'text'}, not {kind}; see `receive`")
        return message[kind]


def _check_mode(mode: str) -> str:
    if mode not in ("text", "binary"):
        raise RuntimeError('The "mode" argument should be "text" or "binary".')
    return mode
