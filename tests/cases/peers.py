"""Runs a case on the real parser, connection and router with a fake transport, in whatever cuts.

The model is a few lines here: it shows what it was given, as the one in tests/models/echo does.
"""

from __future__ import annotations

import json

from fastserve.codec.json_text import decode_json
from fastserve.endpoints.failures import refusal
from fastserve.endpoints.paths import Answer, Finder
from fastserve.endpoints.predict import read_content_type
from fastserve.endpoints.probes import answer_liveness
from fastserve.endpoints.router import Endpoints, Router
from fastserve.errors import RequestError
from fastserve.interface.disconnection import Disconnection
from fastserve.interface.request import Request as SeenRequest
from fastserve.messages import JSON, OCTET_STREAM, Head, Request, Response, Route
from tests.cases.case import Case
from tests.support.fakes import Peer

WAIT_S = 100.0  # longer than every deadline


def _finder(answer: Answer) -> Finder:
    return lambda head: Route(answer)


def _show(request: Request) -> None:
    head = request.head
    seen = SeenRequest(head, b"", None, Disconnection())
    told = {"seen": request.content.decode("latin-1"), "url": seen.url}
    told.update({name: seen.headers.get(f"{start}{name}", "") for start, name in (("", "host"), ("x-", "tag"))})
    request.connection.send_json(request, json.dumps(told).encode())


def _find_json(head: Head) -> Route:
    refused = read_content_type(head.fields.get(b"content-type", JSON))[1]
    if refused is None:
        return Route(_answer_json)
    response = refusal(refused)
    return Route(lambda request: request.connection.send_response(request, response), is_refusal=True)


def _answer_json(request: Request) -> None:
    try:
        request.connection.send_json(request, json.dumps(decode_json(request.content)).encode())
    except RequestError as error:
        request.connection.send_response(request, refusal(error))


def _stream(request: Request) -> None:
    request.connection.send_head(request, Response((200, OCTET_STREAM), b""))
    for chunk in filter(None, json.loads(request.content)):
        request.connection.send_chunks(request, [chunk.encode()])
    request.connection.send_end(request)


ROUTER = Router(
    Endpoints(
        predict=_finder(_show),
        openai={"completions": _find_json, "messages": _finder(_stream)},
        websocket=_finder(answer_liveness),
        liveness=answer_liveness,
        readiness=answer_liveness,
        health=answer_liveness,
        metrics=answer_liveness,
        schema=answer_liveness,
        openapi=lambda operations, request: answer_liveness(request),
    )
)


class CasePeer(Peer):
    """A peer whose requests go by the real router. seen: the contents that the model was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []

    def _route(self, head: Head) -> Route:
        route = ROUTER.route(head)
        if (head.method, head.path) != (b"POST", b"/predict"):
            return route
        return Route(self._show)

    def _show(self, request: Request) -> None:
        self.seen.append(request.content)
        _show(request)


def run(case: Case, *pieces: bytes) -> CasePeer:
    """The peer that has sent `pieces`, which are `case.sent` in some cuts, and has done what the case says then."""
    peer = CasePeer()
    peer.send(*pieces)
    if case.ends:
        peer.end()
    if case.waits:
        peer.advance(WAIT_S)
    return peer
