"""Response to bytes: status line, header fields, Content-Length or chunked.

Holds the `Date` of the second and the heads made with it. No I/O. Called by `connection.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from fastserve.logs import request_id
from fastserve.messages import JSON, Request, Response

LAST_CHUNK: Final = b"0\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUS_LINES: Final = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Written in two pieces instead of joined: above this the copy costs more than a second piece in the same
# writev.
JOIN_BYTES: Final = 64 * 1024


# Answers of one model have few lengths, or so many that looking them up in vain would be no gain.
KEPT_LENGTHS: Final = 1024


class JsonHeads(dict[int, bytes]):
    """The heads of a 200 with JSON content, by its length; made when they are first asked for."""

    __slots__ = ("_beginning",)

    def begin_with(self, beginning: bytes) -> None:
        """From now on. beginning: up to the value of Content-Length, the last field."""
        self._beginning = beginning
        self.clear()

    def __missing__(self, length: int) -> bytes:
        head = b"%b%d\r\n\r\n" % (self._beginning, length)
        if len(self) < KEPT_LENGTHS:
            self[length] = head
        return head


class Encoder:
    """Encodes responses; one for all connections, since only the second of the day varies.

    json_heads: what every 200 with JSON begins with.
    """

    __slots__ = ("_date", "_heads", "_second", "json_heads")

    def __init__(self) -> None:
        self._second = -1
        self.json_heads = JsonHeads()
        self._date = b""
        self._heads: dict[tuple[int, bytes], bytes] = {}
        self.refresh(time.time())

    def refresh(self, now: float) -> None:
        """Bring `Date` (RFC 9110 section 6.6.1) up to `now`, seconds since the epoch; at least once a second."""
        if int(now) != self._second:
            self._second = int(now)
            self._date = b"Date: %b\r\n" % format_date(now)
            self._heads.clear()
            self.json_heads.begin_with(self._encode_head((200, JSON)) + b"Content-Length: ")

    def encode_response(self, response: Response, connection: bytes, *, is_head: bool) -> list[bytes | memoryview]:
        """The whole of `response` as one or two pieces, and those it came with.

        connection: a complete Connection field line, or b"".
        is_head: the request was HEAD: all fields as for GET, no content (RFC 9110 section 9.3.2).
        """
        content, pieces = response.content, response.pieces
        status = response.kind[0]
        if status == 205:  # has no content, and says so (RFC 9110 section 15.3.6)
            content, pieces = b"", ()
        if status == 204 or status == 304:  # no Content-Length either (RFC 9110 section 8.6)
            return [self._encode_head(response.kind) + response.fields + connection + b"\r\n"]
        head = b"%b%b%bContent-Length: %d\r\n\r\n" % (
            self._heads.get(response.kind) or self._encode_head(response.kind),
            response.fields,
            connection,
            len(content) + sum(map(len, pieces)) if pieces else len(content),
        )
        if is_head:
            return [head]
        if pieces:
            return [head + content, *pieces]
        return [head + content] if len(content) < JOIN_BYTES else [head, content]

    def encode_stream_head(self, response: Response, fields: bytes) -> bytes:
        """The head of a response whose content follows. fields: lines for its framing and connection."""
        return self._encode_head(response.kind) + response.fields + fields + b"\r\n"

    def _encode_head(self, kind: tuple[int, bytes]) -> bytes:
        head = self._heads.get(kind)
        if head is None:
            status, content_type = kind
            line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
            head = line + self._date
            if content_type:
                head += b"Content-Type: %b\r\n" % content_type
            if len(self._heads) < 64:  # Content-Types come from user code: no growth without end
                self._heads[kind] = head
        return head


def format_date(now: float) -> bytes:
    """`now` as an IMF-fixdate (RFC 9110 section 5.6.7). In English whatever the locale, which strftime is not.

    (email.utils has the same, for 6 ms more at start.)
    """
    t = time.gmtime(now)
    date = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04}"
    return f"{date} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT".encode()


def encode_request_id(request: Request) -> bytes:
    """The X-Request-ID field line: the peer's own name for its request, or ours; b"" if it has not been named."""
    if not request.number:
        return b""
    return b"X-Request-ID: %b\r\n" % request_id(request.head.request_id, request.number)


def encode_framing(length: int | None, *, is_chunked: bool) -> bytes:
    """The field line that says where content ends; none if it is the close (for HTTP/1.0)."""
    if length is not None:
        return b"Content-Length: %d\r\n" % length
    return b"Transfer-Encoding: chunked\r\n" if is_chunked else b""


def encode_chunks(chunks: Sequence[bytes]) -> bytes:
    """Frame pieces of content in the chunked transfer coding, one chunk each.

    chunks: each at least 1 byte; an empty chunk would read as the last-chunk.
    Returns for each: chunk-size in hex, CRLF, content, CRLF. Source: RFC 9112 section 7.1.
    """
    return b"".join([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks])
