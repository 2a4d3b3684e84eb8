"""TLS between a peer and its connection, with a client that does as it is told: every cut, pause and way to end."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

import pytest

from fastserve.config import Config
from fastserve.http11.certificates import Certificates
from fastserve.http11.connection import LINGER_BYTES, LINGER_S
from fastserve.http11.content import LARGE_BYTES
from fastserve.http11.phase import Phase
from fastserve.http11.tls import RECORD_BYTES, TURN_RECORDS
from fastserve.http11.tls_handshake import Handshake
from fastserve.messages import Request, Response
from tests.support.fakes import HIGH_WATER, FakeTransport
from tests.support.tls import TlsClient, TlsPeer, make_certificate, shared_certificate

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LARGE = bytes(range(256)) * 4096  # 1 MiB


def post(content: bytes) -> bytes:
    return b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


def answer_with(peer: TlsPeer, content: bytes) -> None:
    request = peer.requests.pop()
    request.connection.send_response(request, Response((200, b""), content))


# --- the handshake ---


def test_handshake_and_requests_may_come_byte_by_byte() -> None:
    peer = TlsPeer(shakes=False)
    for byte in peer.client.begin():
        peer.send_raw(bytes([byte]))
    assert peer.client.is_open
    for byte in peer.client.encrypt(post(b"content")):
        peer.send_raw(bytes([byte]))
    assert peer.client.received.endswith(b"\r\n\r\n/a content")


def test_a_request_may_come_with_the_last_of_the_handshake() -> None:
    peer = TlsPeer(shakes=False)
    peer.tcp.protocol.data_received(peer.client.begin())
    finished = peer.client.feed(peer.tcp.sent)
    peer._taken = len(peer.tcp.sent)
    peer.send_raw(finished + peer.client.encrypt(post(b"1")))
    assert peer.client.received.endswith(b"\r\n\r\n/a 1")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken_with_http_1_1(version: ssl.TLSVersion) -> None:
    peer = TlsPeer(shakes=False)
    context = shared_certificate().trusting()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    peer.client = TlsClient(context)
    peer.send_raw(peer.client.begin())
    assert peer.client.tls.version() == version.name.replace("_", ".")
    assert peer.client.tls.selected_alpn_protocol() == "http/1.1"
    assert peer.send(GET).endswith(b"/a ")


def test_while_it_lasts_the_connection_is_counted_and_then_it_is_one_still() -> None:
    peer = TlsPeer(shakes=False)
    assert peer.listener.connections == {peer.server}
    peer.send_raw(peer.client.begin())
    assert peer.listener.connections == {peer.connection}
    peer.leave()
    assert not peer.listener.connections


@pytest.mark.parametrize("sends", [b"", b"\x16\x03\x01"])
def test_one_that_is_not_done_in_the_time_of_a_header_section_is_given_up(sends: bytes) -> None:
    peer = TlsPeer(Config(header_timeout_s=2.0), shakes=False)
    peer.send_raw(*([sends] if sends else []))
    peer.advance(2.0)
    assert not peer.tcp.is_aborted
    peer.advance(1.5)
    assert peer.tcp.is_aborted
    assert peer.listener.metrics.failed_handshakes == {"timeout": 1}
    peer.leave()
    assert not peer.listener.connections


@pytest.mark.parametrize(
    ("junk", "answer"),
    [
        (b"\x16\x03\x01\x00\x05hello", b"\x15"),  # RFC 8446 section 5.1: an alert
        (b"\x16junk that is none", b""),
        (b"\x16" * 100, b""),
    ],
)
def test_what_begins_like_one_and_is_none_is_closed(junk: bytes, answer: bytes) -> None:
    peer = TlsPeer(shakes=False)
    super(TlsPeer, peer).send(junk)
    assert peer.tcp.sent[:1] == answer
    assert peer.tcp.is_closing_now
    assert peer.listener.metrics.failed_handshakes == {"handshake": 1}
    peer.leave()
    assert not peer.listener.connections


def test_a_peer_that_leaves_in_the_middle_of_it_is_forgotten() -> None:
    peer = TlsPeer(shakes=False)
    peer.send_raw(peer.client.begin()[:20])
    assert not peer.server.eof_received()  # asyncio closes then
    peer.leave()
    assert not peer.listener.connections


def test_plain_http_is_answered_in_the_clear_and_waited_for() -> None:
    peer = TlsPeer(shakes=False)
    super(TlsPeer, peer).send(GET)
    assert peer.tcp.sent.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in peer.tcp.sent
    assert b"https://" in peer.tcp.sent
    assert peer.tcp.has_sent_eof
    super(TlsPeer, peer).send(GET * 1000)  # dropped: a reset could destroy the answer
    assert peer.tcp.sent.count(b"HTTP/1.1") == 1
    assert not peer.tcp.is_closing_now
    assert not peer.server.eof_received()
    peer.advance(12.0)
    assert peer.tcp.is_aborted
    assert not peer.requests
    assert peer.listener.metrics.failed_handshakes == {"not_tls": 1}


def test_a_flood_of_plain_http_is_left_unread() -> None:
    peer = TlsPeer(shakes=False)
    super(TlsPeer, peer).send(GET, bytes(LINGER_BYTES))
    assert peer.tcp.is_reading
    super(TlsPeer, peer).send(b"\0")
    assert not peer.tcp.is_reading


def test_a_drain_waits_for_no_handshake() -> None:
    peer = TlsPeer(shakes=False)
    peer.send_raw(peer.client.begin()[:20])
    peer.listener.drain()
    assert peer.tcp.is_aborted
    late = FakeTransport()
    Handshake(peer.listener, peer.certificates, lambda: None).connection_made(cast(asyncio.Transport, late))
    assert late.is_aborted


def test_routes_may_change_while_it_lasts() -> None:
    peer = TlsPeer(shakes=False)
    peer.listener.reroute()
    peer.send_raw(peer.client.begin())
    assert peer.send(GET).endswith(b"/a ")


# --- messages ---


def test_pipelined_requests_are_answered_in_order() -> None:
    peer = TlsPeer()
    assert peer.send(b"".join(post(b"%d" % number) for number in range(40))).count(b"HTTP/1.1 200") == 40
    assert [request.content for request in peer.requests] == [b"%d" % number for number in range(40)]


@pytest.mark.parametrize("size", [0, 1, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, len(LARGE)])
def test_content_of_any_size_comes_and_goes_whole(size: int) -> None:
    peer = TlsPeer()
    content = LARGE[:size]
    peer.send(post(content))
    peer.take()
    assert peer.requests[0].content == content
    assert peer.client.received.endswith(b"\r\n\r\n/a " + content)
    assert peer.send(GET).endswith(b"\r\n\r\n/a ")


def test_large_content_goes_to_its_receiver_and_what_is_behind_it_in_the_same_record_does_not() -> None:
    peer = TlsPeer()
    raw = post(LARGE) + GET + GET
    peer.send(raw[:1000], raw[1000:2000])
    assert peer.connection._phase is Phase.CONTENT
    assert peer.server._protocol is not peer.connection
    peer.send(raw[2000:])
    assert [request.content for request in peer.requests] == [LARGE, b"", b""]
    assert peer.server._protocol is peer.connection


def test_large_content_that_ends_too_early_runs_nothing() -> None:
    peer = TlsPeer()
    peer.send(post(LARGE)[: LARGE_BYTES // 2], LARGE[:100])
    peer.send_raw(peer.client.end())
    assert peer.tcp.is_closing_now
    assert not peer.requests


def test_what_a_large_answer_takes_others_have_turns_between() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET)
    answer_with(peer, LARGE)
    assert len(peer.tcp.sent) < (TURN_RECORDS + 1) * (RECORD_BYTES + 100)
    peer.loop.run_ready()
    peer.take()
    assert peer.client.received.endswith(LARGE)


def test_a_connection_knows_that_it_is_encrypted() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET)
    assert peer.requests[0].connection.addresses(peer.requests[0]).is_encrypted
    assert peer.server.get_extra_info("socket") is None


# --- a peer that does not read ---


def test_what_a_slow_reader_has_not_taken_waits_unencrypted_and_is_counted() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET)
    peer.tcp.is_stalled = True
    answer_with(peer, LARGE)
    peer.loop.run_ready()
    assert HIGH_WATER < peer.tcp.unsent < HIGH_WATER + 2 * RECORD_BYTES
    assert peer.server.get_write_buffer_size() >= len(LARGE)
    assert not peer.connection._flow.is_writable
    while peer.tcp.unsent:
        peer.tcp.read_all()
        peer.loop.run_ready()
    peer.take()
    assert peer.client.received.endswith(LARGE)
    assert peer.server.get_write_buffer_size() == 0
    assert peer.connection._flow.is_writable


def test_pieces_that_are_written_while_others_wait_keep_their_order() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET)
    peer.tcp.is_stalled = True
    (request,) = peer.requests
    connection = request.connection
    connection.send_head(request, Response((200, b""), b""), len(LARGE) + 20)
    connection.send_chunks(request, [LARGE])
    assert not connection.can_write(request)
    for number in range(10):
        connection.send_chunks(request, [b"%02d" % number])
    connection.send_end(request)
    while peer.tcp.unsent:
        peer.tcp.read_all()
        peer.loop.run_ready()
    peer.take()
    assert peer.client.received.endswith(LARGE + b"00010203040506070809")


def test_one_that_takes_nothing_for_the_stall_timeout_is_cut_off() -> None:
    peer = TlsPeer(Config(stall_timeout_s=5.0), answers_at_once=False)
    peer.send(GET)
    peer.tcp.is_stalled = True
    answer_with(peer, LARGE)
    peer.advance(4.0)
    assert not peer.tcp.is_aborted
    peer.advance(3.0)
    assert peer.tcp.is_aborted
    peer.leave()
    assert not peer.listener.connections
    assert not peer.server._unsent


def test_an_answer_that_the_tcp_transport_still_holds_is_waited_for_when_lingering() -> None:
    """uvloop's own TLS says that nothing is unsent then, and the answer would be destroyed."""
    peer = TlsPeer(answers_at_once=False)
    peer.send(LAST)
    peer.tcp.is_stalled = True
    answer_with(peer, b"x" * 1000)
    assert peer.tcp.has_sent_eof
    peer.advance(LINGER_S * 3)
    assert not peer.tcp.is_aborted
    peer.tcp.read_all()
    peer.advance(LINGER_S + 1.5)
    assert peer.tcp.is_aborted


