"""More requests than the model can serve: who is let in, who is told to come back, who is dropped."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.process import Server, serving, write_model

PATIENCE_S = 30.0
PREDICT = "/v1/models/model:predict"

# Predicts wait until `messages` opens the gate; `responses` tells which have begun.
SOURCE = """
import {library}, logging
class Model:
    def __init__(self):
        self.gate, self.begun = {library}.Event(), []
    {async_}def predict(self, x):
        if isinstance(x, dict):
            x = len(x["text"])
        self.begun.append(x)
        logging.info("begun %s", x)
        {await_}self.gate.wait()
        return x
    {async_}def messages(self, x):
        self.gate.set()
    {async_}def responses(self, x):
        return self.begun
"""
SYNC = SOURCE.format(library="threading", async_="", await_="")
COROUTINE = SOURCE.format(library="asyncio", async_="async ", await_="await ")


@pytest.fixture(params=[SYNC, COROUTINE], ids=["sync", "coroutine"])
def source(request: pytest.FixtureRequest) -> str:
    text = request.param
    assert isinstance(text, str)
    return text


class Waiting:
    """A request under way on a connection of its own."""

    def __init__(self, server: Server, payload: object, path: str = PREDICT, **fields: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        self.connection.request("POST", path, json.dumps(payload), headers)

    def answer(self) -> tuple[int, object, str | None]:
        """(status, content, Retry-After)."""
        with contextlib.closing(self.connection):
            response = self.connection.getresponse()
            return response.status, json.loads(response.read()), response.getheader("Retry-After")

    def leave(self) -> None:
        assert self.connection.sock is not None
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.connection.close()


def metric(server: Server, name: str, labels: str = "") -> float:
    _, page = server.request("GET", "/metrics")
    found = re.search(rf"^{name}{re.escape(labels)} (\S+)$", page.decode(), re.MULTILINE)
    assert found, page.decode()
    return float(found[1])


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again: what another process does is told by nothing else."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for_queue(server: Server, depth: int) -> None:
    wait_until(lambda: metric(server, "fastserve_queue_depth") == depth)


@contextlib.contextmanager
def busy(tmp_path: Path, source: str, *flags: str) -> Iterator[Server]:
    """A server whose only slot is taken by the payload 0; room for two more."""
    with serving(write_model(tmp_path, source), "--max-queue", "2", *flags) as server:
        first = Waiting(server, 0)
        server.wait_for_log("begun 0")
        yield server
        server.request("POST", "/v1/messages", b"0")
        assert first.answer()[:2] == (200, 0)


@pytest.mark.parametrize("status", [429, 503])
def test_one_more_than_may_wait_is_told_when_to_try_again_and_loses_nobody_an_answer(
    tmp_path: Path, source: str, status: int
) -> None:
    with busy(tmp_path, source, "--overload-status", str(status)) as server:
        waiting = [Waiting(server, number) for number in (1, 2)]
        wait_for_queue(server, 2)
        refused, content, retry_after = Waiting(server, 3).answer()
        assert refused == status
        assert isinstance(content, dict)
        assert "try again in 1 s" in content["error"]
        assert retry_after == "1"
        assert metric(server, "fastserve_rejected_total", '{reason="queue_full"}') == 1
        assert server.request("GET", "/ready")[0] == 200  # it is the model that is busy, not the server
        server.request("POST", "/v1/messages", b"0")
        assert [request.answer() for request in waiting] == [(200, 1, None), (200, 2, None)]
        assert Waiting(server, 4).answer() == (200, 4, None)
        assert json.loads(server.request("POST", "/v1/responses", b"0")[1]) == [0, 1, 2, 4]


# A method outside the predict slots, which is done once as many are at it as the payload says.
ASIDE = """
import asyncio, threading
class Model:
    def __init__(self):
        self.arrived, self.changed = 0, threading.Condition()
    def predict(self, x):
        return x
    def arrive(self):
        self.arrived += 1
        self.changed.notify_all()
    def chat_completions(self, x):
        with self.changed:
            self.arrive()
            assert self.changed.wait_for(lambda: self.arrived >= x, {patience_s})
        return x
    async def completions(self, x):
        with self.changed:
            self.arrive()
        while self.arrived < x:
            await asyncio.sleep(0.001)
        return x
