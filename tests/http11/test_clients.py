"""Connections counted by client, over those that come, go and are handed over."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from fastserve.config import Config
from fastserve.http11.clients import LimitedListener, client_of
from fastserve.http11.connection import Connection
from fastserve.messages import Head, Response, Route
from tests.support.fakes import FakeLoop, FakeTransport

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


class Addressed(FakeTransport):
    def __init__(self, peer: object) -> None:
        super().__init__()
        self._peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._peer if name == "peername" else None


def route(head: Head) -> Route:
    return Route(lambda request: request.connection.send_response(request, Response((200, b""), b"")))


class Scene:
    """A listener that takes two connections of each client."""

    def __init__(self) -> None:
        config = Config(max_connections_per_client=2)
        self.listener = LimitedListener(cast(asyncio.AbstractEventLoop, FakeLoop()), config, route)

    def connect(self, peer: object = ("10.0.0.1", 5)) -> tuple[Connection, Addressed]:
        connection, transport = Connection(self.listener), Addressed(peer)
        transport.protocol = connection
        connection.connection_made(cast(asyncio.Transport, transport))
        return connection, transport


def test_further_ones_are_closed_until_one_has_gone() -> None:
    scene = Scene()
    first, _ = scene.connect()
    scene.connect(("10.0.0.1", 6))
    refused, transport = scene.connect()
    assert transport.is_aborted
    refused.connection_lost(None)
    assert scene.connect()[1].is_aborted
    assert scene.listener.metrics.rejected == {"client_limit": 2}
    first.connection_lost(None)
    kept, transport = scene.connect()
    assert not transport.is_aborted
    kept.data_received(GET)
    assert transport.sent.startswith(b"HTTP/1.1 200 ")
    assert scene.connect()[1].is_aborted


def test_each_client_has_its_own() -> None:
    scene = Scene()
    for last in range(5):
        for port in (1, 2):
            assert not scene.connect((f"10.0.0.{last}", port))[1].is_aborted
    assert scene.connect(("10.0.0.3", 3))[1].is_aborted


@pytest.mark.parametrize("peer", ["", "/run/client.sock", None])
def test_who_has_no_address_is_not_counted(peer: object) -> None:
    scene = Scene()
    connections = [scene.connect(peer) for _ in range(5)]
    assert not any(transport.is_aborted for _, transport in connections)
    for connection, _ in connections:
        connection.connection_lost(None)
    assert not scene.listener.connections


def test_one_that_is_handed_over_is_one_still() -> None:
    scene = Scene()
    first, transport = scene.connect()
    successor = Connection(scene.listener)
    scene.listener.hand_over(first, successor)
    successor.connection_made(cast(asyncio.Transport, transport))
    assert not scene.connect()[1].is_aborted
    assert scene.connect()[1].is_aborted
    successor.connection_lost(None)
    assert not scene.connect()[1].is_aborted


def test_without_an_address_it_may_be_handed_over_too() -> None:
    scene = Scene()
    first, transport = scene.connect(None)
    scene.listener.hand_over(first, successor := Connection(scene.listener))
    successor.connection_made(cast(asyncio.Transport, transport))
    assert scene.listener.connections == {successor}


def test_clients_that_are_gone_are_forgotten() -> None:
    scene = Scene()
    for last in range(100):
        connection, _ = scene.connect((f"10.0.0.{last}", 1))
        connection.connection_lost(None)
    assert not scene.listener._counts
    assert not scene.listener._clients


def test_it_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    for _ in range(5):
        scene.connect()
    (record,) = caplog.records
    expected = "10.0.0.1 has 2 connections, as many as --max-connections-per-client allows"
    assert record.getMessage().startswith(expected)


def test_a_client_with_an_ipv6_network_is_one() -> None:
    assert client_of("2001:db8:1:2::1") == client_of("2001:db8:1:2:ffff::1")
    assert client_of("2001:db8:1:2::1") != client_of("2001:db8:1:3::1")
    assert client_of("fe80::1%eth0") == client_of("fe80::2")
    assert client_of("10.0.0.1") != client_of("10.0.0.2")