def test_an_end_is_sent_behind_all_that_waits() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(LAST)
    peer.tcp.is_stalled = True
    answer_with(peer, LARGE)
    assert not peer.tcp.has_sent_eof
    while not peer.tcp.has_sent_eof:
        peer.tcp.read_all()
        peer.loop.run_ready()
    peer.take()
    assert peer.client.received.endswith(LARGE)
    assert peer.client.has_ended


# --- ends ---


def test_the_last_answer_ends_with_a_closure_alert_and_the_peer_s_is_waited_for() -> None:
    peer = TlsPeer()
    assert peer.send(LAST).endswith(b"/a ")
    assert peer.client.has_ended
    assert peer.tcp.has_sent_eof
    assert not peer.tcp.is_closing_now
    peer.send(b"what nobody reads " * 5000)
    assert len(peer.requests) == 1
    assert not peer.tcp.is_closing_now
    peer.send_raw(peer.client.end())
    assert peer.tcp.is_closing_now


def test_what_lies_unread_behind_the_last_request_does_not_spoil_the_end() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(LAST)
    peer.send_raw(b"".join(peer.client.encrypt(GET) for _ in range(3)))  # makes the connection pause
    peer.send_raw(b"".join(peer.client.encrypt(GET) for _ in range(3)))
    answer_with(peer, b"last")
    peer.loop.run_ready()
    peer.take()
    assert peer.client.received.endswith(b"last")
    assert peer.client.has_ended
    assert peer.connection._phase is Phase.LINGERING
    peer.send_raw(peer.client.end())
    assert peer.tcp.is_closing_now
    assert not peer.tcp.is_aborted


