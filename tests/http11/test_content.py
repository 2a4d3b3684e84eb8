"""Chunked content against h11 and against hand-made mistakes; nothing is read past the end of a message."""

from __future__ import annotations

import itertools
import random
import resource
import tracemalloc
from pathlib import Path

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import Config
from fastserve.errors import RequestError
from fastserve.http11 import content as content_module
from fastserve.http11.connection import PROMPT_BURST
from fastserve.http11.content import (
    CHUNK_BURST,
    MAPPED_AFTER_BYTES,
    MAPPED_BYTES,
    MAX_EXTENSION_BYTES,
    ChunkedContent,
    LargeReceiver,
    SizedContent,
)
from fastserve.options import KIB, MIB
from tests.support.fakes import Peer


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def feed(raw: bytes, cuts: list[int], config: Config | None = None) -> tuple[bytes, bytes] | None:
    """(content, bytes behind the message), or None if it is not complete."""
    content = ChunkedContent(config or Config())
    edges = [0, *sorted({c % (len(raw) + 1) for c in cuts}), len(raw)]
    for start, end in itertools.pairwise(edges):
        at = start
        while at < end:
            at = start + content.feed(raw[start:end], at - start)
            if content.is_complete:
                return content.take(), raw[at:]
    return None


def encode(chunks: list[bytes], trailers: list[tuple[str, str]]) -> bytes:
    """The same content as h11 writes it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Transfer-Encoding", "chunked")]))
    pieces = [client.send(h11.Data(chunk)) for chunk in chunks if chunk]
    pieces.append(client.send(h11.EndOfMessage(headers=trailers)))
    return b"".join(p for p in pieces if p)


CRLF_RICH = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"0", b"\r\n\r\n", b"a"]), max_size=8).map(b"".join)


@given(
    chunks=st.lists(st.binary(max_size=40) | CRLF_RICH, max_size=6),
    trailers=st.lists(st.tuples(st.just("X-T"), st.sampled_from(["", "v"])), max_size=2),
    behind=st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"\r\n\r\n", b"0\r\n\r\n"]),
    cuts=st.lists(st.integers(0, 10_000), max_size=6),
)
def test_chunked_content_is_what_h11_sent_and_ends_where_it_ends(
    chunks: list[bytes], trailers: list[tuple[str, str]], behind: bytes, cuts: list[int]
) -> None:
    assert feed(encode(chunks, trailers) + behind, cuts) == (b"".join(chunks), behind)


@given(chunks=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4), cut=st.integers(0, 1000))
def test_a_part_of_chunked_content_is_not_taken_for_the_whole(chunks: list[bytes], cut: int) -> None:
    raw = encode(chunks, [])
    assert feed(raw[: cut % len(raw)], []) is None


def status_of(raw: bytes, config: Config) -> int:
    with pytest.raises(RequestError) as caught:
        feed(raw, [], config)
    return caught.value.status


def test_each_limit_holds_at_its_edge() -> None:
    config = Config(max_content_bytes=10, max_header_bytes=128)
    assert feed(b"a\r\n" + b"x" * 10 + b"\r\n0\r\n\r\n", [], config) == (b"x" * 10, b"")
    assert status_of(b"6\r\n" + b"x" * 6 + b"\r\n5\r\n" + b"x" * 5, config) == 413
    assert feed(b"0\r\nT: " + b"v" * 123 + b"\r\n\r\n", [], config) == (b"", b"")
    assert status_of(b"0\r\nT: " + b"v" * 125 + b"\r\n\r\n", config) == 431
    assert feed(b"1;" + b"e" * (MAX_EXTENSION_BYTES - 10) + b"\r\nx\r\n0\r\n\r\n", [], config) == (b"x", b"")
    assert status_of(b"1;" + b"e" * (MAX_EXTENSION_BYTES + 100) + b"\r\nx\r\n0\r\n\r\n", config) == 413


def test_many_tiny_chunks_are_content_and_not_extensions() -> None:
    raw = b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
    assert feed(raw, list(range(0, len(raw), 65536))) == (b"x" * 50_000, b"")


def test_a_flood_of_tiny_chunks_is_decoded_in_bursts() -> None:
    content = ChunkedContent(Config())
    raw = b"1\r\nx\r\n" * (3 * CHUNK_BURST)
    assert 0 < content.feed(raw, 0) <= 6 * CHUNK_BURST
    peer = Peer()
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + raw * 50 + b"0\r\n\r\n")
    assert peer.requests[0].content == b"x" * (150 * CHUNK_BURST)


def test_a_flood_of_tiny_chunks_gives_others_their_turn() -> None:
    peer = Peer()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    peer.connection.data_received(head + b"1\r\nx\r\n" * 100_000)
    content = peer.connection._content
    assert isinstance(content, ChunkedContent)
    assert content.received <= 6 * PROMPT_BURST * CHUNK_BURST
    assert not peer.transport.is_reading


def memory_of(content: ChunkedContent | SizedContent, read: bytes, count: int) -> int:
    """Bytes that `content` holds once it has been fed `read` so many times."""
    tracemalloc.start()
    try:
        for _ in range(count):
            at = 0
            while at < len(read):
                at = content.feed(read, at)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_tiny_chunks_take_no_more_memory_than_their_content() -> None:
    content = ChunkedContent(Config())
    assert memory_of(content, b"2\r\nab\r\n" * 100, 100) < 2 * 20_000
    content.feed(b"0\r\n\r\n", 0)
    assert content.take() == b"ab" * 10_000


def test_tiny_reads_take_no_more_memory_than_their_content() -> None:
    content = SizedContent(20_000)
    assert memory_of(content, b"ab", 10_000) < 2 * 20_000
    assert content.take() == b"ab" * 10_000


@pytest.mark.parametrize("received", [1, 1000, 300 * KIB, 3 * MIB, MAPPED_AFTER_BYTES - 1, MAPPED_AFTER_BYTES])
@pytest.mark.parametrize("length", [MAPPED_BYTES - 1, MAPPED_BYTES, 100 * MIB])
def test_room_for_large_content_follows_what_has_come_and_not_what_was_promised(received: int, length: int) -> None:
    content = SizedContent(length)
    content.feed(b"x" * received, 0)
    receiver = LargeReceiver(Peer().connection, content, lambda: None)
    with receiver.get_buffer(-1) as room:
        if received == MAPPED_AFTER_BYTES and length >= MAPPED_BYTES:
            assert len(room) == length - received
        else:
            assert 0 < len(room) <= min(max(received, 16 * KIB), MIB)


def test_room_for_all_of_it_takes_no_memory_before_it_has_come() -> None:
    began = resident_bytes()
    receivers = []
    for _ in range(5):
        content = SizedContent(100 * MIB)
        content.feed(bytes(MAPPED_AFTER_BYTES), 0)
        receivers.append(LargeReceiver(Peer().connection, content, lambda: None))
        with receivers[-1].get_buffer(-1) as room:
            assert len(room) == 96 * MIB
            room[: 300 * KIB] = bytes(300 * KIB)
    assert resident_bytes() - began < 5 * (MAPPED_AFTER_BYTES + MIB)


def test_without_room_for_all_of_it_at_once_it_is_received_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: int) -> bytes:
        raise MemoryError

    content = SizedContent(MAPPED_BYTES)
    content.feed(b"x" * MAPPED_AFTER_BYTES, 0)
    receiver = LargeReceiver(Peer().connection, content, lambda: None)
    monkeypatch.setitem(vars(content_module), "bytes", refuse)
    with receiver.get_buffer(-1) as room:
        assert len(room) == MIB


@pytest.mark.parametrize("length", [MAPPED_BYTES - 1, MAPPED_BYTES])
def test_large_content_is_what_came_before_and_after_its_receiver_took_over(length: int) -> None:
    whole = random.Random(1).randbytes(length)
    content = SizedContent(length)
    content.feed(whole[:1000], 0)
    receiver = LargeReceiver(Peer().connection, content, lambda: None)
    while receiver.received < length:
        with receiver.get_buffer(-1) as room:
            size = min(len(room), 5 * MIB)
            room[:size] = whole[receiver.received : receiver.received + size]
        receiver.buffer_updated(size)
    assert receiver.take() == whole
