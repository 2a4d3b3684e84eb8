"""Changes a stream of bytes into one that may not be valid any more: byte by byte, by token, by parts of others.

Knows what has tricked parsers, not what is right. Called by `streams.py` on generated streams and on the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tests.fuzz.choices import Choices, one_in, pick

# What differences of opinion about framing are made of, and what ends or begins a part of a message.
TOKENS: Final = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b";", b",", b"\x0b", b"\x7f", b"\x80", b"\xff",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n",
    b"Content-Length : 5\r\n", b"Content-Length: 99999999999999999999\r\n", b"Content_Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n", b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: ,chunked\r\n", b"Transfer-Encoding\r\n",
    b"Host: y\r\n", b"Host: a@b\r\n", b"Host: y/z\r\n", b" folded\r\n", b": v\r\n", b"Connection: close\r\n",
    b"Connection: Content-Length\r\n", b"Expect: 100-continue\r\n", b"Expect: x\r\n", b"Upgrade: h2c\r\n",
    b"Content-Encoding: gzip\r\n", b"X-Request-ID: \r\n", b"Connection: Upgrade\r\n",
    b"GET ", b"POST ", b"HEAD ", b"CONNECT ", b"PRI ", b"get ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/0.9\r\n",
    b" HTTP/2.0\r\n", b" HTTP/1.10\r\n", b" http/1.1\r\n", b"*", b"http://a/", b"//", b"/..", b"#", b"%", b"%zz",
    b"0\r\n\r\n", b"0", b"0x5\r\n", b"-1\r\n", b"5\r\nhello\r\n", b"fffffffffffffffff\r\n", b"7fffffffffffffff\r\n",
    b'0;a="\r\n', b"0;\r\n", b"0 \r\n", b"5;a=b\r\nhello", b"\x16\x03\x01\x02\x00\x01\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip

MAX_BYTES: Final = 400_000  # a repeated repetition must not grow without end


def mutate(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    """1 to 4 changes. others: what parts may be taken from; at least one."""
    for _ in range(1 + choices.below(4)):
        raw = pick(choices, _CHANGES)(choices, raw, others)
    return raw[:MAX_BYTES]


def _place(choices: Choices, raw: bytes) -> int:
    """A position; mostly one where something begins or ends, which is where parsers differ."""
    at = choices.below(len(raw) + 1)
    if one_in(choices, 2):
        found = raw.find(pick(choices, (b"\r\n", b":", b" ", b"\n")), at)
        return at if found < 0 else found + choices.below(3)
    return at


def _insert(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    at = _place(choices, raw)
    return raw[:at] + pick(choices, TOKENS) + raw[at:]


def _add_line(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    at = raw.find(b"\r\n", choices.below(len(raw) + 1)) + 2
    return raw[:at] + pick(choices, TOKENS) + raw[at:]


def _overwrite(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    at, token = _place(choices, raw), pick(choices, TOKENS)
    return raw[:at] + token + raw[at + len(token) :]


def _delete(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    at = _place(choices, raw)
    return raw[:at] + raw[at + 1 + choices.below(4) :]


def _flip(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    at = choices.below(len(raw) + 1)
    return raw[:at] + bytes(b ^ 1 << choices.below(8) for b in raw[at : at + 1]) + raw[at + 1 :]


def _put_octet(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    at = choices.below(len(raw) + 1)
    return raw[:at] + bytes([choices.below(256)]) + raw[at + choices.below(2) :]


def _cut_off(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    return raw[: _place(choices, raw)]


def _repeat(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    at = _place(choices, raw)
    end = at + 1 + choices.below(40)
    times = 400 if one_in(choices, 40) else 1
    return raw[:end] + raw[at:end] * times + raw[end:]


def _splice(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    other = pick(choices, others)
    return raw[: _place(choices, raw)] + other[_place(choices, other) :]


def _renumber(choices: Choices, raw: bytes, others: Sequence[bytes]) -> bytes:
    """A digit, which may be one of a length or a chunk size, becomes another."""
    at = choices.below(len(raw) + 1)
    while at < len(raw) and not raw[at : at + 1].isdigit():
        at += 1
    return raw[:at] + b"%d" % choices.below(12) + raw[at + 1 :]


_CHANGES: Final[tuple[Callable[[Choices, bytes, Sequence[bytes]], bytes], ...]] = (
    _insert, _add_line, _overwrite, _delete, _flip, _put_octet, _cut_off, _repeat, _splice, _renumber,
)  # fmt: skip
