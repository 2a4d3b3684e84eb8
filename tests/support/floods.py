"""Attacks that hurry: storms of connections, and messages of far more parts than anybody means.

Each is one bounded round against a server with the model `flooded`, and checks what it is answered itself.
Used by tests/server/test_floods.py and bench/load/hostile.py; those that wait are in starvation.py.
"""

from __future__ import annotations

from typing import Final

from tests.support.crowd import Crowd, statuses
from tests.support.starvation import HEAD, Attack, chunked, post

STORM: Final = 3000
PIPELINED: Final = 100_000
FLOODING: Final = 30
KIB: Final = 1024


def connects_and_closes(crowd: Crowd) -> None:
    for _ in range(STORM // 10):
        crowd.leave(crowd.join(10))


def connects_and_resets(crowd: Crowd) -> None:
    for _ in range(STORM // 10):
        crowd.reset(crowd.join(10))


def asks_and_leaves(crowd: Crowd) -> None:
    """Nobody waits for the answer."""
    for _ in range(STORM // 10):
        crowd.leave(crowd.join(10, post(b'{"whose": "nobody\'s"}')))


def pipelined_requests(crowd: Crowd) -> None:
    """Every one is answered, in order."""
    (peer,) = crowd.join(1)
    crowd.pour(
        [peer],
        b"".join(post(b'"%06d"' % number) for number in range(PIPELINED)),
        lambda peer: peer.received.endswith(b'{"echo":"%06d"}' % (PIPELINED - 1)),
    )
    answers = bytes(peer.received).split(b"HTTP/1.1 200 OK\r\n")
    assert [answer[-17:] for answer in answers[1:]] == [b'{"echo":"%06d"}' % number for number in range(PIPELINED)]
    crowd.leave([peer])


def pipelined_requests_unread(crowd: Crowd) -> None:
    """The answers are not read; so the server must stop to take requests, whatever is sent."""
    (peer,) = crowd.join(1, receive_buffer=4096)
    sent = 0
    requests = post(b'{"wish": "stream"}') * 1000
    while sent < 64 * KIB * KIB:
        try:
            sent += peer.sock.send(requests)
        except BlockingIOError:
            break
        crowd.exchange(post(b"0"))
    assert sent < 64 * KIB * KIB


def different_header_sections(crowd: Crowd) -> None:
    """As large as is allowed, no two alike."""
    peers = crowd.join(FLOODING)
    for number, peer in enumerate(peers * 5):
        fields = b"".join(b"X-%d-%d: %b\r\n" % (number, field, b"v" * 280) for field in range(97))
        peer.received.clear()
        crowd.pour([peer], HEAD + fields + b"Content-Length: 1\r\n\r\n1", lambda peer: peer.status > 0)
    assert statuses(peers) == {200: FLOODING}
    crowd.leave(peers)


def endless_header_sections(crowd: Crowd) -> None:
    _pour(crowd, HEAD + b"X-Another: one\r\n" * 10_000, 431)


def endless_fields(crowd: Crowd) -> None:
    _pour(crowd, HEAD + b"X-Long: " + b"a" * 128 * KIB, 431)


def _pour(crowd: Crowd, flood: bytes, status: int) -> None:
    """All of them send `flood`, which is refused with `status`."""
    peers = crowd.join(FLOODING)
    crowd.pour(peers, flood, lambda peer: False)
    assert statuses(peers) == {status: FLOODING}
    crowd.leave(peers)


def tiny_chunks(crowd: Crowd) -> None:
    content = b'"%b"' % (b"a" * 5000)
    peers = crowd.join(FLOODING)
    message = chunked(*(b"1\r\n%c\r\n" % byte for byte in content), b"0\r\n\r\n")
    crowd.pour(peers, message, lambda peer: peer.received.endswith(b'{"echo":%b}' % content))
    assert statuses(peers) == {200: FLOODING}
    crowd.leave(peers)


def giant_extensions(crowd: Crowd) -> None:
    _pour(crowd, chunked(b"1;ext=" + b"a" * 128 * KIB), 413)


def many_extensions(crowd: Crowd) -> None:
    _pour(crowd, chunked(b"1;a=b;c=d;e;f\r\n1\r\n" * 8000), 413)


def giant_trailers(crowd: Crowd) -> None:
    _pour(crowd, chunked(b"0\r\nX-Long: " + b"a" * 128 * KIB), 431)


def many_trailers(crowd: Crowd) -> None:
    _pour(crowd, chunked(b"0\r\n" + b"X-Another: one\r\n" * 8000), 431)


FLOODS: Final[dict[str, Attack]] = {
    attack.__name__: attack
    for attack in (
        connects_and_closes,
        connects_and_resets,
        asks_and_leaves,
        pipelined_requests,
        pipelined_requests_unread,
        different_header_sections,
        endless_header_sections,
        endless_fields,
        tiny_chunks,
        giant_extensions,
        many_extensions,
        giant_trailers,
        many_trailers,
    )
}
