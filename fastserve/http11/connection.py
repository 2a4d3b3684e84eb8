"""One TCP connection: the order of its exchanges, keep-alive, deadlines, close.

Bytes in are `reader.py`'s, content `content.py`'s, bytes out `encoder.py`'s. Made by `server.py` for each peer; hands
each complete request to the route that the router found for its head.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from fastserve.errors import RequestError
from fastserve.http11.content import (
    LARGE_BYTES,
    Content,
    LargeReceiver,
    SizedContent,
    content_for,
)
from fastserve.http11.deadlines import TICK_S
from fastserve.http11.encoder import (
    CONTINUE,
    JOIN_BYTES,
    LAST_CHUNK,
    encode_chunks,
    encode_framing,
    encode_request_id,
)
from fastserve.http11.flow import Flow
from fastserve.http11.listener import Listener
from fastserve.http11.phase import MOVES, Phase
from fastserve.http11.reader import MessageReader
from fastserve.logs import REQUEST_IDS
from fastserve.messages import JSON, Addresses, Head, Request, Response, encode_fields, error_response
from fastserve.options import KIB

# After the last response the peer's bytes are read and dropped, or a reset could destroy the response before
# the peer has read it (RFC 9112 section 9.6): for this long and this much, as nginx and Apache do. Past that much
# they are left unread for the rest of the time: a proxy that cannot write on turns to the response, where a reset
# makes it a 502.
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 256 * KIB
# A drain waits this long for a request that is on its way: on a connection just made, or with bytes just arrived.
DRAIN_IDLE_S: Final = 1.0
# Refused content up to this is read off and the connection kept; above it the answer comes at once and closes.
READ_OFF_BYTES: Final = 256 * KIB
# Messages, or pieces of chunked content, taken as soon as they arrive: an ordinary request is one or two. More
# has its turn among others who have much: thirty floods that came at once held the loop for 30 ms.
PROMPT_BURST: Final = 2
# The same each time it goes on in a turn: 0.1 ms of requests that are answered at once.
PIPELINE_BURST: Final = 4

# Sent in the middle of a stream whose peer has sent EOF and may be gone: the first is answered with a reset then, the
# second fails. They are zeros before the size of the next chunk, which mean nothing (RFC 9112 section 7.1); not more
# of them, because clients bound the digits of a size (16 in Go, 20 in h11).
CHUNK_PROBE: Final = b"0"
CHUNK_PROBES: Final = 2
NO_CHUNK: Final = b"?"

SWITCHING_PROTOCOLS: Final = 101

_CONNECTION_CLOSE: Final = b"Connection: close\r\n"
_CONNECTION_KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"

_RECEIVING: Final = frozenset({Phase.IDLE, Phase.HEADER, Phase.CONTENT})
# For what every request passes: looking a member up in its enumeration costs as much as ten other attributes.
_IDLE: Final = Phase.IDLE
_RUNNING: Final = Phase.RUNNING

_logger: Final = logging.getLogger("fastserve.http11")


class Connection(asyncio.Protocol):
    """One peer. At most one exchange runs at a time; what is pipelined behind it waits unparsed."""

    __slots__ = (
        "_content",
        "_discarded",
        "_flow",
        "_is_advancing",
        "_is_chunked",
        "_listener",
        "_may_pause",
        "_peer_sent_eof",
        "_phase",
        "_probes_left",
        "_reader",
        "_request",
        "_since",
        "_transport",
        "_will_close",
    )

    _transport: asyncio.Transport  # from connection_made on, which comes before any other callback
    _flow: Flow

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._phase = Phase.IDLE
        self._since = listener.deadlines.now  # when this phase began, within a tick
        self._reader = MessageReader(listener)
        self._request: Request | None = None  # the one that is being answered
        self._content: Content | LargeReceiver | None = None  # while content arrives
        self._peer_sent_eof = False
        self._probes_left = CHUNK_PROBES
        self._will_close = False  # no exchange follows the present one
        self._is_advancing = False  # `_advance` is on the stack
        self._may_pause = False  # that response has no read timeout
        self._is_chunked = False  # the response that is being sent is in the chunked transfer coding
        self._discarded = 0  # bytes dropped while lingering

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's own class
        self._transport = transport
        self._flow = Flow(transport)
        self._listener.enter(self, transport)
        if self._listener.is_leaving:
            self.close_after_response()
        elif self._listener.is_draining:
            self.close_if_idle()

    def data_received(self, received: bytes) -> None:
        phase = self._phase
        reader = self._reader
        if phase is _IDLE and not reader.unread:
            # A keep-alive client mostly repeats its header section byte for byte. Then the Head is the one it
            # had before: 0.3 us instead of 5 to parse it again (bench/micro/parse.py).
            head = reader.head
            if len(received) == head.message_size:
                content = received.removeprefix(head.section)
                if content is not received:  # which CPython gives back itself where there is nothing to remove
                    self._run(Request(head, content, self))
                    return
            if reader.form is not None:  # or with a few values of it changed: half of what parsing it costs
                filled = reader.recognise_head(reader.form, received)
                if filled is not None and len(received) == filled.message_size:
                    self._run(Request(filled, received[len(filled.section) :], self))
                    return
        elif phase is Phase.LINGERING:
            self._discard(len(received))
            return
        elif phase is Phase.CLOSED:
            return
        reader.feed(received)
        if phase is Phase.RUNNING or phase is Phase.SENDING:
            self._flow.pause_reading()
        else:
            self._advance()

    def eof_received(self) -> bool:
        """The peer sends no more. What it asked in full is still answered (RFC 9112 section 9.6)."""
        self._peer_sent_eof = True
        unread = self._reader.unread
        if self._phase in (Phase.RUNNING, Phase.SENDING) or (self._phase is Phase.IDLE and unread):
            if not unread:  # else what is pipelined comes first, unless the present response is the last
                self._will_close = True
        else:
            self._close()
        return True  # keep our side open

    def connection_lost(self, exc: Exception | None) -> None:
        if self._phase is not Phase.CLOSED:
            self._move_to(Phase.CLOSED)
        if self._request is None and (self._flow.has_unsent() or not self._flow.is_writable):  # uvloop has dropped it
            self._listener.metrics.cancelled["response"] += 1
        self._listener.forget(self)
        self._content = None
        self._reader.take_all()
        self._drop_request()

    def pause_writing(self) -> None:
        self._flow.pause_writing()
        self._flow.pause_reading()  # a peer that does not read its answers may not ask for more

    def resume_writing(self) -> None:
        self._flow.resume_writing()
        request = self._request
        if request is not None and request.work is not None:
            request.work.on_writable()
        if self._phase in _RECEIVING:
            self._advance()
        elif not self._reader.unread and self._phase is not Phase.CLOSED:
            self._flow.resume_reading()

    # --- called by those who answer requests (messages.Responder) ---

    def send_json(self, request: Request, content: bytes) -> None:
        if request is not self._request:
            return
        if self._will_close or not request.head.is_plain or len(content) > JOIN_BYTES:
            self.send_response(request, Response((200, JSON), content))
            return
        listener = self._listener
        self._transport.write(listener.encoder.json_heads[len(content)] + content)
        request.head.route.endpoint.plain += 1  # type: ignore[union-attr]  # routed when it was parsed
        self._request = request.work = None  # each holds the other: nothing is left to the garbage collector
        self._phase = _IDLE  # `_move_to`, written out here and in `_run`: two frames less for each request
        self._since = listener.deadlines.now
        if self._reader.unread:
            self._go_on()

    def send_response(self, request: Request, response: Response) -> None:
        if request is not self._request:
            return
        head = request.head
        head.route.endpoint.others[response.kind[0]] += 1  # type: ignore[union-attr]
        for piece in self._listener.encoder.encode_response(
            response, encode_request_id(request) + self._connection_field(head), is_head=head.method == b"HEAD"
        ):
            self._transport.write(piece)
        self._end_exchange()

    def send_head(
        self, request: Request, response: Response, length: int | None = None, *, may_pause: bool = False
    ) -> None:
        if request is not self._request:
            return
        request.head.route.endpoint.others[response.kind[0]] += 1  # type: ignore[union-attr]
        self._may_pause = may_pause
        self._is_chunked = length is None and not request.head.is_http10
        if length is None and not self._is_chunked:
            self._will_close = True  # the close ends the content
        framing = encode_framing(length, is_chunked=self._is_chunked)
        fields = framing + encode_request_id(request) + self._connection_field(request.head)
        self._move_to(Phase.SENDING)
        self._transport.write(self._listener.encoder.encode_stream_head(response, fields))

    def send_chunks(self, request: Request, chunks: Sequence[bytes]) -> None:
        if request is not self._request:
            return
        self._since = self._listener.deadlines.now
        self._transport.write(encode_chunks(chunks) if self._is_chunked else b"".join(chunks))

    def send_end(self, request: Request) -> None:
        if request is not self._request:
            return
        if self._is_chunked:
            self._transport.write(LAST_CHUNK)
        self._end_exchange()

    def abort(self, request: Request) -> None:
        if request is not self._request:
            return
        self._request = request.work = None
        self._listener.metrics.aborted_streams += 1
        if request.head.is_http10 and self._phase is Phase.SENDING:
            self.close_now()
        else:
            if self._probes_left < CHUNK_PROBES:  # there are clients to whom a zero and the end are the last chunk
                self._transport.write(NO_CHUNK)
            self._close()

    def addresses(self, request: Request) -> Addresses:
        client, server = (self._transport.get_extra_info(name) for name in ("peername", "sockname"))
        is_encrypted = self._transport.get_extra_info("ssl_object") is not None
        # A Unix socket has a path, or nothing, instead of a pair; an IPv6 address has four parts.
        client, server = ((end[0], end[1]) if isinstance(end, tuple) else None for end in (client, server))
        return Addresses(client, server, is_encrypted)

    def can_write(self, request: Request) -> bool:
        return request is self._request and self._flow.is_writable

    def is_unanswered(self, request: Request) -> bool:
        return request is self._request and self._phase is Phase.RUNNING

    def upgrade(self, request: Request, make_protocol: Callable[[Listener], Any]) -> None:
        if request is not self._request:
            return
        self._request = request.work = None
        request.head.route.endpoint.others[SWITCHING_PROTOCOLS] += 1  # type: ignore[union-attr]
        unread = self._reader.take_all()
        protocol = make_protocol(self._listener)
        self._move_to(Phase.CLOSED)
        self._set_protocol(protocol)
        self._listener.hand_over(self, protocol)
        protocol.connection_made(self._transport)
        if not self._flow.is_writable:
            protocol.pause_writing()
        if unread:
            protocol.data_received(unread)
        if self._peer_sent_eof:
            protocol.eof_received()

    # --- called by the listener and the sweep ---

    def close_after_response(self) -> None:
        self._will_close = True

    def close_if_idle(self) -> None:
        """Close between exchanges; else make the present response the last.

        A request that has arrived and has not been read yet is answered: a close would be a reset to its peer. So is,
        by a server that was `leaving`, the first one on a connection that has just been made for it.
        """
        is_new = self._listener.is_leaving and self._reader.is_fresh
        if self._phase is not Phase.IDLE or self._reader.unread or is_new or self._flow.has_unread():
            self._will_close = True
        elif self._flow.has_unsent():
            self._linger()  # the next request may be there already: unread, it would turn the close into a reset
        else:
            self._close()

    def close_now(self) -> None:
        """Drop everything, what is written and not sent included."""
        if self._may_look_whole():
            self._flow.reset_on_close()
        if self._phase is not Phase.CLOSED:
            self._move_to(Phase.CLOSED)
        self._transport.abort()

    def reroute(self) -> None:
        self._reader.reroute()

    def check_deadline(self, now: float) -> None:
        config = self._listener.config
        elapsed = now - self._since - TICK_S  # `_since` may be a tick early; a deadline never is
        phase = self._phase
        if self._flow.stalled_for(now) > config.stall_timeout_s:
            self._listener.metrics.aborted_streams += phase is Phase.SENDING
            self.close_now()
        elif phase is Phase.IDLE:
            limit_s = DRAIN_IDLE_S if self._listener.is_draining else config.keep_alive_timeout_s
            if elapsed > limit_s and not self._reader.unread:
                if self._flow.has_unsent():
                    self._since = now  # the peer is still reading the response before
                else:
                    self._close()
        elif phase is Phase.HEADER:
            if elapsed > config.header_timeout_s:
                self._refuse(RequestError(408, f"no complete header section in {config.header_timeout_s:g} s"))
        elif phase is Phase.CONTENT:
            if elapsed > config.content_grace_s and self._received < elapsed * config.min_content_rate:
                self._refuse(RequestError(408, f"content slower than {config.min_content_rate} bytes/s"))
        elif phase is Phase.RUNNING:
            work = None if self._request is None else self._request.work
            if work is not None:
                work.on_tick(elapsed)
            if self._phase is phase and self._peer_sent_eof and not self._reader.head.is_http10 and elapsed > 0:
                # A peer that has left and one that only sends no more look alike until something is sent to them: the
                # first answers with a reset. Interim responses may be sent at any time (RFC 9110 section 15.2), and
                # 100 is the one that every client skips.
                self._transport.write(CONTINUE)
        elif phase is Phase.SENDING:
            if elapsed > config.streaming_read_timeout_s and self._flow.is_writable and not self._may_pause:
                self._cut_stream()
            elif self._peer_sent_eof and self._is_chunked and elapsed > 0 and self._probes_left:
                self._probes_left -= 1
                self._transport.write(CHUNK_PROBE)
        elif phase is Phase.LINGERING:
            if self._flow.has_unsent():
                self._since = now  # the peer is still reading the last response
            elif elapsed > LINGER_S:
                self.close_now()

    # --- receiving ---

    @property
    def _received(self) -> int:
        return 0 if self._content is None else self._content.received

    def _advance(self, burst: int = PROMPT_BURST) -> None:
        """Parse and run what has been received, message by message, while nothing is in flight; at most `burst`."""
        if self._is_advancing:  # an answer came while `_run` was on the stack: the loop below goes on
            return
        self._is_advancing = True
        try:
            while self._can_parse():
                if not burst:  # nothing is in flight, so no answer goes on before its turn
                    self._flow.pause_reading()
                    self._listener.turns.put(self._advance_in_turn)
                    return
                burst -= 1
                if not self._take_message():
                    break
            self._await_more()
        except RequestError as error:
            self._refuse(error)
        finally:
            self._is_advancing = False

    def _advance_in_turn(self) -> None:
        self._advance(PIPELINE_BURST)

    def _can_parse(self) -> bool:
        """Whether the next message may be looked at: there is one, nothing runs, the peer reads its answers."""
        return self._reader.unread != b"" and self._phase in _RECEIVING and self._flow.is_writable

    def _await_more(self) -> None:
        """Nothing can be parsed for now: read on, unless an answer must be finished or read first."""
        if not self._flow.is_writable or self._phase is Phase.CLOSED:
            return
        if self._peer_sent_eof and self._phase in _RECEIVING:
            self._close()
        elif not self._reader.unread or self._phase in _RECEIVING:
            self._flow.resume_reading()  # a running request's peer is listened to, too: it may leave

    def _take_message(self) -> bool:
        """Take one message, or what there is of it. Returns whether there may be another behind it."""
        if self._phase is Phase.CONTENT:
            return self._take_content()
        if not self._reader.take_head():
            if self._phase is Phase.IDLE:
                self._move_to(Phase.HEADER)
            return False
        head = self._reader.head
        content = self._reader.take_whole_content()
        if content is None:
            return self._await_content(head)
        self._run(Request(head, content, self))
        return True

    def _await_content(self, head: Head) -> bool:
        assert head.route is not None
        self._move_to(Phase.CONTENT)
        self._content = content_for(head, self._listener.config)
        if not self._reader.unread:
            if (head.expects_continue or head.content_length > READ_OFF_BYTES) and head.route.refuses(head):
                self._refuse_content(head)
            elif head.expects_continue:
                self._transport.write(CONTINUE)
        return self._reader.unread != b""

    def _take_content(self) -> bool:
        content = self._content
        assert content is not None and not isinstance(content, LargeReceiver)
        self._reader.feed_content(content)
        if content.is_complete:
            self._run_content(content.take())
        else:
            self._hand_over(content)
        return True

    def _hand_over(self, content: Content) -> None:
        """Content goes on: refuse what need not be read, let a receiver of its own take what is large."""
        head = self._reader.head
        assert head.route is not None
        if head.route.refuses(head):
            if content.received > READ_OFF_BYTES:
                self._refuse_content(head)
        elif isinstance(content, SizedContent) and content.missing > LARGE_BYTES and not self._reader.unread:
            self._content = LargeReceiver(self, content, self._on_large_content)
            self._set_protocol(self._content)

    def _on_large_content(self) -> None:
        self._flow.pause_reading()
        self._listener.loop.call_soon(self._take_large_content)

    def _take_large_content(self) -> None:
        receiver = self._content
        if isinstance(receiver, LargeReceiver) and self._phase is Phase.CONTENT:  # unless it was closed meanwhile
            content = receiver.take()
            self._set_protocol(self)
            self._run_content(content)
            self._advance()

    def _set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        # uvloop chooses between data_received and get_buffer when reading starts, so it has to start anew.
        self._flow.pause_reading()
        self._transport.set_protocol(protocol)
        self._flow.resume_reading()

    def _run_content(self, content: bytes) -> None:
        self._content = None
        self._run(Request(self._reader.head, content, self))

    # --- answering ---

    def _run(self, request: Request) -> None:
        self._request = request
        self._phase = _RUNNING
        self._since = self._listener.deadlines.now
        if self._peer_sent_eof and not self._reader.unread:
            self._will_close = True
        head = request.head
        try:
            if head.is_named:
                self._listener.context.copy().run(self._answer_named, request)
            else:
                head.route.answer(request)  # type: ignore[union-attr]  # routed when it was parsed
        except Exception:
            _logger.exception("a route failed; this is a bug of fastserve")
            self.send_response(request, error_response(500, "Internal Server Error"))

    def _answer_named(self, request: Request) -> None:
        """In a context of its own: the id is not to stand in the log lines of the connection's other requests."""
        REQUEST_IDS.set(request.ids)
        request.head.route.answer(request)  # type: ignore[union-attr]

    def _connection_field(self, head: Head) -> bytes:
        """The Connection field of the response to `head`; settles whether an exchange may follow it."""
        if self._will_close or not head.keep_alive:
            self._will_close = True
            return _CONNECTION_CLOSE
        return _CONNECTION_KEEP_ALIVE if head.is_http10 else b""

    def _end_exchange(self) -> None:
        assert self._request is not None
        self._request.work = None  # each holds the other
        self._request = None
        if self._will_close:
            self._linger()
            return
        self._move_to(Phase.IDLE)
        if self._reader.unread:
            self._go_on()

    def _go_on(self) -> None:
        """Look at what is pipelined; in a fresh context, since this may be a coroutine's, with what that has set."""
        if not self._is_advancing:
            self._listener.context.copy().run(self._advance)

    def _refuse(self, error: RequestError) -> None:
        """Answer what cannot be taken as a request: one response, then close; nothing behind it is parsed."""
        fields = encode_fields(error.fields) + self._listener.refusal_fields
        response = error_response(error.status, error.message, fields)
        self._listener.unrouted.others[error.status] += 1
        for piece in self._listener.encoder.encode_response(response, _CONNECTION_CLOSE, is_head=False):
            self._transport.write(piece)
        self._linger()

    def _refuse_content(self, head: Head) -> None:
        """Let the route refuse now; its content is not waited for, so the connection cannot persist."""
        self._content = None
        self._will_close = True
        self._run(Request(head, b"", self))

    def _cut_stream(self) -> None:
        """No chunk came for too long: the peer sees an incomplete message, the generator is closed."""
        request = self._request
        assert request is not None
        work = request.work
        self.abort(request)
        if work is not None:
            work.on_disconnect()

    def _drop_request(self) -> None:
        """Tell those at work that nobody waits for the answer any more."""
        request, self._request = self._request, None
        if request is not None and request.work is not None:
            work, request.work = request.work, None
            work.on_disconnect()

    # --- closing ---

    def _linger(self) -> None:
        """The last response is written: shut our side down and wait for the peer's, for a while."""
        if isinstance(self._content, LargeReceiver):
            self._set_protocol(self)
        self._content = None
        self._reader.take_all()
        if self._peer_sent_eof or not self._transport.can_write_eof():
            self._close()
            return
        self._move_to(Phase.LINGERING)
        self._transport.write_eof()
        self._flow.resume_reading()

    def _may_look_whole(self) -> bool:
        """Whether an orderly close could now end a response for its peer: only a reset says that it is not whole.

        The close ends content for HTTP/1.0, and there are clients to whom the zeros of a probe and the close do.
        """
        if self._phase is Phase.SENDING:
            return self._reader.head.is_http10 or self._probes_left < CHUNK_PROBES
        return self._reader.head.is_http10 and self._flow.has_unsent()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self._flow.pause_reading()

    def _close(self) -> None:
        """Close once what is written has been sent."""
        if self._phase is not Phase.CLOSED:
            self._move_to(Phase.CLOSED)
        self._transport.close()

    def _move_to(self, phase: Phase) -> None:
        assert phase in MOVES[self._phase], f"{self._phase.name} -> {phase.name}"
        self._phase = phase
        self._since = self._listener.deadlines.now
