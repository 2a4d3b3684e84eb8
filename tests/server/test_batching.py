"""`runtime.batching` on the real process: many clients, one predict, and each gets its own answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import PATIENCE_S, Server, run_to_end, serving, write_model

# A batch with {"fifo": path} in it waits until the test has opened and closed the FIFO.
SYNC = """
import logging
from fastserve import HTTPError

def answer(value):
    if value == "bad":
        raise ValueError("bad")
    if value == "teapot":
        raise HTTPError(418, "a teapot")
    return {"echo": value}

class Model:
    def predict(self, inputs):
        logging.warning("batch of %d: %s.", len(inputs), inputs)
        for value in inputs:
            if isinstance(value, dict):
                open(value["fifo"]).read()
        if "lose one" in inputs:
            inputs = inputs[1:]
        return [answer(value) for value in inputs]
"""
COROUTINE = (
    SYNC.replace("import logging", "import asyncio, logging")
    .replace("    def predict", "    async def predict")
    .replace('open(value["fifo"]).read()', 'await asyncio.to_thread(lambda: open(value["fifo"]).read())')
)
# Each input is how many chunks it is to be answered with.
GENERATOR = """
class Model:
    def predict(self, inputs):
        for number in range(max(inputs)):
            yield [f"{value}.{number} " if number < value else None for value in inputs]
"""
BATCHING = "runtime: {batching: {max_batch_size: 16%s}}"
EITHER = pytest.mark.parametrize("source", [SYNC, COROUTINE], ids=["sync", "coroutine"])


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def release(fifo: Path) -> None:
    with fifo.open("w"):
        pass


class Client:
    """One request whose answer is read later."""

    def __init__(self, server: Server, payload: Any, **fields: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        self._connection.request("POST", "/predict", json.dumps(payload), fields)

    def read(self) -> tuple[int, bytes]:
        with contextlib.closing(self._connection):
            response = self._connection.getresponse()
            return response.status, response.read()


@contextlib.contextmanager
def holding(server: Server, fifo: Path) -> Iterator[Client]:
    """A batch runs until the FIFO is opened; what is sent meanwhile is queued."""
    client = Client(server, {"fifo": str(fifo)})
    server.wait_for_log(r"batch of 1: \[\{")
    yield client


def let_read(server: Server) -> None:
    """What was sent before has been read by the server: it comes first in the kernel's queue."""
    for _ in range(5):
        assert server.request("GET", "/livez")[0] == 200


def sizes(server: Server) -> list[int]:
    return [int(size) for size in re.findall(r"batch of (\d+): ", server.read_log())]


@EITHER
def test_sixty_four_clients_are_answered_in_few_batches_and_each_gets_its_own(
    source: str, tmp_path: Path, fifo: Path
) -> None:
    with serving(write_model(tmp_path / "m", source, BATCHING % "")) as server:
        with holding(server, fifo) as held:
            clients = [Client(server, number) for number in range(64)]
            let_read(server)
            release(fifo)
            for number, client in enumerate(clients):
                assert client.read() == (200, b'{"echo":%d}' % number)
            assert held.read()[0] == 200
        found = sizes(server)
        assert sum(found) == 65
        assert max(found) == 16
        assert len(found) < 10


@EITHER
def test_a_batch_that_is_not_full_is_no_reason_to_turn_anybody_away(source: str, tmp_path: Path, fifo: Path) -> None:
    model = write_model(tmp_path / "m", source, BATCHING % "")
    with serving(model, "--max-queue", "0") as server, holding(server, fifo) as held:
        clients = [Client(server, number) for number in range(15)]
        let_read(server)
        assert server.request("POST", "/predict", b"15")[0] == 429
        release(fifo)
        assert [client.read()[0] for client in clients] == [200] * 15
        assert held.read()[0] == 200


@EITHER
def test_only_the_culprit_fails_and_an_http_error_is_its_own(source: str, tmp_path: Path, fifo: Path) -> None:
    payloads = [1, "bad", "teapot", 4]
    with serving(write_model(tmp_path / "m", source, BATCHING % "")) as server:
        with holding(server, fifo) as held:
            clients = [Client(server, payload) for payload in payloads]
            let_read(server)
            release(fifo)
            answers = [client.read() for client in clients]
            assert held.read()[0] == 200
        assert [status for status, _ in answers] == [200, 500, 418, 200]
        assert answers[2][1] == b'{"error":"a teapot"}'
        assert answers[3][1] == b'{"echo":4}'
        server.wait_for_log("predict failed for a batch of 4")


@EITHER
def test_with_fail_all_of_a_batch_fail_alike(source: str, tmp_path: Path, fifo: Path) -> None:
    with serving(write_model(tmp_path / "m", source, BATCHING % ", on_batch_error: fail")) as server:
        with holding(server, fifo) as held:
            clients = [Client(server, payload) for payload in (1, "teapot", 3)]
            let_read(server)
            release(fifo)
            assert [client.read()[0] for client in clients] == [418, 418, 418]
            assert held.read()[0] == 200
        assert sizes(server) == [1, 3]


@EITHER
def test_a_result_of_the_wrong_length_is_a_clear_500(source: str, tmp_path: Path, fifo: Path) -> None:
    with serving(write_model(tmp_path / "m", source, BATCHING % "")) as server:
        with holding(server, fifo) as held:
            clients = [Client(server, payload) for payload in (1, "lose one", 3)]
            let_read(server)
            release(fifo)
            for client in clients:
                status, content = client.read()
                assert status == 500
                assert b"`predict` must return a list of 3 results, one for each input (batching), not 2" in content
            assert held.read()[0] == 200
        assert sizes(server) == [1, 3]
        assert server.predict("still there") == {"echo": "still there"}


