"""What crosses rooms: Head, Request, Response, and the two sides of an exchange that call each other.

Plain values; no parsing, no encoding, no I/O. `http11` makes requests, `endpoints` makes responses.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import orjson

from fastserve.logs import RequestIds
from fastserve.metrics import UNCOUNTED, EndpointMetrics

if TYPE_CHECKING:
    import asyncio

CHUNKED: Final = -1  # Head.content_length of a request in the chunked transfer coding

JSON: Final = b"application/json"
OCTET_STREAM: Final = b"application/octet-stream"
EVENT_STREAM: Final = b"text/event-stream"


class Head:
    """A parsed request line and header section. Never changed once made, so one may serve several requests.

    section: the bytes it was parsed from, up to and with the empty line.
    method, path: as bytes; path is percent-decoded, without the query.
    target: the request target as it came.
    fields: lower-case field name to value; repeated fields are joined by ", " (RFC 9110 section 5.3).
    content_length: bytes of content to come; 0 without content; CHUNKED if it is not known beforehand.
    message_size: bytes of section and content together; -1 for CHUNKED.
    is_http10: an HTTP/1.0 peer: no chunked transfer coding, no interim responses.
    keep_alive: the peer lets the connection persist (RFC 9112 section 9.3).
    expects_continue: the peer waits for 100 (Continue) before it sends the content (RFC 9110 section 10.1.1).
    request_id, chain_request_id: what the peer calls this request (Truss's names for the second), to be found again
        in logs; None if it does not say.
    is_named: log lines of these requests are to have an id.
    is_plain: nothing of it bears on how a response is written: not HEAD, not HTTP/1.0, the connection persists, the
        requests are not named.
    route: what answers it, filled in once by the router.
    """

    __slots__ = (
        "chain_request_id",
        "content_length",
        "expects_continue",
        "fields",
        "is_http10",
        "is_named",
        "is_plain",
        "keep_alive",
        "message_size",
        "method",
        "path",
        "request_id",
        "route",
        "section",
        "target",
    )

    def __init__(
        self,
        section: bytes,
        method: bytes,
        target: bytes,
        path: bytes,
        fields: dict[bytes, bytes],
        *,
        content_length: int = 0,
        is_http10: bool = False,
        keep_alive: bool = True,
        expects_continue: bool = False,
        is_named: bool = False,
    ) -> None:
        self.section = section
        self.method = method
        self.target = target
        self.path = path
        self.fields = fields
        self.content_length = content_length
        self.message_size = -1 if content_length == CHUNKED else len(section) + content_length
        self.is_http10 = is_http10
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.request_id = self.chain_request_id = None
        if not fields.keys().isdisjoint(_NAMES):  # looks up three, however many there are
            self.request_id = _name_in(fields, b"x-request-id") or _name_in(fields, b"x-baseten-request-id")
            self.chain_request_id = _name_in(fields, b"x-baseten-chain-request-id")
            is_named = is_named or self.request_id is not None or self.chain_request_id is not None
        self.is_named = is_named
        self.is_plain = keep_alive and not is_http10 and not is_named and method != b"HEAD"
        self.route: Route | None = None

    def with_fields(self, section: bytes, fields: dict[bytes, bytes], content_length: int) -> Head:
        """This head with other values of fields, none that a Listener calls meaningful, and other content to come.

        Its route is this one's if it has the same content length; else None. What the rest means is not asked again:
        that takes as many instructions as all else when a form is filled in, and to find the route half as many.
        """
        head = Head.__new__(Head)
        head.section = section
        head.method = self.method
        head.target = self.target
        head.path = self.path
        head.fields = fields
        head.content_length = content_length
        head.message_size = -1 if content_length == CHUNKED else len(section) + content_length
        head.is_http10 = self.is_http10
        head.keep_alive = self.keep_alive
        head.expects_continue = self.expects_continue
        head.request_id = self.request_id
        head.chain_request_id = self.chain_request_id
        head.is_named = self.is_named
        head.is_plain = self.is_plain
        head.route = self.route if content_length == self.content_length else None
        return head


_NAMES: Final = frozenset({b"x-request-id", b"x-baseten-request-id", b"x-baseten-chain-request-id"})
# What the parser, a Head itself and the router ever look at, but for Content-Length: the value of any other field
# has no bearing on the rest of a Head.
MEANINGFUL: Final = _NAMES | {
    b"host",
    b"transfer-encoding",
    b"content-encoding",
    b"content-type",
    b"connection",
    b"expect",
    b"x-request-timeout",
    b"x-server-timing",
}


def _name_in(fields: dict[bytes, bytes], field: bytes) -> bytes | None:
    """The name of a request that a peer gives, if it is one that can stand in a log line and be sent back."""
    name = fields.get(field)
    return name if name is not None and REQUEST_ID.fullmatch(name) else None


# Longer than every trace id in use; visible characters only.
REQUEST_ID: Final = re.compile(rb"[!-~]{1,200}")


_next_number: Final = itertools.count(1).__next__


class Request:
    """One complete request, and the way back to the connection it came on.

    content: the whole content, b"" without any.
    number: unlike that of any other request of this process; 0 until somebody asks for its `ids`.
    work: what is being done for it, told when the peer leaves or can take more; None while nothing runs.
    """

    __slots__ = ("connection", "content", "head", "number", "work")

    def __init__(self, head: Head, content: bytes, connection: Responder) -> None:
        self.head = head
        self.content = content
        self.connection = connection
        self.number = 0
        self.work: Work | None = None

    @property
    def ids(self) -> RequestIds:
        """What identifies it in log lines, and then in its answer."""
        self.number = self.number or _next_number()
        return self.head.request_id, self.head.chain_request_id, self.number, self.head.fields


class Response:
    """A response whose content is known.

    kind: (status code, Content-Type value); a Content-Type of b"" leaves the field out.
    content: all of it, or its beginning; left out on the wire for HEAD, and for a status that has none (204, 304).
    pieces: what follows `content`, to be sent from where it lies: views are of single bytes, and nobody may change
        their memory any more.
    fields: further header fields as complete lines, each ended by CRLF. Content-Length, Transfer-Encoding,
        Connection and Date are the encoder's and never stand here, but for the `Connection: Upgrade` of an Upgrade.
    """

    __slots__ = ("content", "fields", "kind", "pieces")

    def __init__(
        self, kind: tuple[int, bytes], content: bytes, fields: bytes = b"", pieces: Sequence[bytes | memoryview] = ()
    ) -> None:
        self.kind = kind
        self.content = content
        self.fields = fields
        self.pieces = pieces


class Addresses(NamedTuple):
    """Both ends of a connection: host and port; None where there are none, as on a Unix socket.

    is_encrypted: it speaks TLS.
    """

    client: tuple[str, int] | None
    server: tuple[str, int] | None
    is_encrypted: bool = False


class Responder(Protocol):
    """The connection, as those who answer a request see it.

    Every call names its request: a call for one that has been answered, or whose peer has gone, does nothing.
    All of it on the event loop's thread.
    """

    def send_json(self, request: Request, content: bytes) -> None:
        """Write a 200 (OK) with JSON as content, what nearly every answer is; the exchange is over."""
        ...

    def send_response(self, request: Request, response: Response) -> None:
        """Write all of `response`; the exchange is over."""
        ...

    def send_head(
        self, request: Request, response: Response, length: int | None = None, *, may_pause: bool = False
    ) -> None:
        """Write status line and header section; `length` bytes of content follow, or as many as come.

        may_pause: the content may pause for longer than the read timeout of streams.
        """
        ...

    def send_chunks(self, request: Request, chunks: Sequence[bytes]) -> None:
        """Write pieces of content, each at least 1 byte. Only after `send_head`."""
        ...

    def send_end(self, request: Request) -> None:
        """The content is complete; the exchange is over."""
        ...

    def abort(self, request: Request) -> None:
        """Close in such a way that the peer sees an incomplete message (RFC 9112 section 8)."""
        ...

    def addresses(self, request: Request) -> Addresses:
        """Both ends of the connection that `request` came on."""
        ...

    def can_write(self, request: Request) -> bool:
        """Whether the peer keeps up; if not, `Work.on_writable` says when it does again."""
        ...

    def is_unanswered(self, request: Request) -> bool:
        """Whether nothing of the response has been sent."""
        ...

    def upgrade(self, request: Request, make_protocol: Callable[[Any], asyncio.Protocol]) -> None:
        """Hand the transport to another protocol (RFC 9110 section 7.8); nothing of HTTP applies to it any more.

        make_protocol: given the listener. What it makes gets connection_made, then data_received with what came
        behind the request; it enters itself into the listener's connections.
        """
        ...


class Work(Protocol):
    """What is being done for a request, as the connection sees it."""

    def on_disconnect(self) -> None:
        """The peer has gone: nothing can be answered any more."""
        ...

    def on_writable(self) -> None:
        """The peer has read what was written; more may be sent."""
        ...

    def on_tick(self, elapsed_s: float) -> None:
        """The sweep comes by, while nothing of the response has been sent.

        elapsed_s: since the request was complete, or half a second less.
        """
        ...


class Route:
    """What the router found for a head.

    answer: called with the complete request; answers it now or later through request.connection.
    endpoint: where its answers are counted.
    is_refusal: no content is wanted: the answer is an error whatever the content may be.
    lacks_room: whether content as large as a head promises would be refused, for now; None if it never is.
    is_open: for everybody, also where others need an API key.
    is_quiet: a probe or scrape: they come every few seconds, and lines or spans of theirs would drown the rest.
    """

    __slots__ = ("answer", "endpoint", "is_open", "is_quiet", "is_refusal", "lacks_room")

    def __init__(
        self,
        answer: Callable[[Request], None],
        endpoint: EndpointMetrics = UNCOUNTED,
        *,
        is_refusal: bool = False,
        is_open: bool = False,
        is_quiet: bool = False,
        lacks_room: Callable[[Head], bool] | None = None,
    ) -> None:
        self.answer = answer
        self.endpoint = endpoint
        self.is_refusal = is_refusal
        self.is_open = is_open
        self.is_quiet = is_quiet
        self.lacks_room = lacks_room

    def with_answer(self, answer: Callable[[Request], None]) -> Route:
        """This route but for what answers it."""
        return Route(
            answer,
            self.endpoint,
            is_refusal=self.is_refusal,
            is_open=self.is_open,
            is_quiet=self.is_quiet,
            lacks_room=self.lacks_room,
        )

    def refuses(self, head: Head) -> bool:
        """Whether content that is still to come need not: `answer` is then called with none of it, and refuses."""
        return self.is_refusal or (self.lacks_room is not None and self.lacks_room(head))


def error_response(status: int, message: object, fields: bytes = b"") -> Response:
    """The JSON error body every refusal and failure has: {"error": message}."""
    return Response((status, JSON), encode_error(message), fields)


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """(field name, field value) pairs as complete lines, for Response.fields."""
    return b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in fields)


def encode_error(message: object) -> bytes:
    """{"error": message} as JSON. message: any value JSON can hold."""
    return orjson.dumps({"error": message}, option=orjson.OPT_NON_STR_KEYS)
