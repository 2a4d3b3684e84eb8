"""Which WebSocket a model's method is given: ours, or a real one of starlette's if the model has imported that.

starlette itself is never imported here. Called by `endpoints/websocket.py`.
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote

from fastserve.interface.channel import Channel, as_asgi
from fastserve.interface.websocket import WebSocket, WebSocketDisconnect
from fastserve.messages import Head


def make_websocket(annotation: Any, head: Head, channel: Channel) -> Any:
    """The object for a method whose parameter is annotated with `annotation`, accepted already.

    The annotated class if it is ours or starlette's, or made of one; else starlette's if that is imported, else ours.
    """
    annotated: Any = annotation if isinstance(annotation, type) else object
    if issubclass(annotated, WebSocket):
        return annotated(head, channel)
    starlette = sys.modules.get("starlette.websockets")
    if starlette is None:
        return WebSocket(head, channel)
    receive, send = as_asgi(channel)
    made_of = annotated if issubclass(annotated, starlette.WebSocket) else starlette.WebSocket
    websocket = made_of(make_scope(head, channel), receive, send)
    websocket.client_state = websocket.application_state = starlette.WebSocketState.CONNECTED

    async def accept(subprotocol: str | None = None, headers: Any = None) -> None:
        channel.accept(subprotocol, headers or ())

    websocket.accept = accept  # the class's own would refuse a second one
    return websocket


def is_disconnect(error: BaseException) -> bool:
    """Whether `error` is what a method is told of a client that has gone: our exception or starlette's."""
    starlette = sys.modules.get("starlette.websockets")
    classes = (WebSocketDisconnect,) if starlette is None else (WebSocketDisconnect, starlette.WebSocketDisconnect)
    return isinstance(error, classes)


def make_scope(head: Head, channel: Channel) -> dict[str, Any]:
    """The connection scope of the ASGI specification (version 3.0) for websockets."""
    raw_path, _, query = head.target.partition(b"?")
    offered = head.fields.get(b"sec-websocket-protocol", b"").decode("latin-1")
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if channel.is_encrypted else "ws",
        "path": head.path.decode(errors="replace"),
        "raw_path": raw_path if raw_path.startswith(b"/") else quote(head.path).encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(head.fields.items()),
        "client": channel.client,
        "server": None,
        "subprotocols": [name.strip() for name in offered.split(",") if name.strip()],
        "path_params": {},
        "state": {},
        "extensions": {},
    }
