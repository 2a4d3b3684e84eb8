"""(method, path) to the route that answers it; 404 and 405 with `Allow`.

Asked once for each header section that is parsed, not for each request. Built by `server.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

from fastserve.endpoints.failures import FROM_CLIENT, truss_error
from fastserve.messages import Head, Request, Response, Route

Answer = Callable[[Request], None]
Finder = Callable[[Head], Route]
Methods = dict[bytes, Finder]

_MODELS: Final = b"/v1/models/"  # then any one segment: the name of the model is not looked at, as in Truss
_PREDICT_SUFFIXES: Final = (b":predict", b":predict_binary")

METRICS: Final = (b"/metrics", b"/metrics/")  # Truss redirects the first to the second
LIVENESS: Final = (b"/", b"/livez", b"/healthz", b"/v2/health/live")
READINESS: Final = (b"/ping", b"/health", b"/readyz", b"/ready", b"/v2/health/ready")
PREDICT: Final = (b"/predict", b"/invocations")
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
    """

    predict: Finder
    openai: Mapping[str, Finder]
    liveness: Answer
    readiness: Answer
    health: Answer
    metrics: Answer


class Router:
    """The routes of one server: path to method to what finds the route of a head there."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._readiness = _get(endpoints.readiness)
        self._of_model_path = _get(endpoints.health)
        self._predict: Methods = {b"POST": endpoints.predict}
        # Truss: GET of a predict path is that of the model; its own command line waits on it.
        self._of_predict_path: Methods = {**self._of_model_path, **self._predict}
        self._paths: dict[bytes, Methods] = {
            **dict.fromkeys(LIVENESS, _get(endpoints.liveness)),
            **dict.fromkeys(READINESS, self._readiness),
            **dict.fromkeys(PREDICT, self._predict),
            **{OPENAI[name]: {b"POST": find} for name, find in endpoints.openai.items()},
            **dict.fromkeys(METRICS, _get(endpoints.metrics)),
        }

    def route(self, head: Head) -> Route:
        """The route for `head`; a refusal if there is none."""
        methods = self._paths.get(head.path)
        if methods is None and head.path.startswith(_MODELS):
            methods = self._methods_of_model(head.path[len(_MODELS) :])
        if methods is None:
            if head.path == b"*":  # OPTIONS *: the server as a whole (RFC 9110 section 9.3.7)
                return _options({b"GET", b"HEAD", b"POST"}, 200)
            return _refuse(truss_error(404, FROM_CLIENT, "Not Found"))
        find = methods.get(head.method)
        if find is not None:
            return find(head)
        if head.method == b"OPTIONS":
            return _options(set(methods), 204)
        return _refuse(truss_error(405, FROM_CLIENT, "Method Not Allowed", _allow(set(methods))))

    def _methods_of_model(self, rest: bytes) -> Methods | None:
        name, slash, verb = rest.partition(b"/")
        if not name:
            return None
        if slash:
            return self._readiness if verb == b"loaded" else None
        return self._of_predict_path if name.endswith(_PREDICT_SUFFIXES) else self._of_model_path


def _get(answer: Answer) -> Methods:
    route = Route(answer)
    return dict.fromkeys((b"GET", b"HEAD"), lambda head: route)


def _allow(methods: set[bytes]) -> bytes:
    return b"Allow: %b\r\n" % b", ".join(sorted(methods | {b"OPTIONS"}))


def _refuse(response: Response) -> Route:
    return Route(lambda request: request.connection.send_response(request, response), is_refusal=True)


def _options(methods: set[bytes], status: int) -> Route:
    response = Response((status, b""), b"", _allow(methods))
    return Route(lambda request: request.connection.send_response(request, response))
