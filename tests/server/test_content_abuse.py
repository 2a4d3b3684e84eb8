"""Content that is no payload, over real sockets: the right 4xx, with the place of the mistake, in bounded time.

Each against orjson, the standard library and a typed input; msgpack, and either sent as the other; at the size limit.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgpack
import pytest

from tests.support.making import MODELS, PREDICT
from tests.support.process import Server, serving, write_model

MIB: Final = 1 << 20
LIMIT: Final = 100 * MIB  # the default of --max-content-bytes
# For any one answer, on a machine with much else to do: the slowest here takes a second.
PATIENCE_S: Final = 20.0

BINARY: Final = {"Content-Type": "application/octet-stream"}
MODEL: Final = """
def shape(value):
    return [type(value).__name__, len(value) if hasattr(value, "__len__") else 0]

class Model:
    def predict(self, inputs):
        return shape(inputs)
"""


class Case(NamedTuple):
    """content: what is sent. statuses: what may be answered (parsers, and versions of Python, differ in what they
    follow). says: what a refusal's message must hold."""

    content: bytes
    statuses: tuple[int, ...] = (400,)
    says: str = r"line \d+ column \d+ \(char \d+\)"


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + b"1" + closing * depth


DIGITS: Final = b"9" * 10_000_000
DEEP: Final = "nested too deeply"
TAKEN: Final = (200,)
EITHER: Final = (200, 400)

CASES: Final = {
    "empty": Case(b""),
    "white space": Case(b" \t\r\n"),
    "vertical tab": Case(b"\v1"),
    "NUL": Case(b"\0", says=r"char 0|utf-16|utf-32"),
    "trailing garbage": Case(b'{"a": 1} x'),
    "trailing NUL": Case(b'{"a": 1}\0', says=r"\(char 8\)"),
    "two values": Case(b"1 2"),
    "a second object": Case(b'{"a": 1}{"a": 2}'),
    "comment": Case(b'{"a": 1} // x'),
    "trailing comma": Case(b"[1,]"),
    "single quotes": Case(b"{'a': 1}"),
    "bare key": Case(b"{a: 1}"),
    "leading zero": Case(b"[01]"),
    "hexadecimal": Case(b"0x10"),
    "half an exponent": Case(b"[1e]"),
    "a control byte in text": Case(b'"\x01"'),
    "a bad escape": Case(rb'"\x41"'),
    "half an escape": Case(rb'"\u12"'),
    "undefined": Case(b"undefined"),
    "invalid UTF-8": Case(b'{"a": "\xff"}', says="byte 7|position 7"),
    "overlong UTF-8": Case(b'"\xc0\xaf"', says="byte 1|position 1"),
    "cut UTF-8": Case('"\u20ac'.encode()[:-1], says="byte 1|position 1"),
    "a surrogate in UTF-8": Case(b'"\xed\xa0\x80"', EITHER, says="byte 1|position 1"),
    "invalid UTF-8 behind 10 MB": Case(b'"' + b"a" * 10_000_000 + b'\xff"', says="byte 10000001|position 10000001"),
    "lone surrogate": Case(rb'{"a": "\ud800"}', EITHER),
    "surrogates the wrong way round": Case(rb'"\udc00\ud800"', EITHER),
    "NaN": Case(b"[NaN, Infinity, -Infinity]", EITHER),
    "byte order mark": Case(b'\xef\xbb\xbf{"a": 1}', EITHER),
    "byte order mark alone": Case(b"\xef\xbb\xbf", says="char 0"),
    "UTF-16": Case('{"a": 1}'.encode("utf-16"), EITHER, says="position 0"),
    "duplicate keys": Case(b'{"a": 1, "a": 2, "a": 3}', EITHER, says=""),
    "10 MB of digits": Case(DIGITS, says="4300 digits"),
    "10 MB of digits in an object": Case(b'{"a": ' + DIGITS + b"}", says="4300 digits"),
    "10 MB of digits behind a point": Case(b"0." + DIGITS, EITHER, says=""),
    "10 MB of digits and an exponent": Case(DIGITS + b"e5", EITHER, says=""),
    "10 MB of digits as exponent": Case(b"1e" + DIGITS, EITHER, says=""),
    "a huge negative exponent": Case(b"-1e-" + DIGITS, EITHER, says=""),
    "4,300 digits": Case(b"9" * 4300, EITHER, says=""),
    "4,301 digits": Case(b"9" * 4301, says="4300 digits"),
    "500 times 4,300 digits": Case(b"[" + b",".join([b"9" * 4300] * 500) + b"]", EITHER, says=""),
    "1,023 arrays": Case(nested(b"[", b"]", 1023), EITHER, says=""),
    "1,024 arrays": Case(nested(b"[", b"]", 1024), EITHER, says=""),
    "1,025 arrays": Case(nested(b"[", b"]", 1025), EITHER, says=""),
    "100,000 arrays": Case(nested(b"[", b"]", 100_000), says=DEEP),
    "100,000 objects": Case(nested(b'{"a":', b"}", 100_000), says=DEEP),
    "100,000 of both": Case(nested(b'[{"a":', b"}]", 50_000), says=DEEP),
    "10,000,000 openings": Case(b"[" * 10_000_000, says=DEEP),
    "100,000 openings of objects": Case(b'{"a":' * 100_000, says=DEEP),
    "900 arrays, many times": Case(b"[" + b",".join([nested(b"[", b"]", 900)] * 200) + b"]", EITHER, says=""),
    "300,000 empty arrays": Case(b"[" + b",".join([b"[]"] * 300_000) + b"]", EITHER, says=""),
    "a million empty objects": Case(b"[" + b",".join([b"{}"] * 1_000_000) + b"]", EITHER, says=""),
    "100,000 mistakes": Case(b'{"customer":"a","items":[' + b",".join([b"1"] * 100_000) + b"]}", EITHER, says=""),
    "300,000 empty arrays and a mistake": Case(b"[" + b"[]," * 300_000 + b"x]"),
    "a hundred thousand keys": Case(json.dumps(dict.fromkeys(map(str, range(100_000)))).encode(), EITHER, says=""),
    "5 MB of text": Case(b'"' + b"a" * 5_000_000 + b'"', EITHER, says=""),
    "5 MB of text without end": Case(b'"' + b"a" * 5_000_000),
    "5 MB of escapes": Case(b'"' + b"\\u00e9" * 800_000 + b'"', EITHER, says=""),
    "5 MB of lone surrogates": Case(b'"' + b"\\ud800" * 800_000 + b'"', EITHER, says=""),
    "msgpack as JSON": Case(msgpack.packb({"a": [1, 2.5]}), says="byte 0|position 0|char 0"),
    "msgpack of text as JSON": Case(msgpack.packb("text"), says="byte 0|position 0|char 0"),
}

