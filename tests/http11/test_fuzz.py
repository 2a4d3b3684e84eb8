"""Any bytes, in any cuts: every complete request is answered once, in order; nothing is answered after a refusal."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.support.answers import read_answers
from tests.support.fakes import Peer

MESSAGES = [
    (b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET"),
    (b"HEAD /2 HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD"),
    (b"POST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"POST"),
    (b"POST /4 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"POST"),
    (b"PUT /5 HTTP/1.1\r\nhost: y\r\nContent-Length: 0\r\nAccept: a\r\nAccept: b\r\n\r\n", b"PUT"),
]
GARBAGE = [
    b"",
    b"\x00",
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b":",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\xff",
    b"0",
]


def cut(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(raw) + 1) for c in cuts), len(raw)]
    return [raw[a:b] for a, b in itertools.pairwise(edges) if a < b]


@given(st.lists(st.sampled_from(MESSAGES), max_size=6), st.lists(st.integers(0, 2000), max_size=8), st.booleans())
def test_valid_streams_are_answered_in_full_and_in_order(
    messages: list[tuple[bytes, bytes]], cuts: list[int], answers_at_once: bool
) -> None:
    peer = Peer(answers_at_once=answers_at_once)
    peer.send(*cut(b"".join(raw for raw, _ in messages), cuts))
    for number in range(len(messages)):
        if not answers_at_once:
            peer.answer(peer.requests[number])
            peer.loop.run_ready()
    answers = read_answers(peer.transport.sent, [method for _, method in messages])
    assert [a.content[:2] for a in answers if a.content] == [
        raw.split()[1] for raw, method in messages if method != b"HEAD"
    ]
    assert len(answers) == len(messages)
    assert not peer.is_closed


@given(
    messages=st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=4),
    place=st.integers(0, 2000),
    drop=st.integers(0, 6),
    garbage=st.sampled_from(GARBAGE) | st.binary(max_size=12),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_a_mutated_stream_never_breaks_the_answers(
    messages: list[tuple[bytes, bytes]], place: int, drop: int, garbage: bytes, cuts: list[int]
) -> None:
    raw = b"".join(m for m, _ in messages)
    at = place % len(raw)
    mutated = raw[:at] + garbage + raw[at + drop :]
    whole, pieces = Peer(), Peer()
    whole.send(mutated)
    pieces.send(*cut(mutated, cuts))
    assert pieces.transport.sent == whole.transport.sent
    assert [(r.head.path, r.content) for r in pieces.requests] == [(r.head.path, r.content) for r in whole.requests]
    refusals = 1 if whole.is_closed and b'{"error":' in whole.transport.sent else 0
    methods = [r.head.method for r in whole.requests] + [b"GET"] * refusals
    answers = read_answers(whole.transport.sent, methods, is_closed=True)
    assert len(answers) == len(methods)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_at_all_give_at_most_one_refusal(pieces: list[bytes]) -> None:
    peer = Peer()
    peer.send(*pieces)
    peer.end()
    assert peer.transport.sent.count(b"HTTP/1.1 ") <= 1 + len(peer.requests)
