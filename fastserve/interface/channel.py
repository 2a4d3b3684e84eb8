"""A WebSocket connection as `interface/` needs it, and the same as ASGI's pair of callables.

What `fastserve.WebSocket` and starlette's own class are made over. `websocket/session.py` is one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Channel(Protocol):
    """One WebSocket connection whose handshake is good."""

    @property
    def client(self) -> tuple[str, int] | None:
        """Address of the peer; None on a Unix socket."""
        ...

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS."""
        ...

    @property
    def ending(self) -> tuple[int, str]:
        """Close code and reason, once `receive` has returned None."""
        ...

    def accept(self, subprotocol: str | None, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Grant the handshake; nothing if that has been done."""
        ...

    async def receive(self) -> str | bytes | None:
        """The next message; None when no further one comes."""
        ...

    async def send(self, content: str | bytes) -> None:
        """Send a message, as the peer keeps up. Raises ConnectionError if it has gone."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; nothing if it has begun."""
        ...


def as_asgi(channel: Channel) -> tuple[Receive, Send]:
    """`receive` and `send` as the ASGI specification has them for websockets, after `websocket.connect`."""

    async def receive() -> Message:
        content = await channel.receive()
        if content is None:
            code, reason = channel.ending
            return {"type": "websocket.disconnect", "code": code, "reason": reason}
        return {"type": "websocket.receive", "text" if isinstance(content, str) else "bytes": content}

    async def send(message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            text = message.get("text")
            await channel.send(message["bytes"] if text is None else text)
        elif kind == "websocket.close":
            channel.close(message.get("code", 1000), message.get("reason") or "")
        elif kind == "websocket.accept":
            channel.accept(message.get("subprotocol"), message.get("headers", ()))
        else:
            raise RuntimeError(f"no message of a WebSocket: {kind!r}")

    return receive, send