# What orjson, with the standard library behind it, must take, and what becomes of it.
SHAPES: Final = {
    "lone surrogate": ["dict", 1],
    "surrogates the wrong way round": ["str", 2],
    "NaN": ["list", 3],
    "byte order mark": ["dict", 1],
    "UTF-16": ["dict", 1],
    "duplicate keys": ["dict", 1],
    "10 MB of digits behind a point": ["float", 0],
    "10 MB of digits as exponent": ["float", 0],
    "a huge negative exponent": ["float", 0],
    "4,300 digits": ["int", 0],
    "1,024 arrays": ["list", 1],
    "a million empty objects": ["list", 1_000_000],
    "5 MB of lone surrogates": ["str", 800_000],
}


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("fast"), MODEL)) as server:
        yield server


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("python"), MODEL), "--json", "python") as server:
        yield server


@pytest.fixture(scope="module")
def typed() -> Iterator[Server]:
    with serving(MODELS / "typed_pydantic") as server:
        yield server


def post(server: Server, content: bytes, fields: dict[str, str] | None = None) -> tuple[int, object]:
    """Status and JSON of the answer, which must come soon; the server must be there afterwards."""
    began = time.monotonic()
    status, answer = server.request("POST", PREDICT, content, fields)
    assert time.monotonic() - began < PATIENCE_S
    assert server.request("GET", "/livez")[0] == 200
    assert len(answer) < 10_000 or status == 200, "a refusal does not repeat what it refuses"
    return status, msgpack.unpackb(answer) if fields and status == 200 else json.loads(answer)


@pytest.mark.parametrize("parser", ["fast", "python", "typed"])
@pytest.mark.parametrize("name", CASES)
def test_json_is_taken_or_refused_with_the_place_of_its_mistake(
    name: str, parser: str, request: pytest.FixtureRequest
) -> None:
    case = CASES[name]
    status, answer = post(request.getfixturevalue(parser), case.content)
    assert status in case.statuses, answer
    if status == 400:
        assert isinstance(answer, dict)
        message = answer["error"]
        assert message.startswith(("Invalid JSON payload: ", "Input Parsing Error"))
        assert parser == "typed" or re.search(case.says, message), message
    elif name in SHAPES:
        assert answer == SHAPES[name]


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_standard_library_reads_is_taken_by_default(fast: Server, name: str) -> None:
    assert post(fast, CASES[name].content) == (200, SHAPES[name])