"""


@pytest.mark.parametrize(("path", "count"), [("/v1/chat/completions", 40), ("/v1/completions", 200)])
def test_outside_the_slots_as_many_are_at_work_as_threads_or_coroutines_can_be(
    tmp_path: Path, path: str, count: int
) -> None:
    with serving(write_model(tmp_path, ASIDE.format(patience_s=PATIENCE_S)), "--max-queue", "0") as server:
        running = [Waiting(server, count, path) for _ in range(count)]
        assert [request.answer() for request in running] == [(200, count, None)] * count


def test_what_waits_for_a_thread_is_in_the_queue_and_bounded(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, ASIDE.format(patience_s=PATIENCE_S)), "--max-queue", "1") as server:
        running = [Waiting(server, 41, "/v1/chat/completions") for _ in range(41)]
        wait_for_queue(server, 1)
        refused, _, retry_after = Waiting(server, 41, "/v1/chat/completions").answer()
        assert (refused, retry_after) == (429, "1")
        assert Waiting(server, 1).answer()[:2] == (200, 1)
        assert Waiting(server, 0, "/v1/completions").answer()[:2] == (200, 0)  # the one that is missing
        assert [request.answer() for request in running] == [(200, 41, None)] * 41


def test_who_leaves_the_queue_makes_room_and_never_runs(tmp_path: Path, source: str) -> None:
    with busy(tmp_path, source) as server:
        leaving, staying = Waiting(server, 1), Waiting(server, 2)
        wait_for_queue(server, 2)
        leaving.leave()
        wait_for_queue(server, 1)
        later = Waiting(server, 3)
        wait_for_queue(server, 2)
        server.request("POST", "/v1/messages", b"0")
        assert [staying.answer()[1], later.answer()[1]] == [2, 3]
        assert json.loads(server.request("POST", "/v1/responses", b"0")[1]) == [0, 2, 3]
        assert metric(server, "fastserve_cancelled_total", '{stage="queue"}') == 1


def test_what_expires_in_the_queue_is_answered_in_time_and_never_runs(tmp_path: Path, source: str) -> None:
    with busy(tmp_path, source) as server:
        began = time.monotonic()
        expiring, staying = Waiting(server, 1, X_Request_Timeout="0.2"), Waiting(server, 2)
        status, content, _ = expiring.answer()
        assert status == 504
        assert isinstance(content, dict)
        assert "X-Request-Timeout" in content["error"]
        assert 0.2 <= time.monotonic() - began < 5
        server.request("POST", "/v1/messages", b"0")
        assert staying.answer()[:2] == (200, 2)
        assert json.loads(server.request("POST", "/v1/responses", b"0")[1]) == [0, 2]
        assert metric(server, "fastserve_expired_total", '{stage="queue"}') == 1


def test_what_expires_while_it_runs_is_answered_and_its_connection_goes_on(tmp_path: Path, source: str) -> None:
    with serving(write_model(tmp_path, source)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        connection.request("POST", PREDICT, "7", {"X-Request-Timeout": "0.1"})
        response = connection.getresponse()
        assert (response.status, "error" in json.loads(response.read())) == (504, True)
        server.request("POST", "/v1/messages", b"0")
        connection.request("POST", PREDICT, "8")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"8")
        assert metric(server, "fastserve_expired_total", '{stage="predict"}') == 1
        connection.close()


def test_the_servers_own_timeout_holds_for_all(tmp_path: Path, source: str) -> None:
    with serving(write_model(tmp_path, source), "--timeout", "0.2") as server:
        assert [Waiting(server, number).answer()[0] for number in (1, 2)] == [504, 504]
        server.request("POST", "/v1/messages", b"0")
        assert Waiting(server, 3).answer()[:2] == (200, 3)


def test_content_beyond_the_bound_is_refused_before_it_is_sent(tmp_path: Path, source: str) -> None:
    large = {"text": "x" * 700_000}
    with busy(tmp_path, source, "--max-queue-bytes", "1M") as server:
        held = Waiting(server, large)
        wait_for_queue(server, 1)
        with server.connect() as peer:
            head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 700000\r\nExpect: 100-continue\r\n\r\n"
            peer.sendall(head % PREDICT.encode())
            answer = peer.recv(65536)
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nRetry-After: 1\r\n" in answer
        small = Waiting(server, 1)
        wait_for_queue(server, 2)
        server.request("POST", "/v1/messages", b"0")
        assert held.answer()[:2] == (200, 700_000)
        assert small.answer()[:2] == (200, 1)
        assert Waiting(server, large).answer()[:2] == (200, 700_000)  # what was held is given back
        assert metric(server, "fastserve_rejected_total", '{reason="queue_bytes"}') == 1
