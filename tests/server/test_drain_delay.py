"""The time between SIGTERM and the drain, on the real process: unready, and yet serving."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import (
    PATIENCE_S,
    Server,
    may_make_pid_namespaces,
    serving,
    serving_as_pid_1,
    write_model,
)

ECHO = "import os\nclass Model:\n    def predict(self, x): return [x, os.getpid()]\n"
# Longer than any test: whoever sees the end of it has ended it.
ENDLESS = ("--drain-delay", "3600")
GATED_LOAD = """
import os
class Model:
    def load(self):
        open(os.environ["GATE"]).read()
    def predict(self, x):
        return x
"""


@pytest.fixture
def leaving(tmp_path: Path) -> Iterator[tuple[Server, http.client.HTTPConnection]]:
    """A server that has been told to stop, and a connection that was kept before."""
    with serving(write_model(tmp_path, ECHO), *ENDLESS) as server:
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        kept.request("POST", "/predict", b"1")
        assert kept.getresponse().read()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("SIGTERM: not ready any more, draining in 3600 s")
        yield server, kept
        kept.close()


def connection_field(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, str | None]:
    connection.request(method, path, b"2" if method == "POST" else None)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Connection")


def test_readiness_is_503_and_all_else_is_answered_and_closed(
    leaving: tuple[Server, http.client.HTTPConnection],
) -> None:
    server, kept = leaving
    for path, status in (("/readyz", 503), ("/v1/models/model", 503), ("/ping", 503), ("/livez", 200)):
        fresh = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        assert connection_field(fresh, "GET", path) == (status, "close")
        fresh.close()
    assert server.predict("x")[0] == "x"
    assert connection_field(kept, "POST", "/predict") == (200, "close")
    assert server.process.poll() is None
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_delay_and_idle_connections(
    leaving: tuple[Server, http.client.HTTPConnection], number: signal.Signals
) -> None:
    server, kept = leaving
    server.process.send_signal(number)
    server.wait_for_log(f"{number.name}: draining, 0 requests in flight")
    assert kept.sock.recv(1) == b""
    assert server.wait() == 0


def test_the_delay_ends_by_itself(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, ECHO), "--drain-delay", "0.3") as server:
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began >= 0.3
        assert "0.3 s after SIGTERM: draining, 0 requests in flight" in server.log


def test_an_interrupt_drains_at_once(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, ECHO), *ENDLESS) as server:
        assert server.stop(signal.SIGINT) == 0
        assert "SIGINT: draining" in server.log


def test_who_is_not_ready_yet_has_nobody_to_wait_for(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    model = write_model(tmp_path / "m", GATED_LOAD)
    with serving(model, *ENDLESS, env={"GATE": str(gate)}, wait_ready=False) as server:
        server.wait_for_log("Executing model.load")
        assert server.stop() == 0


def test_in_kubernetes_there_is_a_delay_by_itself(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, ECHO), env={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("SIGTERM: not ready any more, draining in 5 s")
        assert server.request("GET", "/readyz")[0] == 503
        assert server.stop() == 0
        assert "SIGTERM: draining" in server.log


def test_it_is_there_as_pid_1(tmp_path: Path) -> None:
    if not may_make_pid_namespaces():
        pytest.skip("needs the right to make a PID namespace")
    with serving_as_pid_1(write_model(tmp_path, ECHO), *ENDLESS) as (server, child):
        os.kill(child, signal.SIGTERM)
        server.wait_for_log("not ready any more")
        assert server.request("GET", "/readyz")[0] == 503
        assert server.predict("x") == ["x", 1]
        os.kill(child, signal.SIGTERM)
        assert server.wait() == 0