def test_what_lies_behind_the_large_content_of_the_last_request_does_not_either() -> None:
    peer = TlsPeer()
    last = post(LARGE).replace(b"Host: x", b"Host: x\r\nConnection: close")
    peer.send(last[:2000])
    peer.send_raw(peer.client.encrypt(last[2000:] + GET) + b"".join(peer.client.encrypt(GET) for _ in range(3)))
    assert peer.client.received.endswith(b"\r\n\r\n/a " + LARGE)
    assert peer.client.has_ended
    assert len(peer.requests) == 1
    assert peer.connection._phase is Phase.LINGERING
    peer.send_raw(peer.client.end())
    assert peer.tcp.is_closing_now
    assert not peer.tcp.is_aborted


def test_an_early_refusal_of_large_content_leaves_a_peer_that_goes_on_sending_its_answer() -> None:
    peer = TlsPeer(Config(max_content_bytes=10))
    peer.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + LARGE)
    assert peer.client.received.startswith(b"HTTP/1.1 413 ")
    assert peer.client.has_ended
    assert peer.connection._phase is Phase.LINGERING
    assert not peer.tcp.is_closing_now


@pytest.mark.parametrize("alerts", [True, False])
def test_a_peer_that_only_ends_its_own_side_gets_its_whole_answer(alerts: bool) -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(post(b"half"))
    if alerts:
        peer.send_raw(peer.client.end())
    else:
        peer.end()
    assert not peer.tcp.is_closing_now
    answer_with(peer, LARGE)
    peer.loop.run_ready()
    peer.take()
    assert peer.client.received.endswith(LARGE)
    assert peer.tcp.is_closing_now


