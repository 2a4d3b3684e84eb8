"""fastserve puts one Python model behind HTTP: `fastserve ./my-model --port 8080`.

The names here are for models that do without starlette: what their methods may take, return and raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fastserve.interface.request import Request
    from fastserve.interface.responses import HTTPError, Response, StreamingResponse
    from fastserve.interface.trace_context import trace_context
    from fastserve.interface.websocket import WebSocket, WebSocketDisconnect

__all__ = [
    "HTTPError",
    "Request",
    "Response",
    "StreamingResponse",
    "WebSocket",
    "WebSocketDisconnect",
    "trace_context",
]

__version__ = "0.1.0"

_HOMES: Final = {
    "HTTPError": "fastserve.interface.responses",
    "Request": "fastserve.interface.request",
    "Response": "fastserve.interface.responses",
    "StreamingResponse": "fastserve.interface.responses",
    "WebSocket": "fastserve.interface.websocket",
    "WebSocketDisconnect": "fastserve.interface.websocket",
    "trace_context": "fastserve.interface.trace_context",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: the command itself needs none of them to start."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
