"""How h11 reads a stream: the second opinion on where each request begins and ends, and what it asks for.

h11 takes more than fastserve does; but it must never read the same bytes in another way. Called by `judge.py`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import h11

from tests.fuzz.scenario import Expected

MAX_BYTES: Final = 2**24  # of a header section: limits are not what is asked about
# What h11 says of trailer fields that frame nothing, and that it reads as if they did. fastserve drops them.
TRAILER_COMPLAINTS: Final = ("Content-Length", "Transfer-Encoding")


class Opinion(NamedTuple):
    """requests: those that are complete, in order. end: why there are no more; None if h11 has no view on that."""

    requests: list[Expected]
    end: str | None


class _NoViewError(Exception):
    pass


def read_requests(raw: bytes) -> Opinion:
    """What h11 reads. Whether the connection persists is not asked: it closes after each request of HTTP/1.0."""
    requests: list[Expected] = []
    rest = raw
    while rest:
        rest = rest.removeprefix(b"\r\n")  # h11 takes no empty line before a request (RFC 9112 section 2.2 has one)
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_BYTES)
        server.receive_data(rest)
        try:
            request = _read_one(server)
        except h11.RemoteProtocolError as error:
            return Opinion(requests, f"refuses it: {error}")
        except _NoViewError:
            return Opinion(requests, None)
        if request is None:
            break
        requests.append(request)
        rest = bytes(server.trailing_data[0])
    return Opinion(requests, "waits for more")


def _read_one(server: h11.Connection) -> Expected | None:
    """The request; None if it is not complete."""
    event = server.next_event()
    if not isinstance(event, h11.Request):
        return None
    content = b""
    try:
        while isinstance(part := server.next_event(), h11.Data):
            content += bytes(part.data)
    except h11.RemoteProtocolError as error:
        if any(name in str(error) for name in TRAILER_COMPLAINTS):
            raise _NoViewError from None
        raise
    return Expected(event.method, event.target, content) if isinstance(part, h11.EndOfMessage) else None