def test_an_alert_and_then_the_end_of_tcp_are_one_end() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET)
    peer.send_raw(peer.client.end())
    peer.send_raw(b"behind the end")
    assert peer.server.eof_received()
    answer_with(peer, b"done")
    peer.take()
    assert peer.client.received.endswith(b"done")
    assert peer.tcp.is_closing_now


def test_an_end_that_comes_while_nothing_is_read_is_told_afterwards() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET)
    peer.send_raw(peer.client.encrypt(GET) + peer.client.end())
    assert not peer.tcp.is_reading
    assert not peer.connection._peer_sent_eof
    for number in range(2):
        answer_with(peer, b"%d" % number)
        peer.loop.run_ready()
    peer.take()
    assert peer.client.received.count(b"HTTP/1.1 200") == 2
    assert peer.tcp.is_closing_now


def test_bytes_that_nobody_encrypted_end_the_connection_with_an_alert() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET)
    sent = len(peer.tcp.sent)
    super(TlsPeer, peer).send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    assert peer.tcp.sent[sent : sent + 1] == b"\x17"  # an alert is encrypted by now
    assert peer.tcp.is_closing_now
    answer_with(peer, b"nobody gets this")
    assert b"nobody" not in peer.tcp.sent
    peer.leave()
    assert not peer.listener.connections


class AwaitingTheRest:
    """An SSLObject that has read a part of a KeyUpdate: OpenSSL writes nothing before it has the rest."""

    def write(self, piece: bytes) -> int:
        raise ssl.SSLWantReadError

    def unwrap(self) -> None:
        raise ssl.SSLError

    def pending(self) -> int:
        return 0


