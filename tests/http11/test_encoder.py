"""Responses as bytes, read back by h11."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.http11.encoder import JOIN_BYTES, KEPT_LENGTHS, Encoder, encode_chunks, encode_framing
from fastserve.messages import Response
from tests.support.answers import read_answers

CLOSE = b"Connection: close\r\n"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=10))
def test_chunks_are_read_back_by_h11_as_they_were(chunks: list[bytes]) -> None:
    head = Encoder().encode_stream_head(Response((200, b"a/b"), b""), encode_framing(None, is_chunked=True))
    (answer,) = read_answers(head + encode_chunks(chunks) + b"0\r\n\r\n", [b"GET"])
    assert answer.content == b"".join(chunks)
    assert answer.is_complete


@pytest.mark.parametrize("size", [0, 1, JOIN_BYTES - 1, JOIN_BYTES, JOIN_BYTES + 1])
def test_a_response_is_whole_at_any_size(size: int) -> None:
    pieces = Encoder().encode_response(Response((200, b"a/b"), b"x" * size, b"X-Y: z\r\n"), CLOSE, is_head=False)
    assert len(pieces) == (1 if size < JOIN_BYTES else 2)
    (answer,) = read_answers(b"".join(pieces), [b"GET"])
    assert answer.content == b"x" * size
    assert {
        "x-y": "z",
        "connection": "close",
        "content-type": "a/b",
        "content-length": str(size),
    }.items() <= answer.fields.items()


@pytest.mark.parametrize("content", [b"", b"begin"])
@pytest.mark.parametrize("sizes", [[1], [0], [0, 3, JOIN_BYTES], [1] * 100])
def test_pieces_follow_the_content_and_are_not_copied(content: bytes, sizes: list[int]) -> None:
    pieces = [memoryview(bytearray(b"x" * size)) for size in sizes]
    head, *rest = Encoder().encode_response(Response((200, b"a/b"), content, b"", pieces), b"", is_head=False)
    assert all(sent is piece for sent, piece in zip(rest, pieces, strict=True))
    (answer,) = read_answers(b"".join([head, *rest]), [b"GET"])
    assert answer.content == content + b"x" * sum(sizes)
    assert answer.is_complete


def test_head_has_the_length_of_all_pieces_and_none_of_them() -> None:
    response = Response((200, b""), b"12", pieces=[b"345", memoryview(b"6")])
    (piece,) = Encoder().encode_response(response, b"", is_head=True)
    assert b"\r\nContent-Length: 6\r\n" in piece
    (answer,) = read_answers(bytes(piece), [b"HEAD"])
    assert answer.is_complete
    assert answer.content == b""


def test_a_205_says_that_it_has_no_content() -> None:
    (piece,) = Encoder().encode_response(Response((205, b"a/b"), b"dropped"), b"", is_head=False)
    head, _, content = bytes(piece).partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: 0" in head
    assert content == b""


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_content_has_neither_content_nor_its_length(status: int) -> None:
    pieces = Encoder().encode_response(Response((status, b""), b"", pieces=[b"x"]), b"", is_head=False)
    (answer,) = read_answers(b"".join(pieces), [b"GET"])
    assert "content-length" not in answer.fields
    assert answer.is_complete


def test_an_unknown_status_has_a_status_line() -> None:
    (piece,) = Encoder().encode_response(Response((299, b""), b""), b"", is_head=False)
    assert bytes(piece).startswith(b"HTTP/1.1 299 \r\n")


def test_the_date_is_of_the_second() -> None:
    encoder = Encoder()
    for now in (0.0, 0.9, 1.0, 1e9, *(month * 2_629_800 for month in range(13)), *(day * 86_400 for day in range(8))):
        encoder.refresh(now)
        for piece in (
            b"".join(encoder.encode_response(Response((200, b""), b""), b"", is_head=False)),
            encoder.encode_stream_head(Response((200, b""), b""), encode_framing(None, is_chunked=False)),
            encoder.json_heads[0],
        ):
            (answer,) = read_answers(piece, [b"GET"], is_closed=True)
            assert answer.fields["date"] == formatdate(int(now), usegmt=True)


def test_heads_of_json_tell_every_length_and_only_so_many_are_remembered() -> None:
    encoder = Encoder()
    for length in range(2 * KEPT_LENGTHS):
        (answer,) = read_answers(encoder.json_heads[length] + b"x" * length, [b"GET"])
        assert (answer.status, answer.fields["content-type"], answer.content) == (
            200,
            "application/json",
            b"x" * length,
        )
    assert len(encoder.json_heads) == KEPT_LENGTHS


def test_heads_are_remembered_without_end_to_their_memory() -> None:
    encoder = Encoder()
    for number in range(1000):
        encoder.encode_response(Response((200, b"a/%d" % number), b""), b"", is_head=False)
    assert len(encoder._heads) <= 64
