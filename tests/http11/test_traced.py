"""Spans of requests: their names, parents, attributes, and when they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fastserve.config import Config
from fastserve.http11.listener import Listener
from fastserve.http11.traced import ServerSpans, TracedConnection, route_of
from fastserve.messages import JSON, Head, Request, Response, Route
from tests.support.fakes import Peer

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
GET = b"GET /v1/models/m/loaded?key=secret HTTP/1.1\r\nHost: there:8080\r\nUser-Agent: me\r\n\r\n"
CHILD = b"POST /predict HTTP/1.1\r\nHost: x\r\nTraceparent: %b\r\nContent-Length: 1\r\n\r\n1" % PARENT.encode()

_exporter = InMemorySpanExporter()
_provider = TracerProvider(shutdown_on_exit=False)
_provider.add_span_processor(SimpleSpanProcessor(_exporter))


class Traced(TracedConnection):
    def __init__(self, listener: Listener) -> None:
        super().__init__(listener, ServerSpans(_provider.get_tracer("test")))


@pytest.fixture(autouse=True)
def _no_spans() -> Iterator[None]:
    _exporter.clear()
    yield


def traced_peer(*, answers_at_once: bool = True, **settings: Any) -> Peer:
    config = Config(request_ids="all", **settings)
    quiet, refused = (b"/livez",), (b"/refused",)
    return Peer(config, connection=Traced, refused=refused, quiet=quiet, answers_at_once=answers_at_once)


def asked(raw: bytes) -> tuple[Peer, Request]:
    """A request that is being answered."""
    peer = traced_peer(answers_at_once=False)
    peer.send(raw)
    return peer, peer.requests[0]


def spans() -> list[Any]:
    """Those that have ended."""
    return list(_exporter.get_finished_spans())


def test_a_span_is_named_by_method_and_route_and_tells_what_the_conventions_say() -> None:
    peer = traced_peer()
    peer.send(GET)
    (span,) = spans()
    assert (span.name, span.kind, span.parent) == ("GET /v1/models/{model}/loaded", trace.SpanKind.SERVER, None)
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/v1/models/{model}/loaded",
        "url.path": "/v1/models/m/loaded",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "there",
        "server.port": 8080,
        "user_agent.original": "me",
    }
    assert span.status.is_unset


def test_a_traceparent_is_the_parent_and_the_model_is_given_the_span_as_its_own() -> None:
    peer, request = asked(CHILD)
    peer.answer(request)
    (span,) = spans()
    assert trace.format_trace_id(span.context.trace_id) == PARENT[3:35]
    assert trace.format_span_id(span.parent.span_id) == PARENT[36:52]
    told = request.head.fields[b"traceparent"].decode()
    assert told == f"00-{PARENT[3:35]}-{trace.format_span_id(span.context.span_id)}-01"
    assert request.ids[3][b"traceparent"] == told.encode()


@pytest.mark.parametrize("parent", [b"", b"Traceparent: nonsense\r\n"])
def test_a_tracestate_that_is_part_of_no_trace_is_not_handed_on_with_a_new_one(parent: bytes) -> None:
    _, request = asked(GET.replace(b"\r\n\r\n", b"\r\nTracestate: vendor=1\r\n%b\r\n" % parent))
    assert b"traceparent" in request.head.fields
    assert b"tracestate" not in request.head.fields


def test_a_tracestate_goes_with_its_trace() -> None:
    _, request = asked(CHILD.replace(b"Content", b"Tracestate: vendor=1\r\nContent"))
    assert request.head.fields[b"tracestate"] == b"vendor=1"


def test_each_request_of_a_connection_has_its_own_and_nothing_of_it_is_left() -> None:
    peer = traced_peer()
    peer.send(CHILD.replace(b"4bf9", b"aaaa"), CHILD.replace(b"4bf9", b"bbbb"), GET + GET)
    found = spans()
    assert [trace.format_trace_id(span.context.trace_id)[:4] for span in found[:2]] == ["aaaa", "bbbb"]
    assert [span.parent for span in found[2:]] == [None, None]
    assert len({span.context.trace_id for span in found}) == 4
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_it_is_the_current_span_for_whoever_answers() -> None:
    seen = []
    peer = traced_peer()
    route = Route(lambda request: seen.append(trace.get_current_span().get_span_context().trace_id))
    peer.listener.route = lambda head: route
    peer.send(CHILD)
    assert [trace.format_trace_id(trace_id) for trace_id in seen] == [PARENT[3:35]]


def test_the_scheme_of_an_encrypted_connection_is_https(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = traced_peer()
    monkeypatch.setattr(peer.transport, "get_extra_info", {"ssl_object": object()}.get)
    peer.send(GET)
    assert spans()[0].attributes["url.scheme"] == "https"


def test_what_has_no_route_is_named_by_the_method_alone() -> None:
    traced_peer().send(b"PROPFIND /refused HTTP/1.1\r\nHost: [::1]\r\n\r\n")
    (span,) = spans()
    assert span.name == "HTTP"
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.response.status_code"] == 404
    assert not span.attributes.keys() & {"http.route", "server.address", "error.type"}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        (b"/v1/models/some-name:predict", "/v1/models/{model}:predict"),
        (b"/v1/models/a:b:predict_binary", "/v1/models/{model}:predict_binary"),
        (b"/v1/models/m", "/v1/models/{model}"),
        (b"/v1/models/m:anything", "/v1/models/{model}"),
        (b"/v1/models/m/schema/", "/v1/models/{model}/schema"),
        (b"/v1/chat/completions/", "/v1/chat/completions"),
        (b"/", "/"),
    ],
)
def test_routes_are_few_whatever_the_paths(path: bytes, route: str) -> None:
    head = Head(b"", b"POST", path, path, {})
    assert route_of(head) is None
    head.route = Route(lambda request: None)
    assert route_of(head) == route


@pytest.mark.parametrize(("status", "is_error"), [(400, False), (500, True), (503, True)])
def test_an_error_of_the_server_is_one_of_the_span(status: int, is_error: bool) -> None:
    _, request = asked(GET)
    request.connection.send_response(request, Response((status, JSON), b"{}"))
    (span,) = spans()
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes.get("error.type") == (str(status) if is_error else None)
    assert (span.status.status_code is trace.StatusCode.ERROR) == is_error


def test_json_that_is_answered_the_short_way_ends_it_too() -> None:
    _, request = asked(CHILD)
    request.connection.send_json(request, b"1")
    assert spans()[0].attributes["http.response.status_code"] == 200


def test_that_of_a_stream_ends_with_the_stream() -> None:
    _, request = asked(GET)
    request.connection.send_head(request, Response((200, JSON), b""))
    request.connection.send_chunks(request, [b"1"])
    assert spans() == []
    request.connection.send_end(request)
    assert spans()[0].status.is_unset


def test_a_stream_that_is_cut_is_an_error() -> None:
    _, request = asked(GET)
    request.connection.send_head(request, Response((200, JSON), b""))
    request.connection.abort(request)
    request.connection.abort(request)
    (span,) = spans()
    assert span.attributes["error.type"] == "aborted"
    assert span.status.status_code is trace.StatusCode.ERROR


def test_it_ends_when_the_client_leaves_whatever_is_answered_later() -> None:
    peer, request = asked(GET)
    peer.leave()
    peer.answer(request)
    (span,) = spans()
    assert span.attributes["error.type"] == "connection_lost"
    assert "http.response.status_code" not in span.attributes


def test_that_of_an_upgrade_ends_with_it() -> None:
    _, request = asked(GET)
    request.connection.upgrade(request, lambda listener: asyncio.Protocol())
    request.connection.upgrade(request, lambda listener: asyncio.Protocol())
    (span,) = spans()
    assert span.attributes["http.response.status_code"] == 101


def test_probes_have_none_and_yet_their_answers() -> None:
    peer = traced_peer()
    assert peer.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert spans() == []


@pytest.mark.parametrize("access_log", [True, False])
def test_lines_for_each_answer_are_an_affair_of_their_own(access_log: bool, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("fastserve.access").addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "fastserve.access")
    traced_peer(access_log=access_log).send(CHILD)
    logging.getLogger("fastserve.access").removeHandler(caplog.handler)
    assert ("Handled request: POST /predict" in caplog.text) == access_log
    assert len(spans()) == 1
