"""(method, path) to the route that answers it; 404 and 405 with `Allow`.

Asked once for each header section that is parsed, not for each request. Built by `server.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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
_PREDICT_SUFFIXES: Final = (b":predict", b":predict_binary")

OPENAPI: Final = b"/openapi.json"
HOT_RELOAD: Final = b"/hot-reload"
METRICS: Final = (b"/metrics", b"/metrics/")  # Truss redirects the first to the second
LIVENESS: Final = (b"/", b"/livez", b"/healthz", b"/v2/health/live")
READINESS: Final = (b"/ping", b"/health", b"/readyz", b"/ready", b"/v2/health/ready")
PREDICT: Final = (b"/predict", b"/invocations")
WEBSOCKET: Final = b"/v1/websocket"
OPENAI: Final = {
    "chat_completions": b"/v1/chat/completions",
    "completions": b"/v1/completions",
    "embeddings": b"/v1/embeddings",
    "messages": b"/v1/messages",
    "responses": b"/v1/responses",
}


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """What answers where.

    openai: by the name of the model's method. health: the readiness that asks the model too.
    openapi: told with each request which operations there are. hot_reload: None if there is no such route.
    """

    predict: Finder
    openai: Mapping[str, Finder]
    websocket: Finder
    liveness: Answer
    readiness: Answer
    health: Answer
    metrics: Answer
    schema: Answer
    openapi: Callable[[Operations, Request], None]
    hot_reload: Answer | None = None


class Router:
    """The routes of one server: path to method to what finds the route of a head there."""

    def __init__(self, endpoints: Endpoints, metrics: Metrics | None = None) -> None:
        self._metrics = Metrics() if metrics is None else metrics
        methods = {**endpoints.openai, "predict": endpoints.predict, "websocket": endpoints.websocket}
        self._kinds = {find: name for name, find in methods.items()}
        predict: Methods = {b"POST": endpoints.predict}
        readiness = self._get("readiness", endpoints.readiness, is_open=True, is_quiet=True)
        health = self._get("health", endpoints.health, is_open=True, is_quiet=True)
        liveness = self._get("liveness", endpoints.liveness, is_open=True, is_quiet=True)
        self._paths: dict[bytes, Methods] = {
            **dict.fromkeys(LIVENESS, liveness),
            **dict.fromkeys(READINESS, readiness),
            **dict.fromkeys(PREDICT, predict),
            **{OPENAI[name]: {b"POST": find} for name, find in endpoints.openai.items()},
            WEBSOCKET: {b"GET": endpoints.websocket},
            **dict.fromkeys(METRICS, self._get("metrics", endpoints.metrics, is_quiet=True)),
            OPENAPI: self._get("openapi", lambda request: endpoints.openapi(operations, request)),
        }
        if endpoints.hot_reload is not None:
            self._paths[HOT_RELOAD] = {b"POST": self._finder("hot_reload", endpoints.hot_reload)}
        # Truss: GET of a predict path is that of the model; its own command line waits on it.
        of_predict_path = {**health, **predict}
        # By what follows the name of the model.
        self._of_model: dict[bytes, Methods] = {
            b"": health,
            **dict.fromkeys(_PREDICT_SUFFIXES, of_predict_path),
            b"/loaded": readiness,
            b"/schema": self._get("schema", endpoints.schema),
        }
        operations = self.operations()

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
