"""A table of paths: (method, path) to the route that answers it; 404 and 405 with `Allow`.

Asked once for each header section that is parsed, not for each request. What stands in it is `router.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastserve.endpoints.failures import truss_error
from fastserve.endpoints.marks import FROM_CLIENT
from fastserve.endpoints.openapi import Operations
from fastserve.messages import Head, Request, Response, Route
from fastserve.metrics import Metrics

Answer = Callable[[Request], None]
Finder = Callable[[Head], Route]
Methods = dict[bytes, Finder]

_MODELS: Final = b"/v1/models/"  # then any one segment: the name of the model is not looked at, as in Truss


class Paths:
    """Path to method to what finds the route of a head there."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = Metrics() if metrics is None else metrics
        self._paths: dict[bytes, Methods] = {}
        self._of_model: dict[bytes, Methods] = {}  # by what follows the name of the model
        self._kinds: dict[Finder, str] = {}

    def _get(self, kind: str, answer: Answer, *, is_open: bool = False, is_quiet: bool = False) -> Methods:
        """What is asked for with GET or HEAD. kind: what `operations` calls it. is_open, is_quiet: as a Route's."""
        find = self._finder(kind, answer, is_open=is_open, is_quiet=is_quiet)
        return dict.fromkeys((b"GET", b"HEAD"), find)

    def _finder(self, kind: str, answer: Answer, *, is_open: bool = False, is_quiet: bool = False) -> Finder:
        """One route for every head."""
        route = Route(answer, self._metrics.endpoint(kind), is_open=is_open, is_quiet=is_quiet)

        def find(head: Head) -> Route:
            return route

        self._kinds[find] = kind
        return find

    def operations(self) -> Operations:
        """Every path, with {model} for any name, and its methods with the kind of what answers: for openapi.json."""
        models = {_MODELS + b"{model}" + rest: methods for rest, methods in self._of_model.items()}
        return {
            path.decode(): [(method.decode(), self._kinds[find]) for method, find in methods.items()]
            for path, methods in {**self._paths, **models}.items()
        }

    def route(self, head: Head) -> Route:
        """The route for `head`; a refusal if there is none."""
        methods = self._methods(head.path)
        if methods is None and head.path.endswith(b"/") and head.path != b"//":
            methods = self._methods(head.path[:-1])  # Truss redirects there, which not every client follows
        if methods is None:
            if head.path == b"*":  # OPTIONS *: the server as a whole (RFC 9110 section 9.3.7)
                return self._options({b"GET", b"HEAD", b"POST"}, 200)
            return self._refuse(truss_error(404, FROM_CLIENT, "Not Found"))
        find = methods.get(head.method)
        if find is not None:
            return find(head)
        if head.method == b"OPTIONS":
            return self._options(set(methods), 204)
        return self._refuse(truss_error(405, FROM_CLIENT, "Method Not Allowed", _allow(set(methods))))

    def _methods(self, path: bytes) -> Methods | None:
        methods = self._paths.get(path)
        if methods is None and path.startswith(_MODELS):
            methods = self._methods_of_model(path[len(_MODELS) :])
        return methods

    def _methods_of_model(self, rest: bytes) -> Methods | None:
        name, slash, verb = rest.partition(b"/")
        if not name:
            return None
        if slash:
            return self._of_model.get(b"/" + verb)
        before, colon, verb = name.rpartition(b":")
        return self._of_model.get(colon + verb if before else b"", self._of_model[b""])

    def _refuse(self, response: Response) -> Route:
        return Route(
            lambda request: request.connection.send_response(request, response),
            self._metrics.endpoint("none"),
            is_refusal=True,
        )

    def _options(self, methods: set[bytes], status: int) -> Route:
        response = Response((status, b""), b"", _allow(methods))
        return Route(
            lambda request: request.connection.send_response(request, response), self._metrics.endpoint("none")
        )


def _allow(methods: set[bytes]) -> bytes:
    return b"Allow: %b\r\n" % b", ".join(sorted(methods | {b"OPTIONS"}))
