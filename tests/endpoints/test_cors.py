"""CORS: who may read which answer, preflights, and what routes share."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve.endpoints.cors import CORS_FIELDS, Sharing
from fastserve.messages import Head, Request, Response, Route
from fastserve.metrics import EndpointMetrics, Metrics
from tests.support.fakes import Peer
from tests.support.responder import RecordingResponder
from tests.support.watched import WatchedFields

A, B = b"https://a.example", b"https://b.example"
ALLOW, VARY = b"Access-Control-Allow-Origin", b"Vary: Origin\r\n"


def answer(request: Request) -> None:
    request.connection.send_response(request, Response((200, b""), b"answer", b"X-Own: 1\r\n"))


def share(*origins: bytes, route: Route | None = None) -> Sharing:
    found = route or Route(answer)
    return Sharing([origin.decode() for origin in origins], lambda head: found)


def head_of(method: bytes = b"POST", **fields: bytes) -> Head:
    encoded = {name.encode().replace(b"_", b"-"): value for name, value in fields.items()}
    return Head(b"", method, b"/p", b"/p", encoded)


def ask(sharing: Sharing, head: Head) -> Response:
    responder = RecordingResponder()
    sharing.route(head).answer(Request(head, b"", responder))
    assert responder.response is not None
    return responder.response


def preflight(sharing: Sharing, origin: bytes, asked: bytes = b"") -> Response:
    more = {"access_control_request_headers": asked} if asked else {}
    return ask(sharing, head_of(b"OPTIONS", origin=origin, access_control_request_method=b"POST", **more))


def test_a_page_of_an_origin_on_the_list_may_read_the_answer() -> None:
    fields = ask(share(A, B), head_of(origin=B)).fields
    assert fields.startswith(b"X-Own: 1\r\n" + ALLOW + b": https://b.example\r\n")
    assert b"Access-Control-Expose-Headers: *\r\n" in fields
    assert b"Timing-Allow-Origin: https://b.example\r\n" in fields
    assert VARY in fields


@pytest.mark.parametrize("origin", [b"https://c.example", b"https://a.example.evil", b"http://a.example", b"null"])
def test_others_may_not_and_caches_are_told_that_it_depends(origin: bytes) -> None:
    for head in (head_of(origin=origin), head_of()):
        fields = ask(share(A, B), head).fields
        assert ALLOW not in fields
        assert b"Timing" not in fields
        assert VARY in fields


def test_every_origin_is_one_answer_for_all() -> None:
    for head in (head_of(origin=A), head_of(origin=b"null"), head_of()):
        fields = ask(share(b"*"), head).fields
        assert ALLOW + b": *\r\n" in fields
        assert b"Timing-Allow-Origin: *\r\n" in fields
        assert VARY not in fields


def test_a_preflight_is_answered_for_any_path_and_needs_no_route() -> None:
    refusal = Route(answer, is_refusal=True)
    response = preflight(share(A, route=refusal), A, b"authorization,content-type, x-api-key")
    assert response.kind == (204, b"")
    assert response.content == b""
    assert ALLOW + b": https://a.example\r\n" in response.fields
    assert b"Access-Control-Allow-Methods: GET, HEAD, OPTIONS, POST\r\n" in response.fields
    assert b"Access-Control-Allow-Headers: authorization,content-type, x-api-key\r\n" in response.fields
    assert b"Access-Control-Max-Age: 600\r\n" in response.fields
    assert VARY in response.fields


def test_a_preflight_of_another_origin_is_granted_nothing() -> None:
    assert ALLOW not in preflight(share(A), B).fields


@pytest.mark.parametrize("asked", [b"a b", b"a,,b", b"a\tb", b"a: b", b"<a>", b"\xff"])
def test_what_is_no_list_of_field_names_is_not_repeated(asked: bytes) -> None:
    response = preflight(share(A), A, asked)
    assert b"Access-Control-Allow-Headers" not in response.fields


def test_options_that_are_no_preflight_go_their_way() -> None:
    for fields in ({}, {"origin": A}, {"access_control_request_method": b"POST"}):
        assert ask(share(A), head_of(b"OPTIONS", **fields)).content == b"answer"


def test_a_model_that_speaks_of_cors_itself_has_the_last_word() -> None:
    own = Response((200, b""), b"", b"access-control-allow-origin: https://own\r\n")
    route = Route(lambda request: request.connection.send_response(request, own))
    assert ask(share(A, route=route), head_of(origin=A)) is own


def test_all_else_of_a_route_is_as_it_was() -> None:
    for is_refusal, is_open in ((True, False), (False, True)):
        found = Route(answer, EndpointMetrics(), is_refusal=is_refusal, is_open=is_open, lacks_room=lambda head: True)
        route = share(A, route=found).route(head_of())
        assert route.answer is not found.answer
        assert all(getattr(route, name) is getattr(found, name) for name in Route.__slots__ if name != "answer")


def test_a_preflight_is_counted_with_what_has_no_endpoint() -> None:
    metrics = Metrics()
    sharing = Sharing(["https://a.example"], lambda head: Route(answer), metrics)
    head = head_of(b"OPTIONS", origin=A, access_control_request_method=b"POST")
    assert sharing.route(head).endpoint is metrics.endpoint("none")


def test_a_response_that_others_use_too_is_not_changed() -> None:
    common = Response((200, b""), b"", b"")
    route = Route(lambda request: request.connection.send_response(request, common))
    ask(share(A, route=route), head_of(origin=A))
    assert common.fields == b""


def test_what_cannot_be_read_is_shared_too_if_it_need_not_be_known_with_whom() -> None:
    assert share(b"*").refusal_fields.startswith(ALLOW + b": *\r\n")
    assert share(A).refusal_fields.startswith(ALLOW + b": https://a.example\r\n")
    assert share(A, B).refusal_fields == VARY


def test_no_field_bears_on_the_answer_but_those_said_to() -> None:
    for method in (b"POST", b"OPTIONS"):
        given: dict[bytes, bytes] = {b"origin": A, b"access-control-request-method": b"POST"}
        fields = WatchedFields(given)
        head = Head(b"", method, b"/p", b"/p", fields)
        fields.asked.clear()
        share(A).route(head)
        assert fields.asked <= CORS_FIELDS


def test_a_connection_that_remembers_heads_gives_no_page_the_answer_of_another() -> None:
    peer = Peer()
    sharing = share(A, B)
    peer.listener.route = sharing.route
    peer.listener.meaningful |= CORS_FIELDS

    def allowed(origin: bytes, number: int) -> Any:
        before = len(peer.transport.sent)
        sent = peer.send(b"GET /p HTTP/1.1\r\nHost: x\r\nTrace: %d\r\nOrigin: %b\r\n\r\n" % (number, origin))[before:]
        return next((line[len(ALLOW) + 2 :] for line in sent.split(b"\r\n") if line.startswith(ALLOW)), None)

    for number in range(30):
        for origin in (A, B):
            assert allowed(origin, number) == origin
        assert allowed(b"https://c.example", number) is None
