"""Streams for a real server and what they must get: JSON, streamed answers, 404s, WebSocket frames; and mutations.

The rules of `judge.py` again, as far as a real model leaves them to be known. Called by `campaign.py`, now and then.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Final, NamedTuple

from tests.fuzz.choices import Choices, one_in, pick
from tests.fuzz.live import LiveServer
from tests.fuzz.mutation import mutate
from tests.fuzz.reading import Answer, read_answers
from tests.fuzz.scenario import MAX_CUTS
from tests.fuzz.watching import Seen, ViolationError
from tests.support.websockets import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_frame, frame, handshake, read_frames

VALUES: Final[tuple[object, ...]] = (None, "\u00e4\n", 1.5, [], {"a": [True, {}]}, "x" * 200)


class Asked(NamedTuple):
    """raw: a request. status, content: what it must get."""

    raw: bytes
    status: int
    content: bytes


def _ask_echo(choices: Choices, path: bytes) -> Asked:
    content = json.dumps([pick(choices, VALUES)], separators=(",", ":"), ensure_ascii=False).encode()
    if one_in(choices, 3):
        coded = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
        return Asked(
            b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path + coded, 200, content
        )
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, len(content))
    return Asked(head + content, 200, content)


def _ask_loop(choices: Choices) -> Asked:
    return _ask_echo(choices, b"/v1/chat/completions")


def _ask_thread(choices: Choices) -> Asked:
    return _ask_echo(choices, b"/v1/completions")


def _ask_stream(choices: Choices) -> Asked:
    count = choices.below(4)
    content = b'{"stream":%d}' % count
    raw = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content) + content
    return Asked(raw, 200, b"".join(b"%d" % number for number in range(count)))


def _ask_probe(choices: Choices) -> Asked:
    return Asked(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, b"true")


def _ask_nothing(choices: Choices) -> Asked:
    return Asked(b"GET /v1/websocket HTTP/1.1\r\nHost: x\r\n\r\n", 426, b"")


def _ask_wrong(choices: Choices) -> Asked:
    return Asked(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{]", 400, b"")


def _ask_nowhere(choices: Choices) -> Asked:
    return Asked(b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nGET / HTT", 404, b"")


_ASK: Final[tuple[Callable[[Choices], Asked], ...]] = (
    *(_ask_loop, _ask_stream, _ask_thread, _ask_probe, _ask_nothing, _ask_wrong, _ask_nowhere),
)


def fuzz_live(server: LiveServer, choices: Choices) -> bytes:
    """One stream: HTTP or WebSocket, valid or mutated. Returns its bytes. Raises ViolationError."""
    return (fuzz_websocket if one_in(choices, 3) else fuzz_http)(server, choices)


def fuzz_http(server: LiveServer, choices: Choices) -> bytes:
    asked = [pick(choices, _ASK)(choices) for _ in range(1 + choices.below(4))]
    raw = b"".join(one.raw for one in asked)
    seen = [Seen(b"GET", b"", b"", one.status, False, False, False) for one in asked]
    if one_in(choices, 2):
        raw = mutate(choices, raw, [raw])
        _converse(server, choices, raw, leaves=one_in(choices, 4))  # mutations may make a HEAD or a 1.0 of anything
        return raw
    received = _converse(server, choices, raw, leaves=False)
    answers = read_answers(received, seen)
    if len(answers) != len(asked):
        raise ViolationError(f"{len(asked)} requests and {len(answers)} answers to {raw!r}")
    for one, answer in zip(asked, answers, strict=True):
        _check(one, answer)
    return raw


def _check(asked: Asked, answer: Answer) -> None:
    is_right = answer.content == asked.content if asked.status == 200 else answer.content.startswith(b'{"error":')
    if answer.status != asked.status or not answer.is_complete or not is_right:
        raise ViolationError(f"the answer to {asked.raw!r} is {answer}")


def _converse(server: LiveServer, choices: Choices, raw: bytes, *, leaves: bool) -> bytes:
    cuts = sorted(choices.below(len(raw) + 1) for _ in range(choices.below(MAX_CUTS)))
    pieces = [raw[a:b] for a, b in itertools.pairwise([0, *cuts, len(raw)]) if a < b]
    return server.converse(pieces, choices.octets(4), leaves=leaves)


def fuzz_websocket(server: LiveServer, choices: Choices) -> bytes:
    frames, expected = _make_frames(choices)
    if one_in(choices, 2):
        raw = handshake() + mutate(choices, frames, [frames])
        received = _converse(server, choices, raw, leaves=one_in(choices, 4))
        sent = read_frames(received.partition(b"\r\n\r\n")[2])
        closes = [number for number, one in enumerate(sent) if one.opcode == CLOSE]
        if closes and closes != [len(sent) - 1]:
            raise ViolationError(f"frames behind the Close: {sent}")
        return raw
    raw = handshake() + frames
    received = _converse(server, choices, raw, leaves=False)
    head, _, rest = received.partition(b"\r\n\r\n")
    sent = read_frames(rest)
    got = [(one.opcode, one.payload) for one in sent]
    if not head.startswith(b"HTTP/1.1 101 ") or got[-1:] != [(CLOSE, b"\x03\xe8")]:
        raise ViolationError(f"no handshake, or no Close, for {raw!r}: {received!r}")
    # Pongs are sent at once, echoes in the model's turn; what it has not read when the Close comes is lost.
    echoes = [one for one in got if one[0] in (TEXT, BINARY)]
    if [one for one in got if one[0] == PONG] != [one for one in expected if one[0] == PONG]:
        raise ViolationError(f"{got} was sent, not the pongs of {expected}")
    if echoes != [one for one in expected if one[0] != PONG][: len(echoes)]:
        raise ViolationError(f"{got} was sent, not {expected}")
    return raw


def _make_frames(choices: Choices) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Messages, some in fragments, and pings, ended by a Close; and what must come for each."""
    raw = b""
    expected = []
    for _ in range(choices.below(6)):
        opcode = pick(choices, (TEXT, BINARY, PING))
        payload = b"\xc3\xa4" * choices.below(20) if opcode == TEXT else choices.octets(100)
        if opcode == PING or not payload or one_in(choices, 2):
            raw += frame(opcode, payload)
        else:
            at = choices.below(len(payload))
            between = frame(PONG, b"unasked") if one_in(choices, 2) else b""
            raw += frame(opcode, payload[:at], fin=False) + between + frame(CONT, payload[at:])
        expected.append((PONG if opcode == PING else opcode, payload))
    return raw + close_frame(1000), expected
