"""When accepting pauses and when it goes on, on a real loop and listening socket; what happens then, tests/server."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from fastserve.http11.acceptor import SPARE_DESCRIPTORS, UNSENT_BYTES, Acceptor, make_room, open_sockets

# A transport without a socket: its descriptor says nothing.
TRANSPORT = asyncio.BaseTransport()


@pytest.fixture
def with_acceptor() -> Iterator[Callable[[int, Callable[[Acceptor], None]], None]]:
    """Have a scene played with an acceptor of some capacity that has started."""
    loop = uvloop.new_event_loop()

    def play(capacity: int, scene: Callable[[Acceptor], None]) -> None:
        async def run() -> None:
            acceptor = Acceptor(loop, open_sockets("127.0.0.1", 0), asyncio.Protocol, capacity)
            await acceptor.start()
            scene(acceptor)
            acceptor.close()

        loop.run_until_complete(run())

    yield play
    loop.close()


@pytest.fixture(autouse=True)
def _same_limit() -> Iterator[None]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


Play = Callable[[int, Callable[[Acceptor], None]], None]


def test_it_pauses_at_its_capacity_and_goes_on_below(with_acceptor: Play) -> None:
    def scene(acceptor: Acceptor) -> None:
        acceptor.on_connection(1, TRANSPORT)
        assert acceptor.is_accepting
        acceptor.on_connection(2, TRANSPORT)
        assert not acceptor.is_accepting
        acceptor.check_room()
        assert not acceptor.is_accepting
        acceptor.on_lost(1)
        assert acceptor.is_accepting
        assert acceptor._metrics.paused == {"max_connections": 1}

    with_acceptor(2, scene)


def test_it_does_not_go_on_if_it_has_filled_again_before_it_could_nor_twice() -> None:
    loop = uvloop.new_event_loop()

    async def run() -> None:
        acceptor = Acceptor(loop, open_sockets("127.0.0.1", 0), asyncio.Protocol, 2)
        await acceptor.start()
        acceptor.on_connection(2, TRANSPORT)
        acceptor.on_lost(1)
        acceptor.on_connection(2, TRANSPORT)
        await asyncio.sleep(0)
        assert not acceptor.is_accepting
        acceptor.on_lost(1)
        acceptor.on_connection(2, TRANSPORT)
        acceptor.on_lost(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(acceptor._servers) == 1
        acceptor.close()

    loop.run_until_complete(run())
    loop.close()


def test_with_a_large_capacity_one_in_a_hundred_must_be_free_before_it_goes_on_at_once(with_acceptor: Play) -> None:
    def scene(acceptor: Acceptor) -> None:
        acceptor.on_connection(200, TRANSPORT)
        acceptor.on_lost(199)
        acceptor.on_lost(198)
        assert not acceptor.is_accepting
        acceptor.on_lost(197)
        assert acceptor.is_accepting
        acceptor.on_connection(200, TRANSPORT)
        acceptor.on_lost(199)
        acceptor.check_room()  # once in a while any room will do
        assert acceptor.is_accepting

    with_acceptor(200, scene)


def test_it_pauses_while_descriptors_are_short_whoever_has_them(with_acceptor: Play) -> None:
    def scene(acceptor: Acceptor) -> None:
        acceptor.check_room()
        assert acceptor.is_accepting
        held = [os.open("/dev/null", os.O_RDONLY)]
        acceptor._highest_fd = held[0]
        acceptor.check_room()
        assert not acceptor.is_accepting
        os.close(held.pop())
        acceptor._highest_fd += 1
        acceptor.check_room()
        assert acceptor.is_accepting
        assert acceptor._metrics.paused == {"descriptors": 1}

    with_acceptor(2, scene)


def test_without_any_descriptor_it_pauses_and_raises_nothing(with_acceptor: Play) -> None:
    def scene(acceptor: Acceptor) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        acceptor.check_room()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not acceptor.is_accepting

    with_acceptor(2, scene)


def test_once_closed_it_stays_closed(with_acceptor: Play) -> None:
    def scene(acceptor: Acceptor) -> None:
        acceptor.on_connection(2, TRANSPORT)
        acceptor.close()
        acceptor.on_lost(0)
        assert not acceptor.is_accepting

    with_acceptor(2, scene)


@pytest.mark.parametrize("has_room", [True, False])
def test_a_drain_takes_who_waits_already_if_there_is_room(has_room: bool) -> None:
    loop = uvloop.new_event_loop()
    made: list[asyncio.BaseTransport] = []

    class Noted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    async def run() -> None:
        listening = open_sockets("127.0.0.1", 0)
        address = listening[0].getsockname()
        acceptor = Acceptor(loop, listening, Noted, 2)
        await acceptor.start()
        if not has_room:
            acceptor.on_connection(2, TRANSPORT)
        peers = [socket.create_connection(address) for _ in range(3)]  # the loop has no turn meanwhile
        await acceptor.drain()
        assert len(made) == (3 if has_room else 0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for transport in made:
            transport.close()
        for peer in peers:
            peer.close()
        await asyncio.sleep(0)

    loop.run_until_complete(run())
    loop.close()


@pytest.mark.parametrize(
    ("soft", "capacity", "raised", "highest"),
    [
        (400, 100, 400, 400 - SPARE_DESCRIPTORS),  # enough as it is
        (200, 100, 100 + 2 * SPARE_DESCRIPTORS, 100 + SPARE_DESCRIPTORS),
        (64, 1, 1 + 2 * SPARE_DESCRIPTORS, 1 + SPARE_DESCRIPTORS),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_is_needed(soft: int, capacity: int, raised: int, highest: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert make_room(capacity) == highest
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised, hard)


def test_the_kernel_takes_little_of_what_nobody_reads() -> None:
    (listening,) = open_sockets("127.0.0.1", 0)
    with listening, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listening.getsockname())
        connection, _ = listening.accept()
        with connection:
            connection.setblocking(False)
            taken = 0
            with pytest.raises(BlockingIOError):
                while taken < 8 * UNSENT_BYTES:
                    taken += connection.send(bytes(UNSENT_BYTES // 8))
