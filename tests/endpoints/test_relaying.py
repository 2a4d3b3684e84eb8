"""Fields added on the way to the connection: to every kind of answer, by one who adds and by two."""

from __future__ import annotations

import asyncio

from fastserve.endpoints.cors import Sharing
from fastserve.endpoints.relaying import RelayingResponder
from fastserve.messages import Head, Request, Response
from tests.endpoints.test_prediction import Scene
from tests.support.responder import RecordingResponder


def fields_for(response: Response) -> bytes:
    return b"" if b"Own" in response.fields else b"Added: 1\r\n"


def relayed() -> tuple[RecordingResponder, RelayingResponder, Request]:
    responder = RecordingResponder()
    adding = RelayingResponder(responder, fields_for)
    return responder, adding, Request(Head(b"", b"POST", b"/p", b"/p", {}), b"", adding)


def test_every_kind_of_answer_has_the_fields() -> None:
    responder, adding, request = relayed()
    adding.send_json(request, b"1")
    assert responder.response is not None
    assert (responder.response.kind, responder.content) == ((200, b"application/json"), b"1")
    assert responder.response.fields == b"Added: 1\r\n"
    adding.send_response(request, Response((404, b""), b"2", b"A: b\r\n", (b"3",)))
    assert (responder.response.kind, responder.content) == ((404, b""), b"23")
    assert responder.response.fields == b"A: b\r\nAdded: 1\r\n"
    adding.send_head(request, Response((200, b""), b""), 2, may_pause=True)
    assert responder.response.fields == b"Added: 1\r\n"
    assert responder.length == 2


def test_a_response_to_which_nothing_is_added_is_sent_as_it_is() -> None:
    responder, adding, request = relayed()
    own = Response((200, b""), b"", b"Own: 1\r\n")
    adding.send_response(request, own)
    assert responder.response is own


def test_all_else_goes_through() -> None:
    responder, adding, request = relayed()
    assert adding.is_unanswered(request)
    adding.send_chunks(request, [b"2"])
    adding.send_end(request)
    adding.abort(request)
    adding.upgrade(request, lambda listener: asyncio.Protocol())
    assert responder.calls == ["chunks", "end", "abort", "upgrade"]
    assert responder.content == b"2"
    assert not adding.is_unanswered(request)
    assert adding.addresses(request) == responder.addresses(request)
    assert adding.can_write(request)
    responder.is_writable = False
    assert not adding.can_write(request)


def test_cors_and_server_timing_stand_together_in_one_answer() -> None:
    scene = Scene().ready()
    head = Head(b"", b"POST", b"/p", b"/p", {b"origin": b"https://a", b"x-server-timing": b"1"})
    head.route = Sharing(["https://a"], scene.endpoint.route).route(head)
    head.route.answer(Request(head, b"{}", scene.responder))
    (prediction,) = scene.entry.jobs
    prediction.value = b"1"
    prediction.on_result()
    assert scene.responder.response is not None
    assert scene.responder.content == b"1"
    fields = scene.responder.response.fields
    names = [line.partition(b":")[0] for line in fields.splitlines()]
    assert sorted(names) == sorted(set(names))
    assert names[:2] == [b"Server-Timing", b"Access-Control-Allow-Origin"]
    assert b"Timing-Allow-Origin: https://a\r\n" in fields
    assert head.route.endpoint is scene.metrics.methods["predict"]
