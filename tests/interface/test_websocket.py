"""`fastserve.WebSocket` and starlette's own class over the same channel: what each tells a method."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import fastapi
import pytest
import starlette.websockets

import fastserve
from fastserve.config import Config
from fastserve.http11.parser import parse_head
from fastserve.interface.starlette_websocket import is_disconnect, make_websocket
from fastserve.messages import Head

OURS = fastserve.WebSocket
STARLETTE = starlette.websockets.WebSocket


class FakeChannel:
    """Messages that come, and what was sent. client: gone if `has_gone`."""

    def __init__(self, *messages: str | bytes) -> None:
        self.messages = list(messages)
        self.sent: list[str | bytes] = []
        self.closed: list[tuple[int, str]] = []
        self.accepted: list[tuple[str | None, list[tuple[bytes, bytes]]]] = []
        self.has_gone = False
        self.client: tuple[str, int] | None = ("127.0.0.1", 5)
        self.ending = (1001, "gone")
        self.is_encrypted = False

    def accept(self, subprotocol: str | None, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self.accepted.append((subprotocol, list(fields)))

    async def receive(self) -> str | bytes | None:
        return self.messages.pop(0) if self.messages else None

    async def send(self, content: str | bytes) -> None:
        if self.has_gone:
            raise ConnectionError
        self.sent.append(content)

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


HEAD = parse_head(
    b"GET /v1/websocket?a=1&b=%20x HTTP/1.1\r\nHost: example.com:1\r\nX-Key: k\r\n"
    b"Sec-WebSocket-Protocol: one, two\r\n\r\n",
    Config(),
)


def make(annotation: Any, channel: FakeChannel, head: Head = HEAD) -> Any:
    return make_websocket(annotation, head, channel)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene()

    asyncio.run(run())


BOTH = pytest.mark.parametrize("annotation", [OURS, STARLETTE])


# --- which one ---


class Special(STARLETTE):
    """A class of the user's."""


class SpecialOfOurs(OURS):
    """The same, of ours."""


@pytest.mark.parametrize(
    "annotation, expected",
    [
        (OURS, OURS),
        (STARLETTE, STARLETTE),
        (fastapi.WebSocket, STARLETTE),
        (Special, Special),
        (SpecialOfOurs, SpecialOfOurs),
        (fastserve.WebSocket.__init__, STARLETTE),
        ("unresolved", STARLETTE),
        (int, STARLETTE),
    ],
)
def test_the_annotation_decides_and_else_starlette_if_it_is_imported(annotation: Any, expected: type) -> None:
    assert type(make(annotation, FakeChannel())) is expected


def test_without_starlette_it_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "starlette.websockets")
    assert type(make("unresolved", FakeChannel())) is OURS
    assert is_disconnect(fastserve.WebSocketDisconnect())
    assert not is_disconnect(ValueError())


def test_both_exceptions_are_known() -> None:
    assert is_disconnect(fastserve.WebSocketDisconnect(1000))
    assert is_disconnect(starlette.websockets.WebSocketDisconnect(1000))
    assert is_disconnect(fastapi.WebSocketDisconnect(1000))
    assert not is_disconnect(ConnectionError())


# --- what both do alike ---


@BOTH
def test_what_the_handshake_says(annotation: Any) -> None:
    websocket = make(annotation, FakeChannel())
    assert str(websocket.url) == "ws://example.com:1/v1/websocket?a=1&b=%20x"
    assert websocket.headers["x-KEY"] == "k"
    assert dict(websocket.query_params) == {"a": "1", "b": " x"}
    assert (websocket.client.host, websocket.client.port) == ("127.0.0.1", 5)
    assert websocket.path_params == {}
    websocket.state.mine = 1
    assert websocket.state.mine == 1


@BOTH
def test_a_peer_on_a_unix_socket_has_no_address(annotation: Any) -> None:
    channel = FakeChannel()
    channel.client = None
    assert make(annotation, channel).client is None


def test_starlette_sees_the_whole_scope() -> None:
    scope = make(STARLETTE, FakeChannel()).scope
    assert scope["subprotocols"] == ["one", "two"]
    assert scope["path"] == "/v1/websocket"
    assert scope["raw_path"] == b"/v1/websocket"
    absolute = parse_head(b"GET http://h/a%20b?c HTTP/1.1\r\nHost: h\r\n\r\n", Config())
    scope = make(STARLETTE, FakeChannel(), absolute).scope
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c")


