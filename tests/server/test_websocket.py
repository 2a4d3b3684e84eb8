"""WebSockets end to end: the real command and a real client over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_on_loop
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.process import PATIENCE_S, Server, run_to_end, serving, write_model
from tests.support.websockets import handshake

MODELS = Path(__file__).parent.parent / "models"


def open_to(server: Server, query: str = "", subprotocols: list[str] | None = None) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{server.port}/v1/websocket{query}",
        max_size=None,
        open_timeout=PATIENCE_S,
        subprotocols=subprotocols,  # type: ignore[arg-type]
    )


def ending_of(client: ClientConnection) -> tuple[int, str]:
    """Code and reason of the server's Close, which must be the next that comes."""
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(PATIENCE_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    with serving(MODELS / "websocket_plain") as server:
        yield server


@pytest.fixture(scope="module")
def with_fastapi() -> Iterator[Server]:
    with serving(MODELS / "websocket_fastapi") as server:
        yield server


# --- messages ---


def test_text_and_bytes_of_any_size_are_echoed(plain: Server) -> None:
    with open_to(plain) as client:
        for message in ("hello", "", "κόσμε", b"", b"\xff\0", os.urandom(3_000_000), "ü" * 1_500_000):
            client.send(message)
            assert client.recv(PATIENCE_S) == message


def test_a_message_in_fragments_is_one(plain: Server) -> None:
    with open_to(plain) as client:
        client.send(["a", "", "b", "c"])
        assert client.recv(PATIENCE_S) == "abc"


def test_100_mib_go_through_and_one_byte_more_does_not(plain: Server) -> None:
    size = 100 * 1024 * 1024
    with open_to(plain) as client:
        client.send(bytes(size))
        assert client.recv(PATIENCE_S) == bytes(size)
        with contextlib.suppress(ConnectionClosed):  # it is told before it has sent all
            client.send([b"*"] + [b"*" * (1 << 20)] * 100)
        assert ending_of(client)[0] == 1009


def test_many_messages_without_waiting_come_back_in_order(plain: Server) -> None:
    async def converse() -> None:
        async with connect_on_loop(f"ws://127.0.0.1:{plain.port}/v1/websocket") as client:

            async def send_all() -> None:
                for i in range(5000):
                    await client.send(str(i))

            sending = asyncio.create_task(send_all())
            for i in range(5000):
                assert await client.recv() == str(i)
            await sending

    asyncio.run(converse())


def test_many_clients_at_once(plain: Server) -> None:
    async def converse(name: str) -> None:
        async with connect_on_loop(f"ws://127.0.0.1:{plain.port}/v1/websocket", open_timeout=PATIENCE_S) as client:
            for i in range(20):
                await client.send(f"{name} {i}")
                assert await client.recv() == f"{name} {i}"

    async def all_of_them() -> None:
        await asyncio.gather(*[converse(f"client-{i}") for i in range(50)])

    asyncio.run(all_of_them())


# --- which object ---


def test_a_model_without_starlette_is_given_ours(plain: Server) -> None:
    with open_to(plain) as client:
        client.send("json")
        assert client.recv(PATIENCE_S) == '{"class":"fastserve.interface.websocket","client":"127.0.0.1"}'


def test_a_model_written_for_truss_is_given_starlette_s(with_fastapi: Server) -> None:
    with open_to(with_fastapi) as client:
        for text, answer in (("hello", "hello pong"), ("who", "starlette.websockets pong")):
            client.send(text)
            assert client.recv(PATIENCE_S) == answer
        client.send("done")
        assert ending_of(client) == (1000, "")


def test_a_model_that_imports_starlette_and_annotates_nothing_catches_starlette_s_exception(tmp_path: Path) -> None:
    source = """
import sys
from starlette.websockets import WebSocketDisconnect
class Model:
    async def websocket(self, websocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as gone:
            print("caught", gone.code, file=sys.stderr, flush=True)
"""
    with serving(write_model(tmp_path, source)) as server:
        with open_to(server) as client:
            client.close(4321)
        server.wait_for_log("caught 4321")


def test_a_method_may_choose_a_subprotocol(plain: Server) -> None:
    with open_to(plain, "?subprotocol", ["other", "echo"]) as client:
        assert client.subprotocol == "echo"
    with open_to(plain) as client:
        assert client.subprotocol is None


# --- endings ---


def test_the_method_s_own_close_is_what_the_client_sees(plain: Server) -> None:
    with open_to(plain) as client:
        client.send("close 4001")
        assert ending_of(client) == (4001, "as asked")


def test_what_a_method_raises_is_1011_and_logged_from_the_user_s_first_frame_on(with_fastapi: Server) -> None:
    with open_to(with_fastapi) as client:
        client.send("raise")
        assert ending_of(client) == (1011, "Internal Server Error (in model/chainlet).")
    log = with_fastapi.wait_for_log(r".*Internal Server Error.*This is test error.*").group()
    assert "model.py" in log
    assert "fastserve/" not in log


def test_a_method_that_exits_does_not_end_the_server(plain: Server) -> None:
    with open_to(plain) as client:
        client.send("exit")
        assert ending_of(client) == (1011, "Internal Server Error (in model/chainlet).")
    with open_to(plain) as client:
        client.send("still there")
        assert client.recv(PATIENCE_S) == "still there"


def test_a_client_that_leaves_is_told_to_the_method(plain: Server) -> None:
    with open_to(plain) as client:
        client.close(4567, "bye")
    plain.wait_for_log("ended with 4567 bye")
    with open_to(plain) as client:
        client.socket.shutdown(socket.SHUT_RDWR)
        plain.wait_for_log("ended with 1006")


def test_a_disconnect_that_the_method_lets_out_is_a_line_at_info(plain: Server) -> None:
    with open_to(plain) as client:
        client.send("leave")
        client.close(4568)
    log = plain.wait_for_log(r".*Client terminated websocket connection: `\(4568, ''\)`").group()
    assert "INFO" in log


def test_a_model_without_the_method_accepts_and_closes_1003(tmp_path: Path) -> None:
    source = "import sys\nclass Model:\n    def predict(self, x): return 'websockets' in sys.modules\n"
    with serving(write_model(tmp_path, source)) as server:
        assert server.predict(1) is False
        with open_to(server) as client:
            assert ending_of(client) == (1003, "WebSocket is not implemented on this deployment.")
        assert "ERROR" in server.wait_for_log(r".*WebSocket is not implemented on this deployment\.").group()
        assert server.predict(1) is True


# --- the handshake over HTTP ---


def test_a_plain_get_is_426_and_the_connection_goes_on(plain: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", plain.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/websocket")
        response = connection.getresponse()
        assert (response.status, response.getheader("Upgrade")) == (426, "websocket")
        assert response.getheader("Connection") == "Upgrade"
        response.read()
        connection.request("POST", "/v1/websocket", b"{}")
        response = connection.getresponse()
        assert (response.status, response.getheader("Allow")) == (405, "GET, OPTIONS")
        response.read()
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b"true"


def test_a_model_that_is_still_loading_is_503(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    source = f"""
class Model:
    def load(self): open({str(gate)!r}).read()
    async def websocket(self, websocket): pass
"""
    with serving(write_model(tmp_path / "m", source), wait_ready=False) as server:
        with pytest.raises(InvalidStatus) as refused:
            open_to(server)
        assert refused.value.response.status_code == 503
        assert b"is not ready" in (refused.value.response.body or b"")
        gate.write_text("")
        server.wait_for_log("ready; the model loaded")
        with open_to(server) as client:
            assert ending_of(client) == (1000, "")


def test_an_http_exchange_may_come_before_the_handshake_and_frames_right_behind_it(plain: Server) -> None:
    text = b"\x81\x82\0\0\0\0hi"  # masked with zeros
    close = b"\x88\x82\0\0\0\0\x03\xe8"
    with plain.connect() as tcp:
        tcp.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + handshake() + text)
        received = b""
        while not received.endswith(b"\x81\x02hi"):
            received += tcp.recv(65536)
        assert b"\r\n\r\ntrueHTTP/1.1 101 " in received
        tcp.sendall(close)
        received = b""
        while piece := tcp.recv(65536):
            received += piece
        assert received == b"\x88\x02\x03\xe8"


def test_a_model_that_needs_the_library_does_not_start_without_it(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "websockets.py").write_text("raise ImportError('not installed')")
    status, log = run_to_end(
        MODELS / "websocket_plain",
        "--port",
        "0",
        env={"PYTHONPATH": os.pathsep.join([str(tmp_path / "without"), *filter(None, sys.path)])},
    )
    assert status != 0
    assert "pip install 'fastserve[websocket]'" in log
    assert "Traceback" not in log


# --- pings ---


def test_the_server_pings_as_config_yaml_says_and_cuts_off_who_does_not_answer(with_fastapi: Server) -> None:
    with with_fastapi.connect() as tcp:
        tcp.sendall(handshake())
        received = b""
        while piece := tcp.recv(65536):
            received += piece
    assert received.partition(b"\r\n\r\n")[2] == b"\x89\x011\x88\x18\x03\xf3keepalive ping timeout"


# --- stopping ---


def test_an_idle_websocket_does_not_keep_the_server_from_stopping() -> None:
    with serving(MODELS / "websocket_plain") as server, open_to(server) as client:
        client.send("x")
        assert client.recv(PATIENCE_S) == "x"
        server.process.send_signal(signal.SIGTERM)
        assert ending_of(client) == (1012, "the server is stopping")
        assert server.wait() == 0
        assert "ended with 1012 the server is stopping" in server.log


def test_the_answer_at_hand_is_finished_first(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with serving(MODELS / "websocket_plain") as server, open_to(server) as client:
        client.send("x")
        assert client.recv(PATIENCE_S) == "x"
        client.send(f"wait {gate}")
        with gate.open("w"):  # opens when the method reads
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_log("draining, 1 requests in flight")
        assert client.recv(PATIENCE_S) == "waited"
        assert ending_of(client) == (1012, "the server is stopping")
        assert server.wait() == 0


def test_a_method_that_does_not_end_is_cut_off_after_the_time_given() -> None:
    with (
        serving(MODELS / "websocket_plain", "--timeout-graceful-shutdown", "0.2") as server,
        open_to(server) as client,
    ):
        client.send("forever")
        client.send("unread")
        assert client.ping().wait(PATIENCE_S)  # what came before it has been read
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE_S)
        assert server.wait() == 0
        assert "still in flight after 0.2 s: aborted" in server.log
        assert "Internal Server Error" not in server.log
