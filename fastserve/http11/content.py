"""Content as it arrives: chunked, gathered in pieces, or large and received straight into its own buffer.

Framing only; what the content means is the codec's. Made by `connection.py` when a head announces content.
"""

from __future__ import annotations

import asyncio
import enum
import io
import re
from collections.abc import Callable
from typing import Final

from fastserve.config import Config
from fastserve.errors import RequestError
from fastserve.http11.parser import TOKEN
from fastserve.messages import CHUNKED, Head
from fastserve.options import KIB, MIB

# More than this still to come is worth a receiver of its own: uvloop reads at most 256 KB at a time, so less
# is two or three pieces.
LARGE_BYTES: Final = 256 * KIB
# How far the buffer for large content runs ahead of what has arrived: as far again, between these. Zero-filled just
# before it is received into, it is still in the cache then; and memory follows what came, not what was promised: a
# thousand clients that promise 100 MiB and send one byte took 350 MiB when the buffer began with one.
LEAST_GROWTH_BYTES: Final = 16 * KIB
GROWTH_BYTES: Final = MIB
# From here on glibc maps a block of its own, whose pages are there once they are written to: then all of it is asked
# for at once, and nothing is zero-filled here. A buffer that grows beyond it is moved, and was there twice meanwhile.
MAPPED_BYTES: Final = 32 * MIB
# As much must have arrived before that: where memory that is asked for counts, promises alone are to take little.
MAPPED_AFTER_BYTES: Final = 4 * MIB
# Reads of a sender's tiny segments that are kept apart: an object takes 33 bytes besides its own.
MAX_PIECES: Final = 64

# Chunk extensions in one message, and the longest line: what llhttp and Go bound too (RFC 9112 section 7.1.1).
MAX_EXTENSION_BYTES: Final = 16 * KIB
# Chunks decoded at a time: 0.05 ms of the tiniest.
CHUNK_BURST: Final = 16

_EXTENSION_VALUE: Final = rb'(?:%b|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*")' % TOKEN
# chunk-size and extensions, without the white space that RFC 9112 section 7.1.1 lets senders put around `;` and `=`:
# none is known to, and recipients that differ on it have been tricked.
CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;%b(?:=%b)?)*)\r\n" % (TOKEN, _EXTENSION_VALUE))
PLAIN_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")  # nearly every one: a third of the time
CHUNK_LINE_PREFIX: Final = re.compile(rb"[0-9A-Fa-f]{0,16}(?:(?<=[0-9A-Fa-f])(?:;[^\r\n]*\r?|\r))?")
TRAILER_LINE: Final = re.compile(rb"%b:[\t -~\x80-\xff]*" % TOKEN)


class SizedContent:
    """Content of a known length, gathered from the reads it comes in. missing: bytes that have not arrived."""

    __slots__ = ("_pieces", "missing", "received")

    def __init__(self, length: int) -> None:
        self._pieces: list[bytes] = []
        self.missing = length
        self.received = 0

    @property
    def is_complete(self) -> bool:
        return not self.missing

    def feed(self, received: bytes, start: int) -> int:
        """Take what arrived from `start` on. Returns where the bytes that are not taken begin."""
        piece = received[start : start + self.missing]
        self._pieces.append(piece)
        if len(self._pieces) > MAX_PIECES:
            self._pieces = [b"".join(self._pieces)]
        self.missing -= len(piece)
        self.received += len(piece)
        return start + len(piece)

    def take(self) -> bytes:
        """All that has arrived, as one piece."""
        return b"".join(self._pieces)


class _Expected(enum.IntEnum):
    """What a chunked message goes on with. Data has a size and no end of line; the others are lines."""

    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    NOTHING = enum.auto()


