"""Which route answers what: the table of paths, 404, 405 with Allow, OPTIONS."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastserve.endpoints.router import (
    LIVENESS,
    METRICS,
    OPENAI,
    OPENAPI,
    READINESS,
    WEBSOCKET,
    Endpoints,
    ProbeRouter,
    Router,
)
from fastserve.endpoints.router import PREDICT as PREDICT_PATHS
from fastserve.messages import Head, Request, Response, Route
from tests.support.responder import RecordingResponder

PREDICT = Route(lambda request: None)
READINESS_ANSWERS: list[Request] = []


def make_endpoints(*, reloads: bool = False) -> Endpoints:
    def answers(text: str) -> Callable[[Request], None]:
        return lambda request: answer(request, text)

    return Endpoints(
        predict=finder(),
        openai={name: finder() for name in OPENAI},
        websocket=lambda head: Route(lambda request: answer(request, "websocket")),
        liveness=answers("alive"),
        readiness=answers("ready"),
        health=answers("well"),
        metrics=answers("metrics"),
        schema=answers("schema"),
        openapi=lambda operations, request: answer(request, "openapi"),
        hot_reload=answers("hot") if reloads else None,
    )


def make_router(*, reloads: bool = False) -> Router:
    return Router(make_endpoints(reloads=reloads))


def finder() -> Callable[[Head], Route]:
    return lambda head: PREDICT


def answer(request: Request, text: str) -> None:
    request.connection.send_response(request, Response((200, b""), text.encode()))


def ask(method: str, path: str, *, reloads: bool = False) -> tuple[Route, Response | None]:
    """The route, and what it answers if it is not predict's."""
    head = Head(b"", method.encode(), path.encode(), path.encode(), {})
    route = make_router(reloads=reloads).route(head)
    if route is PREDICT:
        return route, None
    responder = RecordingResponder()
    route.answer(Request(head, b"", responder))
    return route, responder.response


