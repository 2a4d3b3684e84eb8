"""An encrypted connection: a protocol to the TCP transport below it, a transport to what speaks HTTP above.

uvloop's own TLS cannot end one direction alone, and does not count what the TCP transport holds as unsent, so that
answers would be cut. Made by `tls_handshake.py` for each peer. Source: RFC 8446.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from typing import Any, Final, cast

from fastserve.options import KIB

# As much as a record holds; less if the client asks for it (RFC 6066 section 4). OpenSSL goes record by record.
RECORD_BYTES: Final = 16 * KIB
# Encrypted before others have their turn of the loop: 256 KiB, which takes 0.3 ms with AES-GCM and with ChaCha20
# alike, the writes to TCP included (median of 240 turns over a loopback socket, 2-core VM).
TURN_RECORDS: Final = 16


class Encrypted(asyncio.Protocol, asyncio.Transport):
    """One connection, from the end of its handshake to its own.

    It ends as TCP does: the peer's side by a closure alert or without one, ours by an alert and then TCP's end.
    """

    __slots__ = (
        "_has_told_end",
        "_incoming",
        "_is_closing",
        "_is_ended",
        "_is_ending",
        "_is_reading",
        "_is_tcp_full",
        "_is_writable",
        "_loop",
        "_outgoing",
        "_peer_has_ended",
        "_protocol",
        "_tcp",
        "_tls",
        "_unsent",
        "_unsent_bytes",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tcp: asyncio.Transport,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        """incoming, outgoing: what `tls` reads, as it came by TCP, and what it writes."""
        self._loop = loop
        self._tcp = tcp
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing  # empty but for moments
        self._protocol: asyncio.BaseProtocol | None = None  # what is above, until the connection is lost
        self._is_reading = True  # it wants what comes
        self._peer_has_ended = False  # nothing further comes, by an alert or by TCP
        self._has_told_end = False
        self._unsent: deque[memoryview] = deque()  # plain text that waits
        self._unsent_bytes = 0
        self._is_tcp_full = False
        self._is_writable = True  # as what is above knows: nothing waits, here or below
        self._is_ending = False  # nothing further is written
        self._is_ended = False  # and all of it has been handed to TCP
        self._is_closing = False

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Let `protocol` be what is above; a request may have come with the last of the handshake."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._read()

    # --- called by asyncio, as a protocol ---

    def data_received(self, received: bytes) -> None:
        if not self._peer_has_ended:
            self._incoming.write(received)
            self._read()

    def eof_received(self) -> bool:
        """With or without a closure alert before it: requests say how long they are (RFC 9112 section 9.8)."""
        self._peer_has_ended = True  # not told to OpenSSL, to which it would be an error for good
        self._read()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_at_once()
        protocol, self._protocol = self._protocol, None  # each holds the other
        if protocol is not None:
            protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._is_tcp_full = True
        self._settle()

    def resume_writing(self) -> None:
        self._is_tcp_full = False
        self._send_unsent()

    # --- called by what is above, as a transport ---

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        if self._is_ending or not piece:
            return
        if self._is_writable and len(piece) <= RECORD_BYTES:
            count = self._encrypt(piece)
            self._flush()
            if count == len(piece) or self._is_ended:
                return
            piece = memoryview(piece)[count:]
        self._unsent.append(memoryview(piece))
        self._unsent_bytes += len(piece)
        if self._is_writable:
            self._send_unsent()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """End our side; the peer's goes on."""
        self._is_ending = True
        self._settle()

    def close(self) -> None:
        """Close once what is written has been sent."""
        self._is_ending = self._is_closing = True
        self.pause_reading()
        self._settle()

    def abort(self) -> None:
        self._end_at_once()
        self._tcp.abort()

    def is_closing(self) -> bool:
        return self._is_closing or self._tcp.is_closing()

    def pause_reading(self) -> None:
        self._is_reading = False
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        if not self._is_closing:
            self._is_reading = True
            self._tcp.resume_reading()
            self._loop.call_soon(self._read)  # what has come already

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes + self._tcp.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._tcp.get_extra_info(name, default)

    # --- reading ---

    def _read(self) -> None:
        """Hand on what can be decrypted, for as long as it is wanted; then that it was the last."""
        while self._is_reading and self._hand_on():
            pass
        if self._peer_has_ended and self._is_reading and not self._has_told_end:
            self._has_told_end = True
            cast(asyncio.Protocol, self._protocol).eof_received()
        self._flush()  # TLS itself may have something to say

    def _hand_on(self) -> bool:
        """Returns whether there may be more."""
        protocol, tls, incoming = self._protocol, self._tls, self._incoming
        if isinstance(protocol, asyncio.BufferedProtocol):
            count = self._decrypt_into(protocol)
            if count:
                protocol.buffer_updated(count)
        else:
            received = self._decrypt()
            count = len(received)
            if count:
                cast(asyncio.Protocol, protocol).data_received(received)
        return count > 0 and (incoming.pending > 0 or tls.pending() > 0 or self._peer_has_ended)

    def _decrypt(self) -> bytes:
        """As much as has come."""
        pieces: list[bytes] = []
        try:
            while piece := self._tls.read(RECORD_BYTES):
                pieces.append(piece)
                if not self._incoming.pending:  # to find so by another read takes longer than the whole of this one
                    break
            else:
                self._peer_has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._on_error(error)
        return b"".join(pieces)

    def _decrypt_into(self, protocol: asyncio.BufferedProtocol) -> int:
        """One record, or as much of it as there is room for. Returns the number of bytes."""
        count = 0
        try:
            with memoryview(protocol.get_buffer(-1)) as buffer:
                count = cast(int, self._tls.read(len(buffer), cast(bytearray, buffer)))
            self._peer_has_ended |= not count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._on_error(error)
        return count

    def _on_error(self, error: ssl.SSLError) -> None:
        if isinstance(error, ssl.SSLZeroReturnError):
            self._peer_has_ended = True
        else:
            self._fail()

    def _fail(self) -> None:
        """What came is not the peer's: tell it by an alert, and close."""
        self._flush()
        self._end_at_once()
        self._tcp.close()

    # --- writing ---

    def _send_unsent(self) -> None:
        """Encrypt what waits, as far as TCP takes it."""
        left = TURN_RECORDS
        while self._unsent and not self._is_tcp_full and left:
            left -= 1
            self._send_record()
        if self._unsent and not self._is_tcp_full:
            self._loop.call_soon(self._send_unsent)
        self._settle()

    def _send_record(self) -> None:
        view = self._unsent[0]
        count = self._encrypt(view[:RECORD_BYTES])
        if self._is_ended:  # it has failed, and nothing waits any more
            return
        if count == len(view):
            self._unsent.popleft()
        else:
            self._unsent[0] = view[count:]
        self._unsent_bytes -= count
        self._tcp.write(self._outgoing.read())

    def _encrypt(self, piece: bytes | bytearray | memoryview) -> int:
        """Returns how many bytes of it, or 0 if it has failed."""
        try:
            return self._tls.write(piece)
        except ssl.SSLError:
            # Such as SSLWantReadError: a part of a message of TLS's own has come (KeyUpdate, of 5 bytes: section
            # 4.6.3), and OpenSSL writes nothing before the rest. Nobody cuts it who wants an answer.
            self._fail()
            return 0

    def _settle(self) -> None:
        """Say whether more may be written, if that has changed; end our side if it is to end and nothing waits."""
        is_writable = not self._unsent and not self._is_tcp_full
        if is_writable is not self._is_writable:
            self._is_writable = is_writable
            if self._protocol is not None and is_writable:
                self._protocol.resume_writing()
            elif self._protocol is not None:
                self._protocol.pause_writing()
        if self._is_ending and not self._unsent:
            self._end()

    def _flush(self) -> None:
        piece = self._outgoing.read()
        if piece and not self._is_ended:
            self._tcp.write(piece)

    # --- ending ---

    def _end(self) -> None:
        if not self._is_ended:
            self._send_alert()
            self._is_ended = True
            if not self._is_closing:
                self._tcp.write_eof()
        if self._is_closing:
            self._tcp.close()

    def _send_alert(self) -> None:
        """Say that nothing further is sent (section 6.1), or the peer could not tell the end from a cut."""
        tls = self._tls
        # `unwrap` also looks for the peer's alert, and data that it finds instead would be an error for good.
        held = self._incoming.read()
        with contextlib.suppress(ssl.SSLError):
            while tls.pending():
                tls.read(RECORD_BYTES)  # content that nobody wants: what comes in other records is read on
            tls.unwrap()
        self._incoming.write(held)
        self._flush()

    def _end_at_once(self) -> None:
        self._is_ending = self._is_ended = self._is_closing = True
        self._is_reading = False
        self._unsent.clear()
        self._unsent_bytes = 0
