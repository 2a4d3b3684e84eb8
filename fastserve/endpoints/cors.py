"""CORS: every answer says which pages in a browser may read it; what browsers ask before a request is answered here.

No request passes here unless --cors-origin is set. Made by `entrance.py`. Source: the Fetch standard, section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fastserve.endpoints.relaying import RelayingResponder
from fastserve.messages import Head, Request, Response, Route
from fastserve.metrics import Metrics

_ORIGIN: Final = b"origin"
_METHOD: Final = b"access-control-request-method"
_FIELDS: Final = b"access-control-request-headers"
# What the fields of an answer depend on: heads that differ in these are not to share a route.
CORS_FIELDS: Final = frozenset({_ORIGIN, _METHOD, _FIELDS})

# Every method that a route may have. Credentials are not allowed: keys come in a field, not in a cookie.
_METHODS: Final = b"Access-Control-Allow-Methods: GET, HEAD, OPTIONS, POST\r\n"
# Without it browsers ask again after 5 s; an origin that is taken off the list is out after as long.
_MAX_AGE: Final = b"Access-Control-Max-Age: 600\r\n"
# Request ids, Retry-After and Truss's error codes are for scripts to read, too. So is Server-Timing, for which
# browsers have an interface of its own, which asks for the third field (W3C Resource Timing).
_ALLOWED: Final = (
    b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Expose-Headers: *\r\nTiming-Allow-Origin: %b\r\n"
)
_VARY: Final = b"Vary: Origin\r\n"  # or a cache would give one origin's answer to another
_TOKENS: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?: ?, ?[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*")


class Sharing:
    """Finds routes whose answers may be read by pages of `origins`, in lower case; ("*",) is every one.

    refusal_fields: what answers carry whose request could not be read, so that nobody knows where it comes from.
    """

    __slots__ = ("_find", "_origins", "_preflights", "_takes_all", "refusal_fields")

    def __init__(self, origins: Sequence[str], find: Callable[[Head], Route], metrics: Metrics | None = None) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._takes_all = b"*" in self._origins
        self._find = find
        self._preflights = (Metrics() if metrics is None else metrics).endpoint("none")
        # A browser that is told of another origin than its page's refuses as if it were told nothing.
        self.refusal_fields = self._fields(next(iter(self._origins))) if len(self._origins) == 1 else _VARY

    def route(self, head: Head) -> Route:
        """The route found without CORS, its answers with the fields; a preflight's own, whatever its path."""
        fields = self._fields(head.fields.get(_ORIGIN, b"").lower())
        if head.method == b"OPTIONS" and _ORIGIN in head.fields and _METHOD in head.fields:
            response = Response((204, b""), b"", fields + _permissions(head.fields))
            return Route(
                lambda request: request.connection.send_response(request, response), self._preflights, is_open=True
            )
        route = self._find(head)

        def fields_for(response: Response) -> bytes:
            """None if the model speaks of CORS itself."""
            return b"" if b"access-control-allow-origin:" in response.fields.lower() else fields

        def answer(request: Request) -> None:
            request.connection = RelayingResponder(request.connection, fields_for)
            route.answer(request)

        return route.with_answer(answer)

    def _fields(self, origin: bytes) -> bytes:
        """The lines for a page of `origin`. Those for a page that may read nothing are none but Vary."""
        if self._takes_all:
            return _ALLOWED % (b"*", b"*")
        return _ALLOWED % (origin, origin) + _VARY if origin in self._origins else _VARY


def _permissions(fields: Mapping[bytes, bytes]) -> bytes:
    """What a preflight is granted: any field that it asks for, since none has a power of its own here."""
    asked = fields.get(_FIELDS, b"")
    lines = _METHODS + _MAX_AGE
    return lines + b"Access-Control-Allow-Headers: %b\r\n" % asked if _TOKENS.fullmatch(asked) else lines
