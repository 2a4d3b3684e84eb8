"""Streams of requests that are valid by RFC 9110 and 9112 in every way that fastserve takes, and what they ask for.

The generator knows what it wrote: an oracle that owes nothing to any parser. Called by `streams.py`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.fuzz.choices import Choices, one_in, pick
from tests.fuzz.scenario import Expected

METHODS: Final = (b"POST", b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH")
HOSTS: Final = (b"x", b"example.com", b"127.0.0.1:8080", b"[::1]:80", b"[2001:db8::1]", b"", b"a.b-c_d~e:", b"%41")
NAMES: Final = (
    b"X-A",
    b"accept",
    b"User-Agent",
    b"!#$%&'*+-.^_`|~9z",
    b"X-Forwarded-For",
    b"Cookie",
    b"X-Request-ID",
)
VALUES: Final = (
    b"",
    b"v",
    b"a, b",
    b"two words",
    b"\xe4\xf6\xff",
    b'"q\\"uoted"',
    b"a:b",
    b"a\tb",
    b"chunked",
    b"close",
)
VARIED: Final = (b"Traceparent", b"X-Request-ID", b"Accept", b"Connection-Id", b"Content-Type", b"Proxy-Connection")
BLANKS: Final = (b" ", b"", b"\t", b"  ", b" \t ")
QUERIES: Final = (b"", b"?", b"?a=b", b"?a=/no/..//&b=%20", b"?http://y/")
# Content that would be a request, or the end of one, to whoever frames the message in another way.
TRAPS: Final = (b"GET /trap HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\n", b"\r\n", b"\n", b"5\r\nhello\r\n0\r\n\r\n")
EXTENSIONS: Final = (b"", b"", b";a", b";a=b", b';a="q;\\"x"', b";a=b;c=d", b';x=""')
TRAILERS: Final = (
    b"",
    b"",
    b"T: v\r\n",
    b"Content-Length: 7\r\nHost: y\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"a:\r\n",
)
# Without white space behind it, which RFC 9112 section 5.1 allows and llhttp refuses in this one field.
CHUNKED_FIELDS: Final = (b"Transfer-Encoding: chunked", b"transfer-encoding:\tchunked", b"TRANSFER-ENCODING:Chunked")
UPGRADES: Final = (b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Upgrade: websocket\r\n")

# One message in so many has much content; of these one in eight so much that it gets a buffer of its own.
LARGE_ONE_IN: Final = 200
LARGE_SIZES: Final = (3_000, 3_000, 70_000, 3_000, 3_000, 70_000, 3_000, 300_000)

REFUSED: Final = b"/no"  # what the route refuses without content (play.py)


class Message(NamedTuple):
    """raw: all bytes. closes: the connection cannot persist after it. is_refused: it is for the path REFUSED."""

    raw: bytes
    expected: Expected
    closes: bool
    is_refused: bool


class Stream(NamedTuple):
    """expected: up to the first message that closes. stays_open: none does."""

    raw: bytes
    expected: tuple[Expected, ...]
    stays_open: bool


def make_stream(choices: Choices) -> Stream:
    """1 to 4 messages, rarely 20 to 40, pipelined; or some that are alike."""
    if one_in(choices, 6):
        return _make_alike(choices)
    count = 20 + choices.below(21) if one_in(choices, 60) else 1 + choices.below(4)
    raw = b""
    expected: list[Expected] = []
    stays_open = True
    for number in range(count):
        message = make_message(choices, number)
        raw += message.raw
        if stays_open:
            expected.append(message.expected)
            stays_open = not message.closes
    return Stream(raw, tuple(expected), stays_open)


def _make_alike(choices: Choices) -> Stream:
    """4 to 8 messages whose header sections differ in some values, which may mean something."""
    raw = b""
    expected = []
    varied = pick(choices, VARIED)
    names = [b"Host", b"Content-Length", varied, b"User-Agent"]
    start = choices.below(len(names))
    blank = pick(choices, BLANKS)
    values = dict.fromkeys(names, b"v")
    for _ in range(4 + choices.below(5)):
        content = choices.octets(5)
        if one_in(choices, 4):
            content += pick(choices, TRAPS)
        values |= {varied: pick(choices, VALUES), b"Content-Length": b"%d" % len(content)}
        lines = [b"%b:%b%b\r\n" % (name, blank, values[name]) for name in names]
        raw += b"POST /alike HTTP/1.1\r\n%b\r\n%b" % (b"".join(lines[start:] + lines[:start]), content)
        expected.append(Expected(b"POST", b"/alike", content))
    return Stream(raw, tuple(expected), stays_open=True)


def make_message(choices: Choices, number: int) -> Message:
    """One request, for a path that has `number` in it."""
    method = pick(choices, METHODS)
    is_http10 = one_in(choices, 8)
    is_refused = one_in(choices, 12)
    target = _make_target(choices, b"%b/%d" % (REFUSED if is_refused else b"", number))
    lines = _make_fields(choices)
    if not is_http10 or not one_in(choices, 2):
        lines.append(b"Host:%b%b%b\r\n" % (pick(choices, BLANKS), pick(choices, HOSTS), pick(choices, BLANKS)))
    connection, closes = _make_connection(choices, is_http10)
    lines.append(connection)
    # The answer to refused content may come before the content or after it, and closes in the first case (play.py).
    framing, coded, content = _make_content(choices, is_http10, may_be_large=not is_refused)
    lines.append(framing)
    if content and not is_refused and one_in(choices, 8):
        lines.append(b"Expect: 100-continue\r\n")
    start = choices.below(len(lines))
    version = b"1.0" if is_http10 else b"1.1"
    head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version, b"".join(lines[start:] + lines[:start]))
    empty_line = b"\r\n" if one_in(choices, 15) else b""
    return Message(empty_line + head + coded, Expected(method, target, content), closes, is_refused)


def _make_target(choices: Choices, path: bytes) -> bytes:
    form = choices.below(12)
    if form == 11:
        return b"http://other.example:80" + path
    if form == 10:
        return path + b"%20%2f%00..//"
    return path + (pick(choices, QUERIES) if form > 7 else b"")


def _make_fields(choices: Choices) -> list[bytes]:
    """Lines that change nothing but what the request says of itself."""
    lines = []
    for _ in range(choices.below(4)):
        name, value = pick(choices, NAMES), pick(choices, VALUES)
        lines.append(b"%b:%b%b%b\r\n" % (name, pick(choices, BLANKS), value, pick(choices, BLANKS)))
    if one_in(choices, 12):
        lines.append(pick(choices, UPGRADES))
    return lines


def _make_connection(choices: Choices, is_http10: bool) -> tuple[bytes, bool]:
    """A Connection field, or none, and whether the connection closes (RFC 9112 section 9.3)."""
    form = choices.below(16)
    if form == 15:
        return pick(choices, (b"Connection: close\r\n", b"connection: Keep-Alive , CLOSE\r\n")), True
    if form > 11 or (is_http10 and form > 3):
        return pick(choices, (b"Connection: keep-alive\r\n", b"Connection: x, Keep-Alive\r\n")), False
    return b"", is_http10


def _make_content(choices: Choices, is_http10: bool, *, may_be_large: bool) -> tuple[bytes, bytes, bytes]:
    """(the field line that frames it, the content as it is sent, the content)."""
    form = choices.below(3)
    if form == 0:
        return b"", b"", b""
    content = choices.octets(24)
    if one_in(choices, 4):
        content += pick(choices, TRAPS)
    if may_be_large and one_in(choices, LARGE_ONE_IN):
        content += b"L" * pick(choices, LARGE_SIZES)
    if form == 1 or is_http10:
        zeros = b"0" * choices.below(3) if one_in(choices, 10) else b""
        return b"Content-Length: %b%d\r\n" % (zeros, len(content)), content, content
    return pick(choices, CHUNKED_FIELDS) + b"\r\n", _encode_chunks(choices, content), content


def _encode_chunks(choices: Choices, content: bytes) -> bytes:
    coded = b""
    rest = content
    while rest:
        size = 1 + choices.below(len(rest))
        form = pick(choices, (b"%x", b"%X", b"0%x"))
        coded += form % size + pick(choices, EXTENSIONS) + b"\r\n" + rest[:size] + b"\r\n"
        rest = rest[size:]
    last = b"0" * (1 + choices.below(3)) + pick(choices, EXTENSIONS)
    return coded + last + b"\r\n" + pick(choices, TRAILERS) + b"\r\n"