@pytest.mark.parametrize("is_large", [False, True])
def test_a_peer_that_sends_a_part_of_a_key_update_and_has_an_answer_to_come_is_closed(is_large: bool) -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET)
    peer.server._tls = AwaitingTheRest()
    answer_with(peer, LARGE if is_large else b"small")
    peer.loop.run_ready()
    assert peer.tcp.is_closing_now
    peer.leave()
    assert not peer.listener.connections


@pytest.mark.parametrize("comes", [b"\x17\x03\x03\x00\x20" + b"x" * 32, b""])
def test_large_content_that_is_broken_off_closes(comes: bytes) -> None:
    peer = TlsPeer()
    peer.send(post(LARGE)[:2000], LARGE[:2000])
    if comes:
        super(TlsPeer, peer).send(comes)
    else:
        peer.end()
    assert peer.tcp.is_closing_now
    assert not peer.requests
    peer.leave()
    assert not peer.listener.connections


def test_nothing_is_sent_once_it_has_been_lost() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET)
    sent = peer.tcp.sent
    peer.leave()
    answer_with(peer, b"late")
    peer.server.write(b"late")
    peer.server.close()
    peer.server.resume_reading()
    peer.loop.run_ready()
    assert peer.tcp.sent == sent


def test_an_idle_connection_is_drained_with_an_alert() -> None:
    peer = TlsPeer()
    peer.send(GET)
    peer.listener.drain()
    peer.take()
    assert peer.client.has_ended
    assert peer.tcp.is_closing_now


# --- another protocol ---


class Other(asyncio.Protocol):
    def __init__(self, listener: Any) -> None:
        self.received = b""
        self.listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.listener.enter(self, transport)

    def data_received(self, received: bytes) -> None:
        self.received += received
        self.transport.write(received)


def test_an_upgraded_connection_is_encrypted_still() -> None:
    peer = TlsPeer(answers_at_once=False)
    peer.send(GET + b"begun ")
    (request,) = peer.requests
    made: list[Other] = []

    def make(listener: Any) -> Other:
        made.append(Other(listener))
        return made[0]

    request.connection.upgrade(request, make)
    assert peer.send(b"and more") == b"begun and more"
    assert made[0].received == b"begun and more"
    assert peer.listener.connections == {cast(Any, made[0])}


# --- the certificate ---


def test_a_renewed_certificate_is_for_those_who_come_later(tmp_path: Any) -> None:
    made = make_certificate(tmp_path)
    certificates = Certificates(made.config)
    before = certificates.context
    made.certificate.write_text("none")
    certificates.reload()
    assert certificates.context is before
    make_certificate(tmp_path)
    certificates.reload()
    assert certificates.context is not before


def test_a_request_is_answered_by_no_more_than_one_response() -> None:
    """What is written after the end is dropped, as by asyncio's own transports."""
    peer = TlsPeer()
    peer.send(LAST)
    sent = len(peer.tcp.sent)
    peer.server.write(b"more")
    peer.server.write_eof()
    assert len(peer.tcp.sent) == sent


def test_requests_made_of_large_answers_and_a_reader_that_comes_and_goes() -> None:
    peer = TlsPeer(answers_at_once=False)

    def answer(request: Request) -> None:
        request.connection.send_response(request, Response((200, b""), LARGE[: 1000 * len(request.content)]))

    for size in (0, 1, 20, 100, 900, 3):
        peer.send(post(b"x" * size))
        peer.tcp.is_stalled = size % 2 == 0
        answer(peer.requests.pop())
        peer.loop.run_ready()
        peer.tcp.is_stalled = False
        while peer.tcp.unsent or peer.server._unsent:
            peer.tcp.read_all()
            peer.loop.run_ready()
        peer.take()
        assert peer.client.received.endswith(b"\r\n\r\n" + LARGE[: 1000 * size])
