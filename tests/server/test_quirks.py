"""The switches that give Truss's habits back, each beside what is done without it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import Server, run_to_end, serving, write_model

ASYNC_LOAD = """
class Model:
    is_loaded = False
    async def load(self):
        self.is_loaded = True
    def predict(self, model_input):
        return self.is_loaded
"""

FAILS = "class Model:\n    def load(self): raise ValueError('no')\n    def predict(self, x): ...\n"

HEADERS = """
import fastserve
class Model:
    def predict(self, model_input):
        raise fastserve.HTTPError(429, "busy", headers={"Retry-After": "7"})
"""

ANNOTATED = """
import pydantic
class Item(pydantic.BaseModel):
    name: str
class Model:
    def predict(self, item: Item):
        return item.name
    def embeddings(self, model_input):
        return type(model_input).__name__
"""

# Every predict waits until somebody makes the file "go" in the working directory.
WAITS = """
import itertools, logging, pathlib, time
count = itertools.count(1)
class Model:
    def predict(self, model_input):
        logging.info("predict %d has begun", next(count))
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
"""


@pytest.mark.parametrize("quirks, is_loaded", [("none", True), ("unawaited-load", False)])
def test_an_async_load_is_awaited_or_not(tmp_path: Path, quirks: str, is_loaded: bool) -> None:
    with serving(write_model(tmp_path, ASYNC_LOAD), "--truss-quirks", quirks) as server:
        assert server.predict(1) is is_loaded


@pytest.mark.parametrize("quirks, status", [("none", 1), ("exit-zero", 0)])
def test_a_failed_load_exits_with_one_or_zero(tmp_path: Path, quirks: str, status: int) -> None:
    env = {"NUM_LOAD_RETRIES_TRUSS": "0"}
    directory = write_model(tmp_path, FAILS)
    assert run_to_end(directory, "--port", "0", "--truss-quirks", quirks, env=env)[0] == status


@pytest.mark.parametrize("quirks, retry_after", [("none", "7"), ("lost-headers", None)])
def test_an_http_error_keeps_its_fields_or_loses_them(tmp_path: Path, quirks: str, retry_after: str | None) -> None:
    with serving(write_model(tmp_path, HEADERS), "--truss-quirks", quirks) as server:
        status, fields, content = exchange(server, "POST", "/predict", b"1")
    assert (status, json.loads(content), fields.get("Retry-After")) == (429, {"error": "busy"}, retry_after)


@pytest.mark.parametrize("quirks, answer", [("none", '"dict"'), ("predict-annotations", '"Item"')])
def test_each_route_goes_by_its_own_annotations_or_all_by_predict_s(tmp_path: Path, quirks: str, answer: str) -> None:
    with serving(write_model(tmp_path, ANNOTATED), "--truss-quirks", quirks) as server:
        assert server.request("POST", "/v1/embeddings", b'{"name": "x"}') == (200, answer.encode())


@pytest.mark.parametrize("quirks", ["none", "waiting-liveness"])
def test_liveness_waits_for_plain_calls_only_if_asked_to(tmp_path: Path, quirks: str) -> None:
    directory = write_model(tmp_path, WAITS, "runtime: {predict_concurrency: 40}")
    with serving(directory, "--truss-quirks", quirks) as server, busy(server, directory, 40):
        probe = server.connect()
        probe.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert server.request("GET", "/ping")[0] == 200
        if quirks == "none":
            assert probe.recv(100).startswith(b"HTTP/1.1 200")
        else:
            probe.settimeout(0.3)
            with pytest.raises(TimeoutError):
                probe.recv(100)
            probe.settimeout(10)
            (directory / "go").touch()
            assert probe.recv(100).startswith(b"HTTP/1.1 200")
        probe.close()


def exchange(server: Server, method: str, path: str, content: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, content)
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


@contextlib.contextmanager
def busy(server: Server, directory: Path, count: int) -> Iterator[None]:
    """`count` predicts at work, until the file "go" is there."""
    threads = [threading.Thread(target=server.predict, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    server.wait_for_log(f"predict {count} has begun")
    try:
        yield
    finally:
        (directory / "go").touch()
        for thread in threads:
            thread.join()
