"""One WebSocket connection: bytes to messages and back, backpressure, pings, the closing handshake.

Frames and their rules are the websockets library's, without I/O; what the model sees of it is `interface/`'s.
Made by `endpoints/websocket.py`, which the HTTP connection hands its transport to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State

from fastserve.http11.deadlines import TICK_S
from fastserve.http11.flow import Flow
from fastserve.http11.listener import Listener
from fastserve.options import KIB
from fastserve.websocket.assembly import Assembly
from fastserve.websocket.handshake import Handshake
from fastserve.websocket.inbox import Inbox
from fastserve.websocket.pings import Pings

# Given to the protocol at once: 1000 times as much when it inflates, before the model's share is looked at.
FEED_BYTES: Final = 16 * KIB
# Frames in one turn of the loop, 5 us each; then other connections have theirs.
FRAMES_A_TURN: Final = 256
# Pings answered while the peer does not read; their pongs wait in our memory.
MAX_UNSENT_PONGS: Final = 256
# Deflating holds the loop: 64 KiB for 1 to 3 ms, 4 MiB for 60 to 160 ms. What is larger goes out as it is, which
# the extension allows for each message (RFC 7692 section 6).
MAX_DEFLATED_BYTES: Final = 64 * KIB
# The library's own close_timeout: from our Close or the failure to the end of the TCP connection.
CLOSE_TIMEOUT_S: Final = 10.0
MAX_REASON_BYTES: Final = 123  # a control frame less the code (RFC 6455 section 5.5)


class Session(asyncio.Protocol):
    """interface.channel.Channel over one transport. All of it on the event loop's thread."""

    __slots__ = (
        "_assembly",
        "_closing_since",
        "_fed",
        "_flow",
        "_handshake",
        "_held",
        "_inbox",
        "_is_accepted",
        "_is_draining",
        "_listener",
        "_peer_sent_eof",
        "_pings",
        "_protocol",
        "_transport",
        "_unsent_pongs",
        "_will_feed",
        "_writable",
    )

    _transport: asyncio.Transport  # from connection_made on, which comes before any other callback
    _flow: Flow

    def __init__(self, listener: Listener, handshake: Handshake) -> None:
        config, now = listener.config, listener.deadlines.now
        self._listener = listener
        self._handshake = handshake
        self._protocol = handshake.protocol
        self._assembly = Assembly()
        self._pings = Pings(config.ping_interval_s, config.ping_timeout_s, now)
        self._held = b""  # what was received; empty once the protocol has all of it
        self._fed = 0  # bytes of it that the protocol has
        self._will_feed = False  # more of it goes to the protocol in the loop's next turn
        self._inbox = Inbox()  # it is over when the connection is: nothing further arrives or can be sent
        self._unsent_pongs = 0
        self._writable = asyncio.Event()
        self._peer_sent_eof = False
        self._is_accepted = False
        self._is_draining = listener.is_draining
        self._closing_since: float | None = None

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's own class
        self._transport = transport
        self._flow = Flow(transport)
        self._listener.enter(self, transport)

    def data_received(self, received: bytes) -> None:
        self._pings.hear(self._listener.deadlines.now)
        self._held = self._held[self._fed :] + received if self._held else received
        self._fed = 0
        self._feed()

    def eof_received(self) -> bool:
        self._peer_sent_eof = True
        self._feed()
        return True  # closed here, once what is held has been read

    def connection_lost(self, exc: Exception | None) -> None:
        self._held = b""
        self._protocol.receive_eof()
        self._end()
        self._listener.forget(self)

    def pause_writing(self) -> None:
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        self._flow.resume_writing()
        self._unsent_pongs = 0
        self._writable.set()
        self._feed()

    # --- called by the listener and the sweep ---

    def close_after_response(self) -> None:
        """It goes on until the drain."""

    def close_if_idle(self) -> None:
        """Drain: a method that waits for a message is told now, one at work when it asks for the next.

        So the answer to the message at hand is finished, as with HTTP, and an idle connection keeps nothing open.
        """
        self._is_draining = True
        if self._inbox.is_awaited:
            self._leave()

    def close_now(self) -> None:
        self._transport.abort()

    def reroute(self) -> None:
        """It has its method already."""

    def check_deadline(self, now: float) -> None:
        if self._flow.stalled_for(now) > self._listener.config.stall_timeout_s:
            self.close_now()
        elif self._closing_since is not None:
            if self._flow.has_unsent():
                self._closing_since = now  # the peer is still reading what came before our Close
            elif now - self._closing_since - TICK_S > CLOSE_TIMEOUT_S:
                self.close_now()
        elif self._is_accepted and not self._inbox.is_over:
            self._keep_alive(now)

    # --- called for the model (interface.channel.Channel) ---

    @property
    def client(self) -> tuple[str, int] | None:
        """Address of the peer; None on a Unix socket."""
        name = self._transport.get_extra_info("peername")
        return name[:2] if isinstance(name, tuple) else None

    @property
    def is_encrypted(self) -> bool:
        return self._transport.get_extra_info("ssl_object") is not None

    @property
    def ending(self) -> tuple[int, str]:
        """Close code and reason: the peer's, else ours, else 1006 (RFC 6455 section 7.1.5)."""
        close = self._protocol.close_rcvd or self._protocol.close_sent
        return (CloseCode.ABNORMAL_CLOSURE.value, "") if close is None else (int(close.code), close.reason)

    def accept(self, subprotocol: str | None = None, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Grant the handshake; nothing if that has been done. Raises ValueError for what is no header field."""
        if self._is_accepted or self._inbox.is_over:
            return
        self._handshake.accept(subprotocol, fields)
        self._is_accepted = True
        self._settle()
        self._feed()

    async def receive(self) -> str | bytes | None:
        """The next message; None when no further one comes, and then `ending` says why."""
        self.accept()
        if self._is_draining:
            self._leave()
        message = await self._inbox.take()
        self._feed()
        return message

    async def send(self, content: str | bytes) -> None:
        """Send a message, and wait until the peer has taken most of it. Raises ConnectionError if it has gone."""
        self.accept()
        await self._wait_writable()
        self._send_message(content)
        self._settle()
        # A method that only sends may never wait, and until it does nothing is on the wire, nor known who has left.
        await self._listener.turns.give()
        await self._wait_writable()

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Begin the closing handshake; nothing if it has begun. reason: cut at 123 bytes.

        Raises ValueError for a code that may not be sent (RFC 6455 section 7.4).
        """
        self.accept()
        if self._inbox.is_over:
            return
        try:
            self._protocol.send_close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
        except ProtocolError:
            raise ValueError(f"{code} is not a close code that can be sent") from None
        self._inbox.clear()
        self._settle()
        self._feed()

    # --- receiving ---

    def _feed(self) -> None:
        """Have the protocol read what is held, as far as the model keeps up; read on from the peer if so."""
        if self._will_feed or not self._is_accepted:
            return
        frames = 0
        while self._held and not self._is_full():
            if frames > FRAMES_A_TURN:
                self._will_feed = True
                self._listener.loop.call_soon(self._feed_on)
                break
            piece = self._held[self._fed : self._fed + FEED_BYTES]
            self._fed += len(piece)
            if self._fed == len(self._held):
                self._held = b""
                self._fed = 0
            self._protocol.receive_data(piece)
            frames += self._take_frames()
        self._go_on_reading()

    def _feed_on(self) -> None:
        self._will_feed = False
        self._feed()

    def _is_full(self) -> bool:
        """Whether the peer must wait: for the model to take messages, or for itself to take pongs."""
        if self._inbox.is_over:
            return False  # only its Close or its end is looked for
        return self._inbox.is_full or self._unsent_pongs > MAX_UNSENT_PONGS

    def _take_frames(self) -> int:
        """What the protocol made of the bytes it was given. Returns how many frames."""
        frames = self._protocol.events_received()
        for frame in frames:
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.PING:
                if not self._flow.is_writable:
                    self._unsent_pongs += 1
            elif frame.opcode is Opcode.PONG:
                self._pings.on_pong(bytes(frame.data))
            elif frame.opcode is not Opcode.CLOSE and not self._take_content(frame):
                break
        self._settle()
        return len(frames)

    def _take_content(self, frame: Frame) -> bool:
        """Returns whether there may be more."""
        if self._inbox.is_over:  # we have sent our Close: what crosses it is not wanted any more
            return False
        try:
            message = self._assembly.add(frame)
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "text that is not UTF-8")
            return False
        if message is not None:
            self._inbox.put(message)
        return True

    def _go_on_reading(self) -> None:
        if self._transport.is_closing():
            return
        if self._held or self._is_full():
            self._flow.pause_reading()
        elif self._peer_sent_eof:
            self._protocol.receive_eof()
            self._settle()
            self._transport.close()
        else:
            self._flow.resume_reading()

    # --- sending ---

    def _send_message(self, content: str | bytes) -> None:
        protocol = self._protocol
        extensions = protocol.extensions
        payload = content.encode() if isinstance(content, str) else content
        if len(payload) > MAX_DEFLATED_BYTES:
            protocol.extensions = []
        try:
            (protocol.send_text if isinstance(content, str) else protocol.send_binary)(payload)
        finally:
            protocol.extensions = extensions

    async def _wait_writable(self) -> None:
        """Until the peer keeps up. Raises ConnectionError if nothing can be sent any more."""
        while not self._flow.is_writable and not self._inbox.is_over:
            self._writable.clear()
            await self._writable.wait()
        if self._inbox.is_over:
            raise ConnectionError("the WebSocket is closed")

    def _settle(self) -> None:
        """Write what the protocol has to say, and see whether it is over."""
        for piece in self._protocol.data_to_send():
            if piece:
                self._transport.write(piece)
            else:
                self._shut_down()
        if self._protocol.state is State.CLOSING or self._protocol.state is State.CLOSED:
            self._end()
        if self._closing_since is None and self._protocol.close_expected():
            self._closing_since = self._listener.deadlines.now

    def _keep_alive(self, now: float) -> None:
        if not self._flow.is_reading or self._flow.has_unsent():
            self._pings.hear(now)  # its pong may wait in the kernel's buffer, or our ping in ours
        if self._pings.is_overdue(now):
            self._protocol.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")  # the library's own words
        elif self._pings.is_due(now):
            self._protocol.send_ping(self._pings.make(now))
        self._settle()

    # --- closing ---

    def _leave(self) -> None:
        self.close(CloseCode.SERVICE_RESTART, "the server is stopping")  # uvicorn's code

    def _shut_down(self) -> None:
        """Nothing is sent after this; the peer's own end is awaited, or a reset could destroy our Close."""
        if self._transport.can_write_eof() and not self._peer_sent_eof:
            self._transport.write_eof()
        else:
            self._transport.close()

    def _end(self) -> None:
        """Wake whoever waits: nothing further arrives or can be sent."""
        self._inbox.end()
        self._writable.set()