@EITHER
def test_a_client_that_left_before_its_batch_is_in_none(source: str, tmp_path: Path, fifo: Path) -> None:
    with serving(write_model(tmp_path / "m", source, BATCHING % "")) as server:
        with holding(server, fifo) as held:
            stays = Client(server, "stays")
            with server.connect() as leaves:
                leaves.sendall(b'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n"leaves"')
                let_read(server)
                leaves.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            let_read(server)
            release(fifo)
            assert stays.read() == (200, b'{"echo":"stays"}')
            assert held.read()[0] == 200
        assert sizes(server) == [1, 1]
        assert "leaves" not in server.log


@pytest.mark.parametrize("is_async", [False, True])
def test_each_client_gets_the_stream_that_is_its_own(tmp_path: Path, is_async: bool) -> None:
    source = GENERATOR.replace("def", "async def") if is_async else GENERATOR
    with serving(write_model(tmp_path / "m", source, BATCHING % ", batch_wait_ms: 200")) as server:
        counts = [3, 1, 5, 2, 4]
        clients = [Client(server, count) for count in counts]
        texts = ["".join(f"{count}.{number} " for number in range(count)) for count in counts]
        for text, client in zip(texts, clients, strict=True):
            assert client.read() == (200, text.encode())
        clients = [Client(server, count, Accept="application/json") for count in counts]
        for text, client in zip(texts, clients, strict=True):
            assert client.read() == (200, json.dumps(text).encode())


@EITHER
def test_what_is_queued_is_answered_before_the_server_ends(source: str, tmp_path: Path, fifo: Path) -> None:
    with serving(write_model(tmp_path / "m", source, BATCHING % ", batch_wait_ms: 50")) as server:
        with holding(server, fifo) as held:
            clients = [Client(server, number) for number in range(3)]
            let_read(server)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_log("draining, 4 requests in flight")
            release(fifo)
            assert [client.read() for client in clients] == [(200, b'{"echo":%d}' % number) for number in range(3)]
            assert held.read()[0] == 200
        assert server.wait() == 0


def test_an_open_window_does_not_hold_up_a_server_whose_time_is_over(tmp_path: Path) -> None:
    config = BATCHING % ", batch_wait_ms: 60000"
    with serving(write_model(tmp_path / "m", SYNC, config), "--timeout-graceful-shutdown", "0") as server:
        client = Client(server, 1)
        let_read(server)
        assert server.stop() == 0
        with pytest.raises((http.client.HTTPException, OSError)):
            client.read()
        assert "batch of" not in server.log


@EITHER
def test_what_is_queued_when_the_model_is_loaded_anew_is_answered_by_the_old_one(
    source: str, tmp_path: Path, fifo: Path
) -> None:
    model = write_model(tmp_path / "m", source, BATCHING % "")
    with serving(model, "--reload") as server:
        with holding(server, fifo) as held:
            clients = [Client(server, number) for number in range(3)]
            let_read(server)
            (model / "model" / "model.py").write_text(source.replace('"echo"', '"new"'))
            server.wait_for_log("reloaded in")
            assert server.predict("late") == {"new": "late"}
            release(fifo)
            assert [client.read() for client in clients] == [(200, b'{"echo":%d}' % number) for number in range(3)]
            assert held.read()[0] == 200
        assert server.stop() == 0


TYPED = """
from pydantic import BaseModel
from fastserve import Request

class Item(BaseModel):
    value: int

class Answer(BaseModel):
    double: int

class Model:
    def predict(self, inputs: list[Item]) -> list[Answer]:
        return [Answer(double=2 * item.value) for item in inputs]
    def postprocess(self, answer: Answer, request: Request) -> Answer:
        assert isinstance(answer, Answer)
        return answer if "wrong" not in request.headers else None
"""


def test_each_input_is_checked_against_what_the_list_is_of(tmp_path: Path) -> None:
    with serving(write_model(tmp_path / "m", TYPED, BATCHING % ", batch_wait_ms: 200")) as server:
        clients = [Client(server, payload) for payload in ({"value": 1}, {"value": "x"}, {"value": "3"})]
        answers = [client.read() for client in clients]
        assert answers[0] == (200, b'{"double":2}')
        assert answers[1][0] == 400
        assert b"`value`: Input should be a valid integer" in answers[1][1]
        assert answers[2] == (200, b'{"double":6}')
        status, content = server.request("GET", "/v1/models/model/schema")
        assert status == 200
        schema = json.loads(content)
        assert schema["input_schema"]["title"] == "Item"
        assert schema["output_schema"]["title"] == "Answer"


@pytest.mark.parametrize(
    "config, source, words",
    [
        (BATCHING % ", batch_wait: 5", SYNC, "batching.batch_wait: no such setting (did you mean batch_wait_ms?)"),
        ("runtime: {batching: {}}", SYNC, "runtime.batching needs max_batch_size"),
        ("runtime: {bathing: {max_batch_size: 8}}", SYNC, "bathing: no such setting (did you mean batching?)"),
        (BATCHING % "", SYNC.replace("(self, inputs)", "(self)"), "`predict` takes no input"),
        (BATCHING % "", TYPED.replace("list[Item]", "Item"), "with runtime.batching it is given a list of inputs"),
    ],
)
def test_what_cannot_work_is_refused_at_start(config: str, source: str, words: str, tmp_path: Path) -> None:
    status, log = run_to_end(write_model(tmp_path, source, config), "--port", "0")
    assert status == 2
    assert words in json.loads(log.splitlines()[-1])["message"] if log.lstrip().startswith("{") else words in log