@BOTH
def test_messages_of_every_kind_come_and_go(annotation: Any) -> None:
    async def scene() -> None:
        channel = FakeChannel("text", b"bytes", '{"a": "\u00e9"}', b'{"b": 2}')
        websocket = make(annotation, channel)
        assert await websocket.receive_text() == "text"
        assert await websocket.receive_bytes() == b"bytes"
        assert await websocket.receive_json() == {"a": "é"}
        assert await websocket.receive_json(mode="binary") == {"b": 2}
        await websocket.send_text("t")
        await websocket.send_bytes(b"b")
        await websocket.send_json({"a": "é"})
        await websocket.send_json([1, 2], mode="binary")
        assert channel.sent == ["t", b"b", '{"a":"é"}', b"[1,2]"]
        with pytest.raises(RuntimeError, match="mode"):
            await websocket.send_json(1, mode="other")
        with pytest.raises(RuntimeError, match="mode"):
            await websocket.receive_json(mode="other")

    play(scene)


@BOTH
def test_raw_messages_come_and_go(annotation: Any) -> None:
    async def scene() -> None:
        channel = FakeChannel("t", b"b")
        websocket = make(annotation, channel)
        assert await websocket.receive() == {"type": "websocket.receive", "text": "t"}
        assert await websocket.receive() == {"type": "websocket.receive", "bytes": b"b"}
        gone = {"type": "websocket.disconnect", "code": 1001, "reason": "gone"}
        assert await websocket.receive() == gone
        with pytest.raises(RuntimeError, match="once a disconnect"):
            await websocket.receive()
        await websocket.send({"type": "websocket.send", "text": "", "bytes": None})
        await websocket.send({"type": "websocket.send", "text": None, "bytes": b"x"})
        assert channel.sent == ["", b"x"]
        with pytest.raises(RuntimeError):
            await websocket.send({"type": "http.response.start"})

    play(scene)


@BOTH
def test_a_client_that_goes_is_an_exception_and_ends_iteration(annotation: Any) -> None:
    async def scene() -> None:
        gone = fastserve.WebSocketDisconnect if annotation is OURS else starlette.websockets.WebSocketDisconnect
        with pytest.raises(gone) as caught:
            await make(annotation, FakeChannel()).receive_text()
        assert vars(caught.value) == {"code": 1001, "reason": "gone"}
        assert str(caught.value) == "(1001, 'gone')"
        assert [m async for m in make(annotation, FakeChannel("a", "b")).iter_text()] == ["a", "b"]
        assert [m async for m in make(annotation, FakeChannel(b"a")).iter_bytes()] == [b"a"]
        assert [m async for m in make(annotation, FakeChannel("[1]", "2")).iter_json()] == [[1], 2]

    play(scene)


@BOTH
def test_sending_to_a_client_that_has_gone_is_an_exception(annotation: Any) -> None:
    async def scene() -> None:
        gone = fastserve.WebSocketDisconnect if annotation is OURS else starlette.websockets.WebSocketDisconnect
        channel = FakeChannel()
        channel.has_gone = True
        websocket = make(annotation, channel)
        with pytest.raises(gone) as caught:
            await websocket.send_text("x")
        assert vars(caught.value) == {"code": 1006, "reason": ""}
        with pytest.raises(RuntimeError, match="close message"):
            await websocket.send_text("x")

    play(scene)


@BOTH
def test_closing_is_said_once(annotation: Any) -> None:
    async def scene() -> None:
        channel = FakeChannel()
        websocket = make(annotation, channel)
        assert websocket.application_state.name == websocket.client_state.name == "CONNECTED"
        await websocket.close(4000, "why")
        assert channel.closed == [(4000, "why")]
        assert websocket.application_state.name == "DISCONNECTED"
        with pytest.raises(RuntimeError, match="close message"):
            await websocket.close()
        await make(annotation, channel).close()
        assert channel.closed[1:] == [(1000, "")]

    play(scene)


@BOTH
def test_accepting_again_does_no_harm(annotation: Any) -> None:
    async def scene() -> None:
        channel = FakeChannel("x")
        websocket = make(annotation, channel)
        await websocket.accept()
        await websocket.accept(subprotocol="one", headers=[(b"a", b"b")])
        assert channel.accepted == [(None, []), ("one", [(b"a", b"b")])]
        assert await websocket.receive_text() == "x"

    play(scene)


def test_ours_says_what_came_instead() -> None:
    async def scene() -> None:
        with pytest.raises(TypeError, match="sent bytes, not text"):
            await make(OURS, FakeChannel(b"x")).receive_text()
        with pytest.raises(TypeError, match="sent text, not bytes"):
            await make(OURS, FakeChannel("x")).receive_bytes()

    play(scene)


def test_the_accept_of_asgi_is_heard() -> None:
    async def scene() -> None:
        channel = FakeChannel()
        await make(OURS, channel).send({"type": "websocket.accept", "subprotocol": "one"})
        assert channel.accepted == [("one", [])]

    play(scene)
