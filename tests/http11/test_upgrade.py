"""A connection that hands its transport to another protocol: what goes with it, and what stays behind."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from fastserve.config import Config
from fastserve.http11.connection import PIPELINE_BURST
from fastserve.http11.content import LARGE_BYTES
from fastserve.messages import Request, Response
from tests.support.fakes import HIGH_WATER, Peer

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


class Other(asyncio.Protocol):
    """Records what it is told; known to the listener as long as it lives."""

    def __init__(self, listener: Any) -> None:
        self.listener = listener
        self.told: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append(transport)
        self.listener.enter(self, transport)

    def data_received(self, received: bytes) -> None:
        self.told.append(received)

    def eof_received(self) -> None:
        self.told.append("eof")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def check_deadline(self, now: float) -> None:
        pass


class UpgradingPeer(Peer):
    """A peer whose requests of /a are upgraded."""

    other: Other

    def answer(self, request: Request) -> None:
        if request.head.path != b"/a":
            super().answer(request)
            return
        request.connection.upgrade(request, self.make)

    def make(self, listener: Any) -> Other:
        self.other = Other(listener)
        return self.other


@pytest.mark.parametrize("cut", [1, 10, len(GET), len(GET) + 1, len(GET) + 5])
def test_what_comes_behind_the_request_goes_to_the_other_protocol(cut: int) -> None:
    peer = UpgradingPeer()
    sent = GET + b"behind" + GET
    peer.send(sent[:cut], sent[cut:])
    assert peer.other.told[0] is peer.transport
    assert b"".join(piece for piece in peer.other.told if isinstance(piece, bytes)) == b"behind" + GET
    assert peer.transport.protocol is peer.other
    assert peer.transport.sent == b""
    assert len(peer.requests) == 1


def test_requests_before_it_are_answered_and_those_with_content_may_upgrade_too() -> None:
    content = bytes(2 * LARGE_BYTES)
    post = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
    peer = UpgradingPeer()
    answered = peer.send(GET.replace(b"/a", b"/b") + post, content, b"behind")
    assert answered.endswith(b"/b ")
    assert peer.requests[1].content == content
    assert peer.other.told[1:] == [b"behind"]


def test_what_comes_behind_a_burst_that_ends_with_it_is_read() -> None:
    peer = UpgradingPeer()
    peer.send(GET.replace(b"/a", b"/b") * (PIPELINE_BURST - 1) + GET, b"behind")
    assert peer.other.told[1:] == [b"behind"]


def test_it_is_one_connection_all_the_while() -> None:
    counts: list[int] = []

    class Counting:
        def on_connection(self, count: int, transport: object) -> None:
            counts.append(count)

        def on_lost(self, count: int) -> None:
            counts.append(count)

    peer = UpgradingPeer()
    peer.listener.acceptor = cast(Any, Counting())
    peer.send(GET)
    assert counts == [1]
    assert [id(connection) for connection in peer.listener.connections] == [id(peer.other)]


def test_nothing_of_http_applies_any_more() -> None:
    peer = UpgradingPeer(Config(keep_alive_timeout_s=1.0, header_timeout_s=1.0))
    peer.send(GET)
    (known,) = peer.listener.connections
    assert known is peer.other  # type: ignore[comparison-overlap]
    peer.send(b"GET")
    peer.advance(1000)
    assert not peer.is_closed
    assert peer.transport.sent == b""


def test_a_peer_that_has_shut_its_side_down_is_told_of() -> None:
    peer = UpgradingPeer(answers_at_once=False)
    peer.send(GET)
    peer.end()
    peer.answer(peer.requests[0])
    assert peer.other.told[1:] == ["eof"]


def test_a_peer_that_does_not_read_is_told_of() -> None:
    peer = UpgradingPeer(answers_at_once=False)
    peer.send(GET)
    peer.transport.is_stalled = True
    peer.transport.write(b"*" * (HIGH_WATER + 1))
    peer.answer(peer.requests[0])
    assert peer.other.told[1:] == ["pause"]
    assert peer.transport.is_reading


@pytest.mark.parametrize("way", ["answered", "left"])
def test_a_request_that_is_over_upgrades_nothing(way: str) -> None:
    peer = UpgradingPeer(answers_at_once=False)
    peer.send(GET)
    (request,) = peer.requests
    if way == "answered":
        request.connection.send_response(request, Response((200, b""), b""))
    else:
        peer.leave()
    peer.answer(request)
    assert not hasattr(peer, "other")
    assert peer.transport.protocol is peer.connection


def test_the_work_of_the_request_is_not_told_of_a_disconnect() -> None:
    class Work:
        def on_disconnect(self) -> None:
            raise AssertionError

        def on_writable(self) -> None:
            raise AssertionError

        def on_tick(self, elapsed_s: float) -> None:
            raise AssertionError

    peer = UpgradingPeer(answers_at_once=False)
    peer.send(GET)
    peer.requests[0].work = Work()
    peer.answer(peer.requests[0])
    assert peer.requests[0].work is None
    peer.connection.connection_lost(None)
