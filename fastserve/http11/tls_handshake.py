"""The handshake that makes a TCP connection an encrypted one. Counted, timed and drained as any other connection is.

What follows is `tls.py`'s. Made by `entrance.py` for each peer, instead of a Connection. Source: RFC 8446.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

from fastserve.http11.certificates import Certificates
from fastserve.http11.connection import LINGER_BYTES
from fastserve.http11.deadlines import TICK_S
from fastserve.http11.listener import Listener
from fastserve.http11.tls import Encrypted
from fastserve.messages import error_response

# The first byte of a client that speaks TLS: the type of the record that a handshake comes in (section 5.1).
HANDSHAKE: Final = 0x16

# Why there was none: they did not agree, the peer spoke something else, it took too long.
FAILURES: Final = ("handshake", "not_tls", "timeout")

_CONNECTION_CLOSE: Final = b"Connection: close\r\n"


class Handshake(asyncio.Protocol):
    """One peer, until it has shaken hands."""

    __slots__ = ("_certificates", "_discarded", "_incoming", "_is_over", "_listener", "_make_connection", "_outgoing",
                 "_since", "_tcp", "_tls")  # fmt: skip

    _tcp: asyncio.Transport  # from connection_made on

    def __init__(self, listener: Listener, certificates: Certificates, make_connection: Callable[[], Any]) -> None:
        """make_connection: makes what speaks HTTP, which enters itself into the listener's connections."""
        self._listener = listener
        self._certificates = certificates
        self._make_connection = make_connection
        self._since = listener.deadlines.now
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None  # from the first byte on: who sends none takes little memory
        self._is_over = False  # without success
        self._discarded = 0  # bytes dropped since then

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's own class
        self._tcp = transport
        self._listener.enter(self, transport)
        if self._listener.is_draining:
            self.close_now()

    def data_received(self, received: bytes) -> None:
        if self._is_over:
            self._discard(len(received))
            return
        if self._tls is None:
            if received[0] != HANDSHAKE:
                self._refuse_plain()
                return
            self._tls = self._certificates.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(received)
        self._go_on(self._tls)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)

    # --- called by the listener and the sweep ---

    def close_after_response(self) -> None:
        """The connection that it makes does so."""

    def close_if_idle(self) -> None:
        self.close_now()  # no request can have come

    def close_now(self) -> None:
        self._is_over = True
        self._tcp.abort()

    def reroute(self) -> None:
        """No head has come."""

    def check_deadline(self, now: float) -> None:
        # It takes as many packets as a header section, or one more: what is long enough for the one is for the other.
        if now - self._since - TICK_S > self._listener.config.header_timeout_s:
            if not self._is_over:
                self._fail("timeout")
            self.close_now()

    # --- the handshake ---

    def _go_on(self, tls: ssl.SSLObject) -> None:
        is_done = False
        try:
            tls.do_handshake()
            is_done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._fail("handshake")
        self._tcp.write(self._outgoing.read())  # perhaps an alert
        if self._is_over:
            self._tcp.close()
        elif is_done:
            self._hand_over(tls)

    def _hand_over(self, tls: ssl.SSLObject) -> None:
        connection, tcp = self._make_connection(), self._tcp
        self._listener.hand_over(self, connection)
        encrypted = Encrypted(self._listener.loop, tcp, tls, self._incoming, self._outgoing)
        tcp.pause_reading()
        tcp.set_protocol(encrypted)
        tcp.resume_reading()
        encrypted.begin(connection)

    def _refuse_plain(self) -> None:
        """Say in the clear what is wrong, as nginx does: mostly an address with http:// that should be https://."""
        self._fail("not_tls")
        response = error_response(400, "TLS is spoken here: the address begins with https://")
        for piece in self._listener.encoder.encode_response(response, _CONNECTION_CLOSE, is_head=False):
            self._tcp.write(piece)
        self._tcp.write_eof()

    def _discard(self, size: int) -> None:
        """As a Connection does that lingers: what still comes is dropped, and then left unread."""
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self._tcp.pause_reading()  # until the deadline comes

    def _fail(self, reason: str) -> None:
        self._is_over = True
        self._listener.metrics.failed_handshakes[reason] += 1
