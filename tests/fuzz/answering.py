"""The ways in which a request can be answered, each as a generator that goes one step further whenever it is asked.

The answer holds what was asked for, so that a wrong one shows. Chosen by a byte; driven by `play.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from fastserve.messages import Request, Response

# More than a transport's high-water mark of 64 KiB: its peer has to read before anything else happens.
PADDING: Final = b"." * 70_000
EMPTY: Final = b""

Answer = Callable[[Request, bytes], Iterator[None]]


def echo_of(request: Request) -> bytes:
    """What the answer to `request` holds."""
    return b"%b %b %b" % (request.head.method, request.head.target, request.content)


def send_json(request: Request, echo: bytes) -> Iterator[None]:
    yield
    request.connection.send_json(request, echo)


def send_whole(request: Request, echo: bytes) -> Iterator[None]:
    yield
    request.connection.send_response(request, Response((200, b"text/plain"), echo, b"X-A: b\r\n"))


def send_pieces(request: Request, echo: bytes) -> Iterator[None]:
    yield
    request.connection.send_response(request, Response((201, b""), echo[:3], pieces=[memoryview(echo)[3:]]))


def send_nothing(request: Request, echo: bytes) -> Iterator[None]:
    yield
    request.connection.send_response(request, Response((204, b""), EMPTY))


def send_padded(request: Request, echo: bytes) -> Iterator[None]:
    yield
    request.connection.send_response(request, Response((200, b""), echo, pieces=[PADDING]))


def stream(request: Request, echo: bytes, length: int | None = None) -> Iterator[None]:
    connection = request.connection
    connection.send_head(request, Response((200, b"a/b"), EMPTY), length)
    for piece in (echo[:1], echo[1:4], echo[4:]):
        yield
        while not connection.can_write(request):
            yield
        connection.send_chunks(request, [piece])
    yield
    connection.send_end(request)


def stream_sized(request: Request, echo: bytes) -> Iterator[None]:
    yield from stream(request, echo, len(echo))


def stream_at_once(request: Request, echo: bytes) -> Iterator[None]:
    """A generator that yields nothing before its end."""
    yield
    request.connection.send_head(request, Response((200, b""), EMPTY))
    request.connection.send_chunks(request, [echo, PADDING])
    request.connection.send_end(request)


def cut_stream(request: Request, echo: bytes) -> Iterator[None]:
    request.connection.send_head(request, Response((200, b""), EMPTY))
    yield
    request.connection.send_chunks(request, [echo])
    yield
    request.connection.abort(request)


def cut_at_once(request: Request, echo: bytes) -> Iterator[None]:
    yield
    request.connection.abort(request)


# By the number in a manner; JSON, what nearly every answer is, is the plainest.
MANNERS: Final[tuple[Answer, ...]] = (
    *(send_json, send_whole, send_pieces, stream, stream, stream_sized, send_nothing, send_json),
    *(send_whole, stream, send_json, send_padded, send_pieces, stream_at_once, stream_sized, cut_stream),
    *(send_json,) * 15,
    cut_at_once,
)
# After these nothing follows: the response is incomplete, or is none.
CUTTING: Final = (cut_stream, cut_at_once)
# The close ends these for HTTP/1.0, which has no chunks.
UNSIZED: Final = (stream, stream_at_once, cut_stream)


def choose(manner: int, method: bytes) -> Answer:
    """The way of answering for one byte. HEAD is answered whole: no route of fastserve's streams to it."""
    answer = MANNERS[manner % len(MANNERS)]
    return send_whole if method == b"HEAD" else answer