def test_surrogates_as_bytes_are_no_utf_8_but_for_truss(fast: Server, python: Server) -> None:
    """UTF-8 does not allow them (RFC 3629 section 3); Truss reads them, and so does `--json python`."""
    content = CASES["a surrogate in UTF-8"].content
    assert post(fast, content) == (400, {"error": "Invalid JSON payload: not utf-8 at byte 1"})
    assert post(python, content) == (200, ["str", 1])


# --- at the limit ---


def test_100_mib_of_spaces_are_refused_as_empty_and_a_byte_more_unread(fast: Server) -> None:
    status, answer = post(fast, b" " * LIMIT)
    assert status == 400
    assert f"Expecting value: line 1 column {LIMIT + 1} (char {LIMIT})" in str(answer)
    with fast.connect() as peer:
        peer.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (PREDICT.encode(), LIMIT + 1))
        assert peer.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_spaces_around_a_value_are_no_mistake(fast: Server) -> None:
    assert post(fast, b" " * (LIMIT - 2) + b"[]") == (200, ["list", 0])


# --- msgpack ---

BINARY_CASES: Final = {
    "empty": Case(b"", says="ends too early"),
    "white space": Case(b"   ", says="2 bytes follow its end"),
    "JSON": Case(b'{"a": 1}', says="7 bytes follow its end; it looks like JSON"),
    "a JSON array": Case(b"[1, 2]", says="it looks like JSON"),
    "trailing garbage": Case(msgpack.packb({"a": 1}) + b"x", says="1 bytes follow its end"),
    "100,000 arrays": Case(b"\x91" * 100_000 + b"\x01", says=DEEP),
    "100,000 maps": Case(b"\x81\xa1a" * 100_000 + b"\x01", says=DEEP),
    "1,000,000 openings": Case(b"\x91" * 1_000_000, says=DEEP),
    "4 GiB promised": Case(b"\xdd\xff\xff\xff\xff", says="ends too early"),
    "4 GiB of text promised": Case(b"\xdb\xff\xff\xff\xff" + b"a" * MIB, says="ends too early"),
    "text that is not UTF-8": Case(msgpack.packb("a" * 9)[:-1] + b"\xff", says="not UTF-8"),
    "a million empty maps": Case(msgpack.packb([{}] * 1_000_000), TAKEN),
    "a million empty arrays": Case(msgpack.packb([[]] * 1_000_000), TAKEN),
    "duplicate keys": Case(b"\x82\xa1a\x01\xa1a\x02", TAKEN),
    "NaN": Case(msgpack.packb([float("nan")]), TAKEN),
}


@pytest.mark.parametrize("name", BINARY_CASES)
def test_msgpack_is_taken_or_refused_and_says_why(fast: Server, name: str) -> None:
    case = BINARY_CASES[name]
    status, answer = post(fast, case.content, BINARY)
    assert status in case.statuses, answer
    assert status == 200 or re.search(case.says, str(answer)), answer


# --- cut at every position ---

DOCUMENT: Final = {
    "text": 'a "quoted" \u20ac\U0001f600\n',
    "numbers": [0, -1, 2.5, 1e-300, 10**30],
    "others": [True, False, None, {}, [], {"a": {"b": [{}]}}],
}


@pytest.mark.parametrize("parser", ["fast", "python", "typed"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_json_cut_at_any_position_is_400(parser: str, is_ascii: bool, request: pytest.FixtureRequest) -> None:
    content = json.dumps(DOCUMENT, ensure_ascii=is_ascii).encode()
    check_cuts(request.getfixturevalue(parser), content, {}, r"char \d+|byte \d+|position \d+")


def test_msgpack_cut_at_any_position_is_400(fast: Server) -> None:
    content = msgpack.packb({**DOCUMENT, "numbers": [0, -1, 2.5, 2**40], "bytes": b"bytes"})
    check_cuts(fast, content, BINARY, "ends too early")


def check_cuts(server: Server, content: bytes, fields: dict[str, str], says: str) -> None:
    """Each beginning of `content` is refused, all of them over one connection."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with server.connect() as peer, peer.makefile("rb") as answers:
        for length in range(len(content)):
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {length}\r\n\r\n"
            peer.sendall(head.encode() + content[:length])
            assert answers.readline() == b"HTTP/1.1 400 Bad Request\r\n", (length, content[:length])
            size = 0
            while (line := answers.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    size = int(line.partition(b":")[2])
            assert re.search(says, json.loads(answers.read(size))["error"]), (length, content[:length])
