"""The metrics page and the probes at a port of their own, through the whole life of the real process."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import PATIENCE_S, Server, command, ending, environment, run_to_end, serving, write_model
from tests.support.tls import shared_certificate

ECHO = "class Model:\n    def predict(self, x): return x\n"
# Waits for its FIFOs.
GATED = """
import logging
import os
class Model:
    def load(self):
        open(os.environ["LOAD"]).read()
    def predict(self, x):
        logging.info("begun")
        return open(os.environ["PREDICT"]).read()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes, str | None]:
    """(status, content, Connection)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read(), response.getheader("Connection")


def is_refused(port: int) -> bool:
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) != 0


@contextlib.contextmanager
def with_port(directory: Path, *flags: str, **more: str) -> Iterator[tuple[Server, int]]:
    port = free_port()
    with serving(directory, "--metrics-port", str(port), *flags, env=more) as server:
        assert f"metrics and probes on http://127.0.0.1:{port}" in server.log
        yield server, port


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("echo"), ECHO)


def test_the_page_and_the_probes_are_there_and_nothing_else(echo: Path) -> None:
    with with_port(echo) as (server, port):
        assert server.predict(5) == 5
        for path in ("/metrics", "/metrics/"):
            status, page, _ = ask(port, path)
            assert status == 200
            assert b'\nfastserve_requests_total{endpoint="predict",code="200"} 1\n' in page
        for path in ("/", "/livez", "/readyz", "/ping", "/v1/models/model", "/v1/models/model/loaded"):
            assert ask(port, path)[0] == server.request("GET", path)[0] == 200
        for path in ("/openapi.json", "/v1/models/model/schema", "/v1/websocket", "/predict"):
            assert ask(port, path)[0] == 404
        assert ask(port, "/v1/models/model:predict", "POST")[0] == 405
        assert server.stop() == 0
        assert is_refused(port)


def test_the_public_port_has_no_page_then(echo: Path) -> None:
    with with_port(echo) as (server, _):
        for path in ("/metrics", "/metrics/"):
            assert server.request("GET", path)[0] == 404
        assert b"/metrics" not in server.request("GET", "/openapi.json")[1]


def test_it_takes_no_key_no_tls_and_any_number_of_connections_of_a_client(echo: Path) -> None:
    flags = (*shared_certificate().flags, "--max-connections-per-client", "1", "--cors-origin", "*")
    with with_port(echo, *flags, FASTSERVE_API_KEYS="key") as (_, port), contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
        assert ask(port, "/metrics")[0] == 200
        assert ask(port, "/readyz")[0] == 200


def test_it_is_there_beside_a_unix_socket(echo: Path, tmp_path: Path) -> None:
    port = free_port()
    flags = ("--uds", str(tmp_path / "s"), "--host", "127.0.0.1", "--metrics-port", str(port))
    process = subprocess.Popen(
        command(echo, *flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
    )
    with ending(process) as server:
        server.wait_for_log("ready; the model loaded")
        assert ask(port, "/metrics")[0] == 200
        assert server.stop() == 0


def test_it_is_there_while_the_model_loads_and_until_the_drain_is_over(tmp_path: Path) -> None:
    gates = {"LOAD": str(tmp_path / "load"), "PREDICT": str(tmp_path / "predict")}
    for gate in gates.values():
        os.mkfifo(gate)
    port = free_port()
    model = write_model(tmp_path / "m", GATED)
    flags = ("--metrics-port", str(port), "--drain-delay", "3600")
    with serving(model, *flags, env=gates, wait_ready=False) as server:
        server.wait_for_log("Executing model.load")
        assert b"\nfastserve_model_ready 0\n" in ask(port, "/metrics")[1]
        assert (ask(port, "/livez")[0], ask(port, "/readyz")[0]) == (200, 503)
        Path(gates["LOAD"]).write_text("")
        server.wait_for_log("ready; the model loaded")
        assert ask(port, "/readyz")[0] == 200
        with server.connect() as peer:
            peer.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
            server.wait_for_log("begun")
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_log("not ready any more")
            assert ask(port, "/readyz") == (503, ask(port, "/readyz")[1], None)  # and the connection may persist
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_log("draining, 1 requests in flight")
            while not is_refused(server.port):  # the drain closes it in a later turn of the loop
                pass
            assert b"\nfastserve_inflight_requests 1\n" in ask(port, "/metrics")[1]
            assert (ask(port, "/livez")[0], ask(port, "/readyz")[0]) == (200, 503)
            Path(gates["PREDICT"]).write_text("done")
            assert peer.recv(65536).endswith(b'"done"')
        assert server.wait() == 0
    assert is_refused(port)


def test_a_connection_that_is_kept_ends_in_order_with_the_server(echo: Path) -> None:
    with (
        with_port(echo) as (server, port),
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as kept,
    ):
        kept.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(65536).endswith(b"true")
        assert server.stop() == 0
        assert kept.recv(65536) == b""


def test_its_connections_have_deadlines_and_its_answers_the_time_of_day(echo: Path) -> None:
    with (
        with_port(echo, "--timeout-keep-alive", "0.1") as (_, port),
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as kept,
    ):
        dates = set[bytes]()
        while len(dates) < 2:
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as peer:
                peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                dates.add(peer.recv(65536).partition(b"Date: ")[2].partition(b"\r\n")[0])
        assert kept.recv(1) == b""


def test_a_model_that_does_not_load_leaves_the_port_free(tmp_path: Path) -> None:
    port = free_port()
    broken = write_model(tmp_path, "raise OSError('broken')")
    env = {"NUM_LOAD_RETRIES_TRUSS": "0"}
    assert run_to_end(broken, "--port", "0", "--metrics-port", str(port), env=env)[0] == 1
    assert is_refused(port)


def test_a_port_in_use_is_one_line_and_leaves_nothing_behind(echo: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for flags in (("--port", "0"), ("--uds", str(tmp_path / "s"))):
            status, errors = run_to_end(echo, *flags, "--metrics-port", str(port))
            assert status == 2
            (line,) = errors.splitlines()
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line
            assert "try another --host or --metrics-port" in line
    assert not (tmp_path / "s").exists()


def test_it_is_asked_for_by_a_variable_too_and_may_not_be_the_public_port(echo: Path) -> None:
    status, errors = run_to_end(echo, "--port", "9", env={"FASTSERVE_METRICS_PORT": "9"})
    assert status == 2
    assert "--metrics-port 9 is --port, too" in errors


def test_more_connections_than_there_is_room_for_wait_and_take_none_from_the_public_port(echo: Path) -> None:
    with with_port(echo) as (server, port), contextlib.ExitStack() as held:
        for _ in range(64):
            held.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
        server.wait_for_log("64 connections, as many as the metrics port allows: further ones wait")
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as waiting:
            waiting.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert server.predict(1) == 1
            held.close()
            assert waiting.recv(65536).endswith(b"true")
