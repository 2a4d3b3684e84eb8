"""A connection each of whose requests is a span of OpenTelemetry's, as its conventions for HTTP servers have it.

A class of its own, as `access.py` has one, so that a server without the SDK pays nothing. Made by `server.py`, whose
listener then names every request: the way of those with an id is the way that leads through here.
"""

from __future__ import annotations

import re
from typing import Any, Final

from opentelemetry import context, propagate, trace

from fastserve.http11.access import LoggedConnection
from fastserve.http11.listener import Listener
from fastserve.messages import Addresses, Head, Request
from fastserve.traceparent import TRACEPARENT, TRACESTATE

# What is not in it is `_OTHER`, and HTTP in the span's name: a client may send anything (semantic conventions, HTTP).
_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"})
# Any name of a model is the same route, and what is behind it one of a few: routes of spans must not be the client's.
_OF_MODEL: Final = re.compile(rb"/v1/models/[^/]+?(:predict|:predict_binary|/loaded|/schema)?/?")


class ServerSpans:
    """Begins the span of a request."""

    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer

    def begin(self, request: Request, addresses: Addresses) -> Any:
        """The span of `request`, child of what its header fields tell of; None for what is quiet.

        It becomes the current one in this context, which must be the request's own. Whoever reads the fields from now
        on finds it as the parent in `traceparent`.
        """
        head = request.head
        if head.route.is_quiet:  # type: ignore[union-attr]  # routed when it was parsed
            return None
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.fields.items()}
        parent = propagate.extract(carrier)
        route = route_of(head)
        attributes = attributes_of(head, addresses, route)
        method = attributes["http.request.method"].replace("_OTHER", "HTTP")
        name = method if route is None else f"{method} {route}"
        kind = trace.SpanKind.SERVER
        span = self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes)
        here = trace.set_span_in_context(span, parent)
        context.attach(here)
        told: dict[str, str] = {}
        propagate.inject(told, here)
        own = {name.lower().encode(): value.encode("latin-1") for name, value in told.items()}
        fields = {**head.fields, **own}
        if TRACEPARENT in own and TRACESTATE not in own:
            fields.pop(TRACESTATE, None)  # of a trace that could not be gone on with (Trace Context section 4.3)
        request.head = head.with_fields(head.section, fields, head.content_length)
        return span


def route_of(head: Head) -> str | None:
    """The route in as few words as there are routes; None where none was found."""
    if head.route is None or head.route.is_refusal:
        return None
    of_model = _OF_MODEL.fullmatch(head.path)
    if of_model is not None:
        return "/v1/models/{model}" + (of_model[1] or b"").decode()
    return (head.path.rstrip(b"/") or b"/").decode("latin-1")


def attributes_of(head: Head, addresses: Addresses, route: str | None) -> dict[str, Any]:
    """By the names of the semantic conventions. Without the query, which may hold what nobody else should read."""
    attributes: dict[str, Any] = {
        "http.request.method": head.method.decode() if head.method in _METHODS else "_OTHER",
        "url.path": head.path.decode("latin-1"),
        "url.scheme": "https" if addresses.is_encrypted else "http",
        "network.protocol.version": "1.0" if head.is_http10 else "1.1",
    }
    if route is not None:
        attributes["http.route"] = route
    if b"user-agent" in head.fields:
        attributes["user_agent.original"] = head.fields[b"user-agent"].decode("latin-1")
    host, _, port = head.fields.get(b"host", b"").decode("latin-1").rpartition(":")
    if port.isdecimal():
        attributes["server.address"], attributes["server.port"] = host, int(port)
    if addresses.client is not None:
        attributes["client.address"] = attributes["network.peer.address"] = addresses.client[0]
        attributes["network.peer.port"] = addresses.client[1]
    return attributes


class TracedConnection(LoggedConnection):
    """LoggedConnection, if lines are wanted, with a span for each request that ends when its answer is complete."""

    __slots__ = ("_span", "_spans")

    def __init__(self, listener: Listener, spans: ServerSpans) -> None:
        super().__init__(listener)
        self._spans = spans
        self._span: Any = None  # of the request that is being answered

    def _answer_named(self, request: Request) -> None:
        self._span = self._spans.begin(request, self.addresses(request))
        super()._answer_named(request)

    def _log(self, request: Request, status: int) -> None:
        if request is self._request:
            self._tell_status(status)
        if self._listener.config.access_log:
            super()._log(request, status)

    def _tell_status(self, status: int) -> None:
        if self._span is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= 500:
                self._span.set_attribute("error.type", str(status))
                self._span.set_status(trace.StatusCode.ERROR)

    def _end_exchange(self) -> None:
        self._end_span()
        super()._end_exchange()

    def upgrade(self, request: Request, make_protocol: Any) -> None:
        if request is self._request:
            self._tell_status(101)
            self._end_span()
        super().upgrade(request, make_protocol)

    def abort(self, request: Request) -> None:
        """The answer is not whole."""
        if request is self._request and self._span is not None:
            self._span.set_status(trace.StatusCode.ERROR)
            self._end_span("aborted")
        super().abort(request)

    def _drop_request(self) -> None:
        self._end_span("connection_lost")
        super()._drop_request()

    def _end_span(self, error: str | None = None) -> None:
        span, self._span = self._span, None
        if span is not None:
            if error is not None:
                span.set_attribute("error.type", error)
            span.end()
