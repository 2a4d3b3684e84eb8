"""ASGI's view of one exchange, for what starlette needs of it: a scope, a receive that tells of disconnects.

Starlette is the model's own, reached through the classes it has imported. Called by `endpoints/prediction.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import unquote

from fastserve.interface.disconnection import Disconnection
from fastserve.messages import Addresses, Head

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]

# 2.4 lets starlette's StreamingResponse find out by a failing `send` that the client has gone, at its next chunk;
# up to 2.3 it cancels the generator in the middle.
_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}


def make_scope(head: Head, addresses: Addresses, state: dict[str, Any]) -> Scope:
    """The HTTP connection scope of the ASGI specification, version 3.0. state: what `request.state` holds."""
    target, _, query = head.target.partition(b"?")
    raw_path = target if target.startswith(b"/") else b"/" + target.partition(b"://")[2].partition(b"/")[2]
    path = unquote(raw_path.decode("latin-1"))
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": "1.0" if head.is_http10 else "1.1",
        "method": head.method.decode("latin-1"),
        "scheme": "https" if addresses.is_encrypted else "http",
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": list(head.fields.items()),
        "client": addresses.client,
        "server": addresses.server,
        "path_params": _read_path_params(path),
        "state": state,
    }


def _read_path_params(path: str) -> dict[str, str]:
    """Truss's one: {model_name} in /v1/models/{model_name}:predict."""
    name = path.removeprefix("/v1/models/")
    return {} if name == path else {"model_name": name.rpartition(":")[0]}


def make_receive(disconnection: Disconnection) -> Receive:
    """ASGI's `receive` once the content has been taken: all that can come is the client's leaving."""

    async def receive() -> Message:
        if not disconnection.has_happened:
            await disconnection.wait()
        return {"type": "http.disconnect"}

    return receive


def make_request(request_type: type, scope: Scope, receive: Receive, content: bytes) -> Any:
    """A starlette Request whose content is there already: `body`, `json`, `form` and `stream` need not receive."""
    request = request_type(scope, receive)
    request._body = content
    return request
