"""The WebSocket endpoint: what is refused over HTTP. (tests/server/test_websocket.py has the sessions.)"""

from __future__ import annotations

import sys

import orjson
import pytest

from fastserve.config import Config
from fastserve.endpoints.websocket import WebSocketEndpoint
from fastserve.http11.parser import parse_head
from fastserve.lifecycle import Lifecycle, State
from fastserve.messages import Request, Response
from fastserve.metrics import Metrics
from tests.support.responder import RecordingResponder
from tests.support.websockets import handshake


class Scene:
    """One loaded model behind the endpoint."""

    def __init__(self) -> None:
        self.lifecycle = Lifecycle()
        self.endpoint = WebSocketEndpoint(None, self.lifecycle, None, "/nowhere", Metrics())  # type: ignore[arg-type]

    def ask(self, section: bytes) -> tuple[RecordingResponder, Response | None]:
        responder = RecordingResponder()
        request = Request(parse_head(section, Config()), b"", responder)
        self.endpoint.route(request.head).answer(request)
        return responder, responder.response


@pytest.fixture
def ready() -> Scene:
    scene = Scene()
    scene.lifecycle.move_to(State.READY)
    return scene


def error_of(response: Response | None) -> tuple[int, str, bytes]:
    assert response is not None
    return response.kind[0], orjson.loads(response.content)["error"], response.fields


@pytest.mark.parametrize("section", [handshake(), handshake(upgrade=None)])
def test_a_model_that_is_not_ready_is_503_with_the_usual_body(section: bytes) -> None:
    scene = Scene()
    status, message, fields = error_of(scene.ask(section)[1])
    assert (status, message) == (503, "Model with name model is not ready.")
    assert b"X-BASETEN-ERROR-CODE: 600" in fields


def test_who_is_leaving_still_begins_sessions(ready: Scene) -> None:
    ready.lifecycle.move_to(State.LEAVING)
    assert ready.ask(handshake())[0].calls == ["upgrade"]


def test_no_session_is_begun_while_the_server_drains(ready: Scene) -> None:
    ready.lifecycle.move_to(State.DRAINING)
    assert error_of(ready.ask(handshake())[1])[0] == 503


def test_a_good_handshake_is_an_upgrade(ready: Scene) -> None:
    responder, response = ready.ask(handshake())
    assert responder.calls == ["upgrade"]
    assert response is None


def test_a_plain_get_is_told_to_upgrade(ready: Scene) -> None:
    status, _, fields = error_of(ready.ask(handshake(upgrade=None, connection=None))[1])
    assert status == 426
    assert b"Upgrade: websocket\r\nConnection: Upgrade\r\n" in fields


def test_a_malformed_handshake_is_a_bad_request(ready: Scene) -> None:
    assert error_of(ready.ask(handshake(sec_websocket_key="x"))[1])[0] == 400


def test_without_the_library_there_is_no_such_path(ready: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastserve.websocket.handshake", None)  # an import of it fails
    assert error_of(ready.ask(handshake())[1])[:2] == (404, "Not Found")