@pytest.mark.parametrize("path", ["/", "/livez", "/healthz", "/v2/health/live"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_liveness(method: str, path: str) -> None:
    _, response = ask(method, path)
    assert response is not None
    assert response.content == b"alive"


@pytest.mark.parametrize(
    "path",
    [
        "/ping",
        "/health",
        "/readyz",
        "/ready",
        "/v2/health/ready",
        "/v1/models/any/loaded",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_readiness(method: str, path: str) -> None:
    _, response = ask(method, path)
    assert response is not None
    assert response.content == b"ready"


@pytest.mark.parametrize(
    "path", ["/v1/models/model", "/v1/models/any-name", "/v1/models/model:predict", "/v1/models/m:predict_binary"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_model_s_own_path_asks_the_model_too(method: str, path: str) -> None:
    _, response = ask(method, path)
    assert response is not None
    assert response.content == b"well"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/openapi.json", b"openapi"),
        ("/v1/models/any/schema", b"schema"),
        ("/v1/models/a:predict/schema", b"schema"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_schemas(method: str, path: str, content: bytes) -> None:
    _, response = ask(method, path)
    assert response is not None
    assert response.content == content


def test_every_path_is_among_the_operations_and_goes_where_they_say() -> None:
    said = {b"alive": "liveness", b"ready": "readiness", b"well": "health"}
    operations = make_router().operations()
    fixed = {*LIVENESS, *READINESS, *PREDICT_PATHS, *METRICS, *OPENAI.values(), OPENAPI, WEBSOCKET}
    assert len(operations) == len(fixed) + 5
    for path, pairs in operations.items():
        for method, kind in pairs:
            _, response = ask(method, path.replace("{model}", "any"))
            if response is None:
                assert path in {OPENAI[kind].decode()} if kind in OPENAI else kind == "predict"
            else:
                assert kind == said.get(response.content, response.content.decode())


@pytest.mark.parametrize(
    "path",
    ["/predict/", "/invocations/", "/v1/completions/", "/v1/models/m:predict/", "/v1/models/m:predict_binary/"],
)
def test_a_slash_more_at_the_end_of_a_path_changes_nothing(path: str) -> None:
    assert ask("POST", path)[0] is PREDICT
    _, response = ask("GET", "/v1/models/m/loaded/")
    assert response is not None
    assert response.content == b"ready"


def test_probes_and_scrapes_are_quiet_and_nothing_else_is() -> None:
    quiet, probes = set(), {*LIVENESS, *READINESS, *METRICS}
    for path, pairs in make_router().operations().items():
        quiet |= {path for method, _ in pairs if ask(method, path.replace("{model}", "any"))[0].is_quiet}
    model = "/v1/models/{model}"
    predict = {model + ":predict", model + ":predict_binary"}  # whose GET is the probe of Truss's command line
    assert quiet == {path.decode() for path in probes} | {model, model + "/loaded"} | predict
    for method, path in (("POST", "/v1/models/any:predict"), ("POST", "/metrics"), ("GET", "/metrics/more")):
        assert not ask(method, path)[0].is_quiet


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_metrics(method: str, path: str) -> None:
    _, response = ask(method, path)
    assert response is not None
    assert response.content == b"metrics"


@pytest.mark.parametrize(
    "path",
    ["/v1/models/model:predict", "/v1/models/any:predict", "/v1/models/m:predict_binary", "/predict", "/invocations"],
)
def test_predict(path: str) -> None:
    assert ask("POST", path)[0] is PREDICT


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/",
        "/v1/models",
        "/v1/models/a/b",
        "/v1/models/a/b:predict",
        "/v1/models/a/:predict",
        "/v1/models//schema",
        "//predict",
        "/x",
        "*x",
    ],
)
def test_nothing_else_is_found(path: str) -> None:
    route, response = ask("POST", path)
    assert response is not None
    assert response.kind[0] == 404
    assert route.is_refusal


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", b"OPTIONS, POST"),
        ("HEAD", "/predict", b"OPTIONS, POST"),
        ("POST", "/livez", b"GET, HEAD, OPTIONS"),
        ("POST", "/metrics", b"GET, HEAD, OPTIONS"),
        ("DELETE", "/v1/models/model", b"GET, HEAD, OPTIONS"),
        ("PUT", "/v1/models/model:predict", b"GET, HEAD, OPTIONS, POST"),
        ("POST", "/openapi.json", b"GET, HEAD, OPTIONS"),
        ("POST", "/v1/models/any/schema", b"GET, HEAD, OPTIONS"),
        ("TRACE", "/", b"GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_405_and_told_what_is_allowed(method: str, path: str, allowed: bytes) -> None:
    route, response = ask(method, path)
    assert response is not None
    assert response.kind[0] == 405
    assert b"Allow: " + allowed + b"\r\n" in response.fields
    assert route.is_refusal


@pytest.mark.parametrize(("path", "status"), [("*", 200), ("/predict", 204), ("/livez", 204)])
def test_options_tells_what_is_allowed(path: str, status: int) -> None:
    _, response = ask("OPTIONS", path)
    assert response is not None
    assert response.kind[0] == status
    assert response.fields.startswith(b"Allow: ")


def test_a_hot_reload_is_a_post_where_there_is_one() -> None:
    _, response = ask("POST", "/hot-reload", reloads=True)
    assert response is not None
    assert response.content == b"hot"
    for method, reloads, status in (("POST", False, 404), ("GET", False, 404), ("GET", True, 405)):
        route, response = ask(method, "/hot-reload", reloads=reloads)
        assert route.is_refusal
        assert response is not None
        assert response.kind[0] == status
    operations = make_router(reloads=True).operations()
    assert operations["/hot-reload"] == [("POST", "hot_reload")]
    assert set(operations) - set(make_router().operations()) == {"/hot-reload"}


def test_a_page_with_a_port_of_its_own_is_there_with_the_probes_and_nowhere_else() -> None:
    metrics = {path.decode() for path in METRICS}
    models = {"/v1/models/{model}", "/v1/models/{model}/loaded"}
    public, beside = Router(make_endpoints(), has_metrics=False), ProbeRouter(make_endpoints())
    assert set(make_router().operations()) - set(public.operations()) == metrics
    assert set(beside.operations()) == {path.decode() for path in (*LIVENESS, *READINESS)} | metrics | models
    assert public.route(Head(b"", b"GET", b"/metrics", b"/metrics", {})).is_refusal
    assert beside.route(Head(b"", b"GET", b"/openapi.json", b"/openapi.json", {})).is_refusal
