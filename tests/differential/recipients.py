"""What a recipient takes some bytes for, and the two that need no process: fastserve's own connection, and h11.

The bytes come in one read, and no more follow. Called by `compare.py`; nginx and HAProxy are in `front_ends.py`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import h11

from fastserve.options import KIB
from tests.support.fakes import Peer

_AUTHORITY = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://[^/?]*")


class Message(NamedTuple):
    """One complete request. target: without the authority, which a proxy may leave out or put in."""

    method: bytes
    target: bytes
    content: bytes


def message(method: bytes, target: bytes, content: bytes) -> Message:
    """A Message of a request target in any form."""
    rest = _AUTHORITY.sub(b"", target, count=1)
    return Message(method, rest if rest[:1] in (b"/", b"*") else b"/" + rest, content)


# Complete requests, in order. What was refused, or not complete, is not among them.
Taken = tuple[Message, ...]


def taken_by_fastserve(raw: bytes) -> Taken:
    """The requests that the connection hands to its routes."""
    peer = Peer()
    peer.send(raw)
    peer.end()
    return tuple(message(r.head.method, r.head.target, r.content) for r in peer.requests)


def taken_by_h11(raw: bytes) -> Taken:
    """The requests that h11 reads as a server that answers each with a 404."""
    # As much as fastserve takes, so that not every long section is a difference.
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=32 * KIB)
    server.receive_data(raw)
    server.receive_data(b"")
    taken: list[Message] = []
    while (request := _next_request(server)) is not None:
        taken.append(request)
        server.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
        server.send(h11.EndOfMessage())
        if server.our_state is not h11.DONE or server.their_state is not h11.DONE:
            break
        server.start_next_cycle()
    return tuple(taken)


def _next_request(server: h11.Connection) -> Message | None:
    head: h11.Request | None = None
    content = b""
    try:
        while not isinstance(event := server.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            else:
                return None
    except h11.RemoteProtocolError:
        return None
    assert head is not None
    return message(head.method, head.target, content)
