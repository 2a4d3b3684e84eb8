"""Content as it arrives: chunked, gathered in pieces, or large and received straight into its own buffer.

Framing only; what the content means is the codec's. Made by `connection.py` when a head announces content.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Final

import httptools

from fastserve.config import KIB, MIB, Config
from fastserve.errors import RequestError
from fastserve.messages import CHUNKED, Head

# More than this still to come is worth a receiver of its own: uvloop reads at most 256 KB at a time, so less
# is two or three pieces.
LARGE_BYTES: Final = 256 * KIB
# How far the buffer for large content runs ahead of what has arrived. Zero-filled just before it is received
# into, it is still in the cache then; and memory follows what came, not what was promised.
GROWTH_BYTES: Final = MIB

# Chunk extensions in one message: what llhttp and Go bound too (RFC 9112 section 7.1.1).
MAX_EXTENSION_BYTES: Final = 16 * KIB
# Framing of one chunk: CRLF twice and up to 16 hex digits (64 bits).
CHUNK_FRAMING_BYTES: Final = 20

# llhttp reads a chunked message behind this, so that nothing of the peer's own header section bears on it.
_CHUNKED_HEAD: Final = b"POST / HTTP/1.1\r\nHost: content\r\nTransfer-Encoding: chunked\r\n\r\n"


class SizedContent:
    """Content of a known length, gathered from the reads it comes in."""

    __slots__ = ("_missing", "_pieces", "received")

    def __init__(self, length: int) -> None:
        self._pieces: list[bytes] = []
        self._missing = length
        self.received = 0

    @property
    def missing(self) -> int:
        """Bytes that have not arrived."""
        return self._missing

    def feed(self, received: bytes) -> bytes | None:
        """Take what arrived. Returns the bytes behind the content once it is complete, else None."""
        piece = received[: self._missing]
        self._pieces.append(piece)
        self._missing -= len(piece)
        self.received += len(piece)
        return None if self._missing else received[len(piece) :]

    def take(self) -> bytes:
        """All that has arrived, as one piece."""
        return b"".join(self._pieces)


class ChunkedContent:
    """Content in the chunked transfer coding (RFC 9112 section 7.1), decoded by llhttp.

    llhttp would read on into the next request. A chunked message always ends in CRLF CRLF, so it is fed up to
    each of those in turn and never past its end.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pieces: list[bytes] = []
        self._counted = 0  # pieces counted in content_bytes
        self._content_bytes = 0
        self._trailer_bytes = 0
        self._tail = b""  # the last bytes fed: a CRLF CRLF may be cut by a read
        self._is_complete = False
        self.received = 0
        self.on_body: Callable[[bytes], None] = self._pieces.append
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)
        self._trailer_bytes = 0  # the head's own fields were counted

    def on_message_complete(self) -> None:
        self._is_complete = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """The trailer section: counted and dropped, never merged into the header section (RFC 9110 6.5.1)."""
        self._trailer_bytes += len(name) + len(value) + 4

    def feed(self, received: bytes) -> bytes | None:
        """Take what arrived. Returns the bytes behind the message once it is complete, else None.

        Raises RequestError: 400 for bad framing, 413 for content over the limit, 431 for trailers over it.
        """
        start = 0
        while start < len(received):
            end = self._find_end(received, start)
            self._feed_parser(received[start:end])
            self._check_limits(end - start)
            if self._is_complete:
                return received[end:]
            start = end
        return None

    def take(self) -> bytes:
        """All content that has arrived, as one piece."""
        return b"".join(self._pieces)

    def close(self) -> None:
        """Let go of the parser, which holds this object."""
        del self._parser

    def _find_end(self, received: bytes, start: int) -> int:
        """Where the message may end next: behind a CRLF CRLF, also one that began in the read before."""
        if start == 0 and self._tail:
            seam = (self._tail + received[:3]).find(b"\r\n\r\n")
            if seam >= 0:
                return seam + 4 - len(self._tail)
        end = received.find(b"\r\n\r\n", start)
        if end < 0:
            self._tail = (self._tail + received[start:])[-3:]
            return len(received)
        self._tail = b""
        return end + 4

    def _feed_parser(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as error:
            raise RequestError(400, f"malformed chunked content: {error}") from None

    def _check_limits(self, fed: int) -> None:
        self.received += fed
        for piece in self._pieces[self._counted :]:
            self._content_bytes += len(piece)
        self._counted = len(self._pieces)
        if self._content_bytes > self._config.max_content_bytes:
            raise RequestError(413, f"content over {self._config.max_content_bytes} bytes")
        if self._trailer_bytes > self._config.max_header_bytes:
            raise RequestError(431, f"trailer section over {self._config.max_header_bytes} bytes")
        framing = self.received - self._content_bytes - self._trailer_bytes
        if framing > MAX_EXTENSION_BYTES + CHUNK_FRAMING_BYTES * (self._counted + 2):
            raise RequestError(413, f"over {MAX_EXTENSION_BYTES} bytes of chunk extensions")


Content = SizedContent | ChunkedContent


def content_for(head: Head, config: Config) -> Content:
    """What gathers the content that `head` announces."""
    return ChunkedContent(config) if head.content_length == CHUNKED else SizedContent(head.content_length)


class LargeReceiver(asyncio.BufferedProtocol):
    """Stands in for a connection while large content arrives, and receives it into one buffer without a copy.

    `io.BytesIO` is that buffer because its bytes can be received into in place and then taken as a `bytes`
    object without copying: 1 MB at 4 GB/s against 0.5 by gathering pieces, peak memory 1.1x the content.
    """

    __slots__ = ("_capacity", "_file", "_length", "_on_complete", "_owner", "received")

    def __init__(self, owner: asyncio.Protocol, content: SizedContent, on_complete: Callable[[], None]) -> None:
        """on_complete: called when the last byte has come; `take` may be called once it has returned."""
        self._owner = owner
        self._on_complete = on_complete
        self._length = content.received + content.missing
        self.received = content.received
        self._file = io.BytesIO()
        self._file.write(content.take())
        self._capacity = self.received

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._capacity == self.received:
            self._capacity = min(self._length, self.received + GROWTH_BYTES)
            self._file.seek(self._capacity - 1)
            self._file.write(b"\0")
        return self._file.getbuffer()[self.received : self._capacity]

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        if self.received == self._length:
            self._on_complete()

    def take(self) -> bytes:
        """All content. Not from within `buffer_updated`: the buffer must no longer be exported.

        (With a view of it alive, BytesIO would give out its spare capacity too.)
        """
        content = self._file.getvalue()
        self._file = io.BytesIO()
        assert len(content) == self._length, "a view of the buffer was still alive"
        return content

    def eof_received(self) -> bool | None:
        return self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        self._owner.resume_writing()
