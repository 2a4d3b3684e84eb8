"""Attacks that wait: clients that send too slowly, promise and do not keep it, ask and do not read, leave in between.

Each is one bounded round against a server with the model `flooded` and FLAGS, and checks what it is answered itself.
Used by tests/server/test_starvation.py and bench/load/hostile.py; those that hurry are in floods.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.support.crowd import Crowd, statuses

MODEL: Final = Path(__file__).parent.parent / "models" / "flooded"
# Timeouts that a test can wait for; room for what the attacks need; the largest content and the smallest rate are the
# server's own.
FLAGS: Final = (
    *("--concurrency", "4000", "--max-connections", "11000", "--stream-buffers", "16M"),
    *("--timeout-header", "1", "--timeout-content-grace", "1", "--timeout-stall", "1"),
)
SLOW: Final = 200
STOPPED: Final = 300
IDLE: Final = 10_000
PROMISES: Final = 1000
PROMISED_BYTES: Final = 100 << 20
IN_EACH_PHASE: Final = 20
DRIP_S: Final = 0.05

HEAD: Final = b"POST /v1/models/model:predict HTTP/1.1\r\nHost: x\r\n"

Attack = Callable[[Crowd], None]


def chunked(*chunks: bytes) -> bytes:
    """A request in the chunked transfer coding, as far as `chunks` go."""
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


def sized(length: int, content: bytes = b"") -> bytes:
    """A request that promises `length` bytes of content and sends `content`."""
    return HEAD + b"Content-Length: %d\r\n\r\n%b" % (length, content)


def post(content: bytes) -> bytes:
    """A whole request."""
    return sized(len(content), content)


def slow_request_lines(crowd: Crowd) -> None:
    _drip(crowd, b"POST /", b"a")


def slow_header_sections(crowd: Crowd) -> None:
    _drip(crowd, HEAD + b"X-Slow: ", b"a")


def slow_content(crowd: Crowd) -> None:
    _drip(crowd, sized(5000, b'"'), b"a")


def slow_chunks(crowd: Crowd) -> None:
    _drip(crowd, chunked(b'1\r\n"\r\n'), b"1\r\na\r\n")


def _drip(crowd: Crowd, first: bytes, drop: bytes) -> None:
    peers = crowd.join(SLOW, first)
    crowd.drip(peers, drop, DRIP_S)
    assert statuses(peers) == {408: SLOW}
    crowd.leave(peers)


def idle_connections(crowd: Crowd) -> None:
    """Half of them have asked once; at the end some of each half ask, and get their answers."""
    asking = post(b'{"whose": "mine"}')
    used, unused = [], []
    for _ in range(IDLE // 40):  # at the server's pace: a storm is another attack
        used += crowd.join(20, asking)
        crowd.hear(used[-20:], lambda peer: peer.status > 0)
        unused += crowd.join(20)
    late = used[::50] + unused[::50]
    for peer in late:
        peer.received.clear()
    crowd.say(late, asking)
    crowd.hear(late, lambda peer: peer.received.endswith(b'{"echo":{"whose":"mine"}}'))
    assert statuses(late) == {200: len(late)}
    crowd.leave(crowd.peers)


def broken_promises(crowd: Crowd) -> None:
    """A third sends no content, a third some with its header section, a third a little more later."""
    count = PROMISES // 3
    peers = crowd.join(PROMISES - 2 * count, sized(PROMISED_BYTES)) + crowd.join(count, sized(PROMISED_BYTES, b"["))
    late = crowd.join(count, sized(PROMISED_BYTES, b"["))
    for _ in range(3):
        crowd.say(late, b"1," * 50)
        crowd.exchange(post(b"0"))  # an answer means that the server has seen what was sent before
    crowd.hear(peers + late)
    assert statuses(peers + late) == {408: PROMISES}


def stopped_readers_of_answers(crowd: Crowd) -> None:
    """They ask for a large answer, and never read a byte of it. The server must let go of them."""
    crowd.join(STOPPED, post(b'{"wish": "large"}'), receive_buffer=4096)


def stopped_readers_of_streams(crowd: Crowd) -> None:
    """The same with a stream that has no end."""
    crowd.join(STOPPED, post(b'{"wish": "endless stream"}'), receive_buffer=4096)


# What a client has sent when it goes, and what it is answered if it has only half closed: 0 for nothing.
PHASES: Final = {
    "connected": (b"", 0),
    "request line": (b"POST /v1/mod", 0),
    "header section": (HEAD + b"X-Fiel", 0),
    "before content": (sized(100), 0),
    "content": (sized(100, b'{"a": '), 0),
    "large content": (sized(PROMISED_BYTES, b"[" + b"0," * 5000), 0),
    "before chunks": (chunked(), 0),
    "chunk size": (chunked(b"2\r\n{}\r\n1"), 0),
    "chunk": (chunked(b'64\r\n{"a": '), 0),
    "trailers": (chunked(b"2\r\n{}\r\n0\r\nX-Trai"), 0),
    "running": (post(b'{"wish": "slow"}'), 200),
    "sending": (post(b'{"wish": "large"}'), 200),
    "streaming": (post(b'{"wish": "stream"}'), 200),
    "pipelined behind": (post(b'{"wish": "slow"}') * 3 + HEAD, 200),
    "refused": (b"NO SENSE\r\n\r\n" + HEAD, 400),
    "between": (post(b"1"), 200),
}


def resets_in_every_phase(crowd: Crowd) -> None:
    for first, _ in PHASES.values():
        peers = crowd.join(IN_EACH_PHASE, first)
        crowd.reset(peers[::2])  # at once
        crowd.exchange(post(b"0"))
        crowd.reset(peers[1::2])  # when it has been seen
    streams = crowd.join(IN_EACH_PHASE, post(b'{"wish": "endless stream"}'))
    crowd.hear(streams, lambda peer: len(peer.received) > 100_000)
    crowd.reset(streams)


def half_closes_in_every_phase(crowd: Crowd) -> None:
    peers = {phase: crowd.join(IN_EACH_PHASE, first) for phase, (first, _) in PHASES.items()}
    crowd.half_close(crowd.peers)
    crowd.hear(crowd.peers)
    for phase, (_, status) in PHASES.items():
        assert statuses(peers[phase]) == {status: IN_EACH_PHASE}, phase
    crowd.leave(crowd.peers)


STARVATION: Final[dict[str, Attack]] = {
    attack.__name__: attack
    for attack in (
        slow_request_lines,
        slow_header_sections,
        slow_content,
        slow_chunks,
        idle_connections,
        broken_promises,
        stopped_readers_of_answers,
        stopped_readers_of_streams,
        resets_in_every_phase,
        half_closes_in_every_phase,
    )
}
