"""Heads that are not parsed but recognised: each is exactly what parsing would have made of it, or is parsed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import Config
from fastserve.http11 import reader as reader_module
from fastserve.http11.form import MAX_BLANKS, MAX_FORM_BYTES, Form, form_of
from fastserve.http11.parser import make_head, parse_head, parse_request_line
from fastserve.http11.phase import Phase
from fastserve.http11.reader import FORM_TRIES
from fastserve.messages import MEANINGFUL, Head, Response, Route
from fastserve.metrics import Metrics
from tests.support.fakes import Peer
from tests.support.watched import WatchedFields

LINE = b"POST /a?b HTTP/1.1"
FIELDS = {
    b"Host": b"x",
    b"Content-Length": b"2",
    b"traceparent": b"00-1-2-01",
    b"X-Request-ID": b"one",
    b"User-Agent": b"some/1.0 (thing)",
}
# Values that mean something somewhere, or that a grammar takes exception to.
VALUES = (
    *(b"", b" ", b"0", b"2", b"3", b"007", b"+2", b"2 2", b"9" * 20, b"9" * 30, b"200", b"x:80", b"a b, c", b"two\t"),
    *(b"caf\xc3\xa9", b"\xa0", b"\x00", b"a\rb", b"a\nb", b"\x7f", b"a\r\n b", b"a\r\nHost: y", b"a\r\n\r\n", b"\t1"),
    *(b"chunked", b"close", b"keep-alive", b"upgrade", b"100-continue", b"gzip", b"identity", b"application/json"),
)
NAMES = (*FIELDS, *MEANINGFUL, b"proxy-connection", b"Upgrade", b"HOST", b"content-Length", b"Accept")


def write(fields: dict[bytes, bytes], line: bytes = LINE) -> bytes:
    return line + b"".join(b"\r\n%b: %b" % field for field in fields.items()) + b"\r\n\r\n"


def facts_of(head: Head) -> dict[str, object]:
    facts = {name: getattr(head, name) for name in Head.__slots__ if name != "route"}
    return {**facts, "order": list(head.fields)}


def make_form(*changed: bytes, config: Config | None = None) -> Form:
    config = config or Config()
    before = parse_head(write(FIELDS), config)
    after = parse_head(write({**FIELDS, **dict.fromkeys(changed, b"1")}), config)
    form = form_of(before, after, None, config)
    assert form is not None
    return form


def check(form: Form, received: bytes, config: Config) -> bool:
    """Whether the form fits `received`, of which parsing then says exactly the same."""
    filled = form.fill(received)
    if filled is None:
        return False
    assert received.index(b"\r\n\r\n") + 4 == len(filled.section)
    assert facts_of(filled) == facts_of(parse_head(filled.section, config))
    return True


@pytest.mark.parametrize("name", FIELDS)
def test_a_filled_form_is_what_parsing_makes_of_the_section(name: bytes) -> None:
    form = make_form(name)
    fits = [value for value in VALUES if check(form, write({**FIELDS, name: value}) + b"12", Config())]
    assert {b"2", b"3", b"007", b"200"} <= set(fits)
    assert not {b"\x00", b"a\rb", b"a\nb", b"\x7f", b"a\r\n b", b"a\r\nHost: y"} & set(fits)


@given(st.data())
def test_what_a_form_takes_parsing_takes_for_the_same(data: st.DataObject) -> None:
    config = Config(max_content_bytes=100, max_header_bytes=300)
    form = make_form(*data.draw(st.sets(st.sampled_from(tuple(FIELDS)), min_size=1)), config=config)
    chosen = st.sampled_from(VALUES) | st.binary(max_size=40) | st.text(max_size=100).map(str.encode)
    changes = data.draw(st.dictionaries(st.sampled_from(NAMES), chosen, max_size=4))
    section = bytearray(write({**FIELDS, **changes}) + data.draw(st.binary(max_size=4)))
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(section) - 1), st.integers(0, 255)), max_size=2)
    ):
        section[place] = byte
    check(form, bytes(section), config)


@pytest.mark.parametrize("seed", range(40))
def test_a_connection_answers_as_if_it_remembered_nothing(seed: int) -> None:
    """Requests like one another, in any order: heads and answers are those of connections of their own."""
    chance = random.Random(seed)
    peer, answered = Peer(), b""
    names = chance.sample(NAMES, 4)
    for _ in range(30):
        changes = {name: chance.choice(VALUES) for name in names if chance.random() < 0.4}
        if chance.random() < 0.5:  # else nearly every connection ends at its first request
            changes = {
                b"traceparent": b"%x" % chance.getrandbits(64),
                b"Content-Length": b"%d" % chance.randrange(12),
            }
        raw = write({**FIELDS, **changes}) + b"123456789012"[: chance.randrange(13)]
        cut = chance.choice((0, 0, len(raw) - 3, chance.randrange(len(raw))))
        alone = Peer()
        expected = alone.send(raw)
        before = len(peer.requests)
        answered += expected
        assert peer.send(raw[:cut], raw[cut:]) == answered
        now = peer.requests[before:]
        assert [facts_of(r.head) for r in now] == [facts_of(r.head) for r in alone.requests]
        assert [r.content for r in now] == [r.content for r in alone.requests]
        if alone.connection._phase is not Phase.IDLE:
            return


def test_heads_that_differ_in_values_are_parsed_twice_and_then_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = count_parsed(monkeypatch)
    peer = Peer()
    for number in range(20):
        fields = {**FIELDS, b"traceparent": b"%d" % number}
        if number > 5:  # one more that varies is one more that is parsed
            fields[b"Content-Length"] = b"%d" % (number % 10)
        peer.send(write(fields) + b"1234567890"[: int(fields[b"Content-Length"])])
    assert len(peer.requests) == 20
    assert len(parsed) == 3


def test_a_head_is_recognised_though_its_content_comes_later_or_more_does(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = count_parsed(monkeypatch)
    peer = Peer()
    for number in range(6):
        peer.send(write({**FIELDS, b"traceparent": b"%d" % number}), b"ab")
    assert peer.send(write({**FIELDS, b"traceparent": b"x"}) + b"cd" + write(FIELDS) + b"ef").endswith(b"/a ef")
    assert [request.content for request in peer.requests] == [b"ab"] * 6 + [b"cd", b"ef"]
    assert len(parsed) == 3


def test_forms_are_given_up_when_none_is_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = count_parsed(monkeypatch)
    peer = Peer()
    for number in range(FORM_TRIES + 1):  # each as the one before but for a field that has not varied yet
        fields = {b"Host": b"x"} | {b"A%d" % n: b"1" if n < number else b"0" for n in range(9)}
        assert (peer.connection._reader.form is not None) == (number > 1)
        peer.send(write(fields, b"GET / HTTP/1.1"))
    assert len(parsed) == FORM_TRIES + 1
    assert peer.connection._reader.form is None


def test_each_use_of_a_form_pays_for_looking_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = count_parsed(monkeypatch)
    peer = Peer()
    for number in range(80):  # two ways that take turns, each like itself for a while
        name = b"A" if number % 10 < 5 else b"B"
        peer.send(write({b"Host": b"x", name: b"%d" % number}, b"GET / HTTP/1.1"))
    assert len(parsed) == 32


def test_a_form_is_not_made_of_what_is_parsed_with_more_than_its_lines() -> None:
    config = Config()
    many = [b"A%d" % number for number in range(MAX_BLANKS + 1)]
    for fields, other in (
        ({b"Host": b"x", b"A": b"1", b"a": b"2"}, {b"Host": b"x", b"A": b"1", b"a": b"3"}),  # a list
        ({b"Host": b"x", b"Connection": b"close"}, {b"Host": b"x", b"Connection": b"keep-alive"}),
        ({b"Host": b"x", b"A": b"1"}, {b"Host": b"x", b"B": b"1"}),
        ({b"Host": b"x", b"A": b"1"}, {b"Host": b"x", b"A": b" 1"}),  # nothing but white space
        ({b"Host": b"x", **dict.fromkeys(many, b"1")}, {b"Host": b"x", **dict.fromkeys(many, b"2")}),
        ({b"Host": b"x", b"A": b"1"}, {b"Host": b"x", b"A": b"1" * MAX_FORM_BYTES}),
    ):
        before, head = (parse_head(write(each), config) for each in (fields, other))
        assert form_of(before, head, None, config) is None
    before, head = (
        parse_head(write({b"Host": b"x", b"A": b"%d" % n}, b"GET http://y/ HTTP/1.1"), config) for n in (1, 2)
    )
    assert form_of(before, head, None, config) is None


@pytest.mark.parametrize("values", [[b"1", b"1"], [b"1", b"2", b"3", b"4"]])
def test_what_is_remembered_of_heads_leads_elsewhere_once_routes_have_changed(values: list[bytes]) -> None:
    peer = Peer()

    def ask(value: bytes) -> bytes:
        before = len(peer.transport.sent)
        return peer.send(write({**FIELDS, b"traceparent": value}) + b"{}")[before:]

    for value in values:
        assert ask(value).startswith(b"HTTP/1.1 200 ")
    changed = Route(lambda request: request.connection.send_response(request, Response((415, b""), b"")))
    peer.listener.route = lambda head: changed
    peer.listener.reroute()
    assert ask(values[-1]).startswith(b"HTTP/1.1 415 ")
    assert ask(b"another").startswith(b"HTTP/1.1 415 ")


def test_an_answer_is_counted_where_its_request_went_though_routes_have_changed() -> None:
    peer = Peer(answers_at_once=False)
    metrics = Metrics()
    endpoints = [metrics.endpoint("before"), metrics.endpoint("now")]
    routes = iter([Route(peer.requests.append, endpoint) for endpoint in endpoints])
    peer.listener.route = lambda head: next(routes)
    peer.send(write(FIELDS) + b"{}")
    peer.listener.reroute()
    peer.answer(peer.requests[0])
    assert [endpoint.others[200] for endpoint in endpoints] == [1, 0]


def test_routes_may_change_before_anything_is_received() -> None:
    peer = Peer()
    peer.listener.reroute()
    assert peer.send(write(FIELDS) + b"{}").startswith(b"HTTP/1.1 200 ")


def test_blanks_remain_where_the_field_is_still_there() -> None:
    config = Config()
    before, head = (parse_head(write({**FIELDS, b"User-Agent": value}), config) for value in (b"a", b"b"))
    form = form_of(before, head, make_form(b"traceparent", b"Content-Length"), config)
    assert form is not None
    assert form.names == {b"user-agent", b"traceparent", b"content-length"}
    before, head = (parse_head(write({b"Host": b"x", b"User-Agent": value}), config) for value in (b"a", b"b"))
    form = form_of(before, head, form, config)
    assert form is not None
    assert form.names == {b"user-agent"}


def test_a_form_keeps_the_limits() -> None:
    limits = Config(max_header_bytes=len(write(FIELDS)) + 20, max_content_bytes=50)
    form = make_form(b"traceparent", b"Content-Length", config=limits)
    room = FIELDS[b"traceparent"] + b"a" * 20
    assert check(form, write({**FIELDS, b"traceparent": room}), limits)
    assert not check(form, write({**FIELDS, b"traceparent": room + b"a"}), limits)
    assert check(form, write({**FIELDS, b"Content-Length": b"50"}), limits)
    assert not check(form, write({**FIELDS, b"Content-Length": b"51"}), limits)


ROUTED = {b"x-request-timeout", b"x-server-timing"}  # asked for by the router alone


def test_no_other_field_bears_on_a_head_than_those_said_to() -> None:
    line = parse_request_line(LINE, 100)
    fields = WatchedFields({})
    for extra in ({b"expect": b"100-continue"}, {b"transfer-encoding": b"chunked"}, {b"content-length": b"1"}):
        fields.clear()
        fields.update({b"host": b"x", b"connection": b"close", b"x-request-id": b"", **extra})
        make_head(b"", line, fields, Config())
    assert fields.asked == (MEANINGFUL | {b"content-length"}) - {b"content-type", *ROUTED}


def count_parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    parsed: list[bytes] = []

    def parse(section: bytes, config: Config) -> Head:
        parsed.append(section)
        return parse_head(section, config)

    monkeypatch.setattr(reader_module, "parse_head", parse)
    return parsed