class ChunkedContent:
    """Content in the chunked transfer coding (RFC 9112 section 7.1).

    Decoded here and not by llhttp, which reads on into the next request and does not say where the message ended.
    received: bytes of the coding that have arrived.
    """

    __slots__ = ("_config", "_content_bytes", "_expected", "_extension_bytes", "_file", "_line",
                 "_longest_line", "_missing", "_trailer_bytes", "_trailers", "received")  # fmt: skip

    def __init__(self, config: Config) -> None:
        self._config = config
        self._longest_line = max(MAX_EXTENSION_BYTES, config.max_header_bytes)
        self._file = io.BytesIO()  # a list of chunks of 2 bytes would take 22 times their content
        self._expected = _Expected.SIZE
        self._line = b""  # the line that is not complete
        self._missing = 0  # bytes of the present chunk's data
        self._content_bytes = 0
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._trailers = 0
        self.received = 0

    @property
    def is_complete(self) -> bool:
        return self._expected is _Expected.NOTHING

    def feed(self, received: bytes, start: int) -> int:
        """Take what arrived from `start` on, up to CHUNK_BURST chunks of it.

        Returns where the bytes that are not taken begin: the end of the message once `is_complete`.
        Raises RequestError: 400 for bad framing, 413 for content over the limit, 431 for trailers over it.
        """
        at, end = start, len(received)
        for _ in range(2 * CHUNK_BURST):
            if at == end or self.is_complete:
                break
            if self._expected is _Expected.DATA:
                at = self._take_data(received, at)
            elif (
                self._expected is _Expected.SIZE
                and not self._line
                and (plain := PLAIN_CHUNK_LINE.match(received, at))
            ):
                self._begin_chunk(int(plain[1], 16), 0)
                at = plain.end()
            else:
                at = self._take_line(received, at)
        self.received += at - start
        return at

    def take(self) -> bytes:
        """All content that has arrived, as one piece."""
        return self._file.getvalue()

    def _take_data(self, received: bytes, at: int) -> int:
        piece = received[at : at + self._missing]
        self._file.write(piece)
        self._missing -= len(piece)
        at += len(piece)
        if not self._missing:
            if received.startswith(b"\r\n", at):
                self._expected = _Expected.SIZE
                return at + 2
            self._expected = _Expected.DATA_END
        return at

    def _take_line(self, received: bytes, at: int) -> int:
        bound = at + self._longest_line + 1  # what is behind it is not looked at
        end = received.find(b"\n", at, bound) + 1
        line = self._line + received[at : end or bound]
        if not end:
            self._check_start(line)
            self._line = line
            return len(received)
        self._line = b""
        if self._expected is _Expected.SIZE:
            self._on_size(line)
        else:
            self._check_start(line)
            _check_end(line)
            self._on_line(line[:-2])
        return end

    def _check_start(self, line: bytes) -> None:
        """Refuse a line that cannot become a good one, complete or not."""
        if self._expected is _Expected.SIZE:
            if len(line) > MAX_EXTENSION_BYTES:
                raise RequestError(413, f"over {MAX_EXTENSION_BYTES} bytes of chunk extensions")
            if CHUNK_LINE_PREFIX.fullmatch(line.removesuffix(b"\n")) is None:
                raise RequestError(400, "malformed chunked content: a chunk size that is none")
        elif self._expected is _Expected.TRAILER:
            if line.strip(b"\r\n") and self._trailer_bytes + len(line) > self._config.max_header_bytes:
                raise RequestError(431, f"trailer section over {self._config.max_header_bytes} bytes")
        elif not b"\r\n".startswith(line):
            raise RequestError(400, "malformed chunked content: more data than the chunk size says")

    def _on_size(self, line: bytes) -> None:
        """line: with its CRLF."""
        match = CHUNK_LINE.fullmatch(line) if len(line) <= MAX_EXTENSION_BYTES else None
        if match is None:
            self._check_start(line)
            _check_end(line)
            raise RequestError(400, "malformed chunked content: a chunk extension that is none")
        self._begin_chunk(int(match[1], 16), len(match[2]))

    def _on_line(self, line: bytes) -> None:
        """line: without its CRLF, and not of a chunk's size."""
        if self._expected is _Expected.DATA_END:
            self._expected = _Expected.SIZE
        elif not line:
            self._expected = _Expected.NOTHING
        else:  # trailers are counted and dropped, never merged into the header section (RFC 9110 section 6.5.1)
            self._trailer_bytes += len(line) + 2
            self._trailers += 1
            if self._trailers > self._config.max_header_fields:
                raise RequestError(431, f"more than {self._config.max_header_fields} trailer fields")
            if TRAILER_LINE.fullmatch(line) is None:
                raise RequestError(400, "malformed chunked content: a trailer field that is none")

    def _begin_chunk(self, size: int, extension_bytes: int) -> None:
        self._extension_bytes += extension_bytes
        if self._extension_bytes > MAX_EXTENSION_BYTES:
            raise RequestError(413, f"over {MAX_EXTENSION_BYTES} bytes of chunk extensions")
        self._content_bytes += size
        if self._content_bytes > self._config.max_content_bytes:
            raise RequestError(413, f"content over {self._config.max_content_bytes} bytes")
        self._missing = size
        self._expected = _Expected.DATA if size else _Expected.TRAILER


def _check_end(line: bytes) -> None:
    if not line.endswith(b"\r\n"):
        raise RequestError(400, "malformed chunked content: a line that does not end in CRLF")


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
        if self._capacity == self.received and not self._map_all():
            self._grow()
        return self._file.getbuffer()[self.received : self._capacity]

    def _grow(self) -> None:
        growth = min(max(self.received, LEAST_GROWTH_BYTES), GROWTH_BYTES)
        self._capacity = min(self._length, self.received + growth)
        self._file.seek(self._capacity - 1)
        self._file.write(b"\0")

    def _map_all(self) -> bool:
        """Have room for all that is to come, if that is worth it and there is as much."""
        if self._length < MAPPED_BYTES or self.received < MAPPED_AFTER_BYTES:
            return False
        try:
            file = io.BytesIO(bytes(self._length))
        except MemoryError:
            return False
        file.write(self._file.getbuffer())
        self._file = file
        self._capacity = self._length
        return True

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
