"""Which paths there are, and what answers each.

How they are looked up is `paths.py`'s. Built by `server.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

from fastserve.endpoints.openapi import Operations
from fastserve.endpoints.paths import Answer, Finder, Methods, Paths
from fastserve.messages import Request
from fastserve.metrics import Metrics

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


class ProbeRouter(Paths):
    """The probes and, if it `has_metrics`, the metrics page."""

    def __init__(self, endpoints: Endpoints, metrics: Metrics | None = None, *, has_metrics: bool = True) -> None:
        super().__init__(metrics)
        liveness = self._get("liveness", endpoints.liveness, is_open=True, is_quiet=True)
        readiness = self._get("readiness", endpoints.readiness, is_open=True, is_quiet=True)
        health = self._get("health", endpoints.health, is_open=True, is_quiet=True)
        self._paths = {**dict.fromkeys(LIVENESS, liveness), **dict.fromkeys(READINESS, readiness)}
        if has_metrics:
            self._paths |= dict.fromkeys(METRICS, self._get("metrics", endpoints.metrics, is_quiet=True))
        self._of_model = {b"": health, b"/loaded": readiness}


class Router(ProbeRouter):
    """And all else that a server answers.

    has_metrics: False if the page has a port of its own.
    """

    def __init__(self, endpoints: Endpoints, metrics: Metrics | None = None, *, has_metrics: bool = True) -> None:
        super().__init__(endpoints, metrics, has_metrics=has_metrics)
        methods = {**endpoints.openai, "predict": endpoints.predict, "websocket": endpoints.websocket}
        self._kinds |= {find: name for name, find in methods.items()}
        predict: Methods = {b"POST": endpoints.predict}
        self._paths |= {
            **dict.fromkeys(PREDICT, predict),
            **{OPENAI[name]: {b"POST": find} for name, find in endpoints.openai.items()},
            WEBSOCKET: {b"GET": endpoints.websocket},
            OPENAPI: self._get("openapi", lambda request: endpoints.openapi(operations, request)),
        }
        if endpoints.hot_reload is not None:
            self._paths[HOT_RELOAD] = {b"POST": self._finder("hot_reload", endpoints.hot_reload)}
        # Truss: GET of a predict path is that of the model; its own command line waits on it.
        of_predict_path = {**self._of_model[b""], **predict}
        self._of_model |= {
            **dict.fromkeys(_PREDICT_SUFFIXES, of_predict_path),
            b"/schema": self._get("schema", endpoints.schema),
        }
        operations = self.operations()
