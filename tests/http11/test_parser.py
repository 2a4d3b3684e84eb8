"""Header sections: what is taken, what is refused and with which status, at each limit's edge."""

from __future__ import annotations

import pytest

from fastserve.config import Config
from fastserve.errors import RequestError
from fastserve.http11.parser import EarlyRefusal, _parse_framing, list_fields, parse_head
from fastserve.messages import Head
from tests.support.fakes import Peer

HOST = b"Host: x\r\n"


def parse(line: bytes, fields: bytes = HOST, config: Config | None = None) -> Head:
    return parse_head(line + b"\r\n" + fields + b"\r\n", config or Config())


def status_of(section: bytes, config: Config | None = None) -> int:
    with pytest.raises(RequestError) as caught:
        parse_head(section, config or Config())
    return caught.value.status


def test_a_head_holds_what_came() -> None:
    head = parse(b"POST /a%20b?c=d HTTP/1.1", b"HOST: x:80\r\nContent-Length: 7 \r\nX-Y:  z\t\r\nAccept:\r\n")
    assert (head.method, head.target, head.path) == (b"POST", b"/a%20b?c=d", b"/a b")
    assert head.fields == {b"host": b"x:80", b"content-length": b"7", b"x-y": b"z", b"accept": b""}
    assert (head.content_length, head.message_size) == (7, len(head.section) + 7)
    assert head.keep_alive
    assert not head.is_http10
    assert head.is_plain


def test_repeated_fields_are_joined_as_a_list() -> None:
    head = parse(b"GET / HTTP/1.1", HOST + b"Accept: a\r\nACCEPT: b\r\nCookie: c=1\r\nCookie: d=2\r\n")
    assert head.fields[b"accept"] == b"a, b"
    assert head.fields[b"cookie"] == b"c=1; d=2"
    assert list_fields(head.section)[1:3] == [(b"accept", b"a"), (b"accept", b"b")]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", b"/"),
        (b"/a/../b//c", b"/a/../b//c"),
        (b"/%2e%2E/x", b"/../x"),
        (b"/%252e", b"/%2e"),
        (b"http://other/y?z", b"/y"),
        (b"HTTPS://other:8443", b"/"),
        (b"/?%zz", b"/"),
    ],
)
def test_the_path_is_decoded_once_and_never_normalised(target: bytes, path: bytes) -> None:
    assert parse(b"GET %b HTTP/1.1" % target).path == path


def test_http_1_0_needs_no_host_and_ignores_expectations() -> None:
    head = parse(b"POST / HTTP/1.0", b"Expect: 100-continue\r\nContent-Length: 1\r\n")
    assert not head.expects_continue
    assert head.is_http10


def test_the_request_line_limit_is_met_exactly() -> None:
    config = Config(max_request_line_bytes=100)
    fits = b"GET /%b HTTP/1.1" % (b"a" * (100 - 14))
    assert len(fits) == 100
    parse(fits, config=config)
    assert status_of(fits.replace(b"/a", b"/aa") + b"\r\n" + HOST + b"\r\n", config) == 414
    peer = Peer(config)
    assert peer.send(b"GET /" + b"a" * 97) == b"" or peer.is_closed
    assert Peer(config).send(b"GET /" + b"a" * 96) == b""
    assert Peer(config).send(b"GET /" + b"a" * 97).startswith(b"HTTP/1.1 414")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"G\xe9T /" + b"a" * 100, 400),
        (b"GET /" + b"a" * 46 + b"\x00" + b"a" * 40, 414),
        (b"GET /" + b"a" * 100 + b" HTTP/1.1 \x00", 414),
        (b"GET /" + b"a" * 43 + b" x y", 400),
        (b"GET /" + b"a" * 36 + b" HTTP/1.1", 414),
        (b"GET /" + b"a" * 35 + b" HTTP/1.1", 431),
    ],
)
def test_a_long_malformed_request_line_is_refused_alike_however_the_bytes_arrive(line: bytes, status: int) -> None:
    config = Config(max_request_line_bytes=49, max_header_bytes=100)
    raw = line + b"\r\nHost: x\r\nA: " + b"b" * 100
    for cut in range(len(raw)):
        assert Peer(config).send(raw[:cut], raw[cut:]).startswith(b"HTTP/1.1 %d " % status), cut
    assert Peer(config).send(*(raw[i : i + 1] for i in range(len(raw)))).startswith(b"HTTP/1.1 %d " % status)


def test_the_header_section_limit_is_met_exactly() -> None:
    config = Config(max_header_bytes=500)
    start, end = b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"\r\n\r\n"
    fits = start + b"b" * (500 - len(start) - len(end)) + end
    parse_head(fits, config)
    over = start + b"b" * (501 - len(start) - len(end)) + end
    assert status_of(over, config) == 431
    for cut in (1, 400, 499, 500):
        assert Peer(config).send(over[:cut], over[cut:]).startswith(b"HTTP/1.1 431"), cut
        assert Peer(config).send(fits[:cut], fits[cut:]).startswith(b"HTTP/1.1 200"), cut


def test_the_number_of_fields_is_limited_exactly() -> None:
    config = Config(max_header_fields=5)
    fields = HOST + b"".join(b"A%d: b\r\n" % n for n in range(4))
    parse(b"GET / HTTP/1.1", fields, config)
    assert status_of(b"GET / HTTP/1.1\r\n" + fields + b"B: c\r\n\r\n", config) == 431


def test_what_may_still_become_a_request_is_waited_for() -> None:
    early = EarlyRefusal()
    section = b"OPTIONS /some/where?x=y HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
    for end in range(1, len(section)):
        early.check(section[:end], Config())


def test_both_framings_are_refused_here_too_and_not_by_llhttp_alone() -> None:
    with pytest.raises(RequestError) as caught:
        _parse_framing({b"content-length": b"1", b"transfer-encoding": b"chunked"}, False, Config())
    assert caught.value.status == 400
