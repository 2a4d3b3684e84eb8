"""A `websocket` method that does wrong: its client is told by a close code, and nothing that is no frame is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.process import PATIENCE_S, Server, serving, write_model

# Ours, and starlette's: whichever `import` puts there.
MODEL: Final = """
import asyncio
{imports}

class Model:
    async def websocket(self, websocket{annotation}):
        await websocket.accept()
        try:
            await self.do(websocket, await websocket.receive_text())
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            await websocket.send_text("told: " + type(error).__name__)

    async def do(self, websocket, deed):
        if deed.startswith("send_text "):
            await websocket.send_text(eval(deed[10:]))
        elif deed.startswith("send_bytes "):
            await websocket.send_bytes(eval(deed[11:]))
        elif deed.startswith("send "):
            await websocket.send(eval(deed[5:]))
        elif deed.startswith("close "):
            await websocket.close(*eval(deed[6:]))
        elif deed.startswith("raise "):
            raise eval(deed[6:])
"""


@pytest.fixture(scope="module", params=["ours", "starlette"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    is_ours = request.param == "ours"
    source = MODEL.format(
        imports="" if is_ours else "from fastapi import WebSocket", annotation="" if is_ours else ": WebSocket"
    )
    with serving(write_model(tmp_path_factory.mktemp(request.param), source)) as server:
        yield server
        assert "bug of fastserve" not in server.read_log()


def ask(server: Server, deed: str) -> tuple[list[str | bytes], int, str]:
    """What is received until the close, its code and its reason."""
    received: list[str | bytes] = []
    with connect(f"ws://127.0.0.1:{server.port}/v1/websocket", open_timeout=PATIENCE_S) as client:
        client.send(deed)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                received.append(client.recv(PATIENCE_S))
    server.read_log()
    assert server.request("GET", "/livez")[0] == 200
    assert closed.value.rcvd is not None
    return received, closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize(
    "deed",
    [
        "send_text 5",
        "send_text {'a': 1}",
        "send_text '\\ud800'",
        "send_bytes 5",
        "send_bytes [1, 2]",
        "send {'type': 'websocket.send'}",
        "send {'type': 'http.response.start', 'status': 200}",
        "send {}",
        "send 5",
    ],
)
def test_what_is_no_message_is_told_to_the_method_and_not_sent(served: Server, deed: str) -> None:
    received, code, _ = ask(served, deed)
    assert (code, [str(message)[:5] for message in received]) == (1000, ["told:"])


@pytest.mark.parametrize("code", [0, -1, 999, 1004, 1005, 1006, 1015, 2000, 5000, 70000, "'x'"])
def test_a_close_code_that_may_not_be_sent_is_not(served: Server, code: object) -> None:
    _, sent, _ = ask(served, f"close ({code},)")
    assert sent in (1000, 1011)


def test_a_reason_longer_than_a_frame_is_cut(served: Server) -> None:
    _, code, reason = ask(served, "close (4000, '\u20ac' * 100)")
    assert (code, reason) == (4000, "\u20ac" * 41)


@pytest.mark.parametrize(
    "error",
    ["ZeroDivisionError()", "SystemExit(3)", "KeyboardInterrupt()", "asyncio.CancelledError()", "GeneratorExit()"],
)
def test_what_it_raises_is_1011_and_the_server_goes_on(served: Server, error: str) -> None:
    assert ask(served, f"raise {error}")[:2] == ([], 1011)


def test_bytes_whose_class_says_another_length_are_one_whole_frame(served: Server) -> None:
    lying = "type('Frames', (bytes,), {'__len__': lambda self: 3})(b'abcdef')"
    assert ask(served, f"send_bytes {lying}") == ([b"abcdef"], 1000, "")
