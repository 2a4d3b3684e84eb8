"""The opening handshake: a request that asks for a WebSocket, checked, and the 101 that grants it.

A refusal is a RequestError, told over plain HTTP. `endpoints/websocket.py` reads; `session.py` accepts.
Source: RFC 6455 section 4.2.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Final

from websockets.extensions.permessage_deflate import enable_server_permessage_deflate
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from fastserve.config import MIB
from fastserve.errors import RequestError
from fastserve.messages import Head

# Truss's WS_MAX_MSG_SZ_BYTES, which cannot be set there either.
MAX_MESSAGE_BYTES: Final = 100 * MIB
VERSION: Final = "13"  # RFC 6455 section 4.1: the only one there is

# All that the library looks at. What else a request may hold it limits, or refuses, in its own way.
_FIELDS: Final = (
    b"upgrade",
    b"connection",
    b"origin",
    b"sec-websocket-key",
    b"sec-websocket-version",
    b"sec-websocket-protocol",
    b"sec-websocket-extensions",
)
_UPGRADE: Final = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
_FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# The library tells of each connection at info and of each frame, with its content, at debug: neither is for a log.
_logger: Final = logging.getLogger("fastserve.websocket.protocol")
_logger.setLevel(logging.WARNING)


class Handshake:
    """A handshake that is good and not answered yet. protocol: what every byte then goes through."""

    __slots__ = ("_response", "protocol")

    def __init__(self, protocol: ServerProtocol, response: Response) -> None:
        self.protocol = protocol
        self._response = response

    def accept(self, subprotocol: str | None, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Have `protocol` say 101 (Switching Protocols).

        subprotocol: one of those that the client offers. fields: further header fields.
        Raises ValueError for what is no header field.
        """
        pairs = [*fields]
        if subprotocol is not None:
            pairs.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
        for name, value in pairs:
            if _FIELD_NAME.fullmatch(name) is None or _FIELD_VALUE.fullmatch(value) is None:
                raise ValueError(f"not a header field: {name!r}: {value!r}")
        for name, value in pairs:
            self._response.headers[name.decode()] = value.decode("latin-1")
        self.protocol.send_response(self._response)


def read_handshake(head: Head, max_message_bytes: int = MAX_MESSAGE_BYTES) -> Handshake:
    """Check the request that `head` is.

    max_message_bytes: a longer message, inflated, ends the connection with 1009.
    Raises RequestError: 426 if it asks for something else, 400 if it is malformed.
    """
    options = [option.strip() for option in head.fields.get(b"connection", b"").lower().split(b",")]
    asked = head.fields.get(b"upgrade", b"").lower()
    # An HTTP/1.0 peer's Upgrade is ignored (RFC 9110 section 7.8).
    if head.is_http10 or b"upgrade" not in options or asked != b"websocket":
        raise RequestError(426, "this path speaks WebSocket alone", _UPGRADE)
    if head.fields.get(b"sec-websocket-version") != VERSION.encode():
        fields = (*_UPGRADE, ("Sec-WebSocket-Version", VERSION))
        raise RequestError(426, f"the only version of WebSocket spoken here is {VERSION}", fields)
    if head.content_length:
        raise RequestError(400, "a WebSocket handshake has no content")
    protocol = ServerProtocol(
        extensions=enable_server_permessage_deflate(None), max_size=max_message_bytes, logger=_logger
    )
    lines = [b"%b: %b\r\n" % (name, head.fields[name]) for name in _FIELDS if name in head.fields]
    protocol.receive_data(b"GET / HTTP/1.1\r\n%b\r\n" % b"".join(lines))
    for request in protocol.events_received():
        assert isinstance(request, Request)
        response = protocol.accept(request)
        if response.status_code == 101:
            return Handshake(protocol, response)
    field = getattr(protocol.handshake_exc, "name", "a field of the handshake")
    raise RequestError(400, f"{field} is missing or malformed (RFC 6455 section 4.2.1)")
