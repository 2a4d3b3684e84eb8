"""A model that is stuck, out of memory or has its thread killed, behind the real command: readiness, answers, log."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.test_lifecycle import Client, open_gate
from tests.support.process import PATIENCE_S, Server, run_to_end, serving, write_model

READY_PATHS = ("/readyz", "/health", "/ping", "/v1/models/model", "/v1/models/model/loaded")

OUT_OF_MEMORY = """
class Model:
    def predict(self, x):
        if x == "oom":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if x == "stream":
            return self.stream()
        return x
    def stream(self):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        yield
"""


def post(server: Server, payload: object) -> tuple[int, str | None, bytes]:
    """(status, Retry-After, content)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    connection.request("POST", "/predict", json.dumps(payload))
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.getheader("Retry-After"), content


def wait_for_readiness(server: Server, status: int) -> None:
    """Ask until the probe answers so: it follows the model within a tick."""
    for _ in range(10_000):
        if server.request("GET", "/readyz")[0] == status:
            return
    raise AssertionError


# --- out of memory ---


@pytest.mark.parametrize("payload", ["oom", "stream"])
def test_out_of_memory_is_503_with_retry_after_and_the_traceback_is_logged(tmp_path: Path, payload: str) -> None:
    with serving(write_model(tmp_path, OUT_OF_MEMORY)) as server:
        assert post(server, payload) == (503, "1", b'{"error":"The model ran out of memory."}')
        assert post(server, "good") == (200, None, b'"good"')
        assert server.stop() == 0
    assert "CUDA out of memory. Tried to allocate 2.00 GiB" in server.log
    assert "model/model.py" in server.log


def test_too_many_in_a_row_turn_readiness_and_a_success_turns_it_back(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, OUT_OF_MEMORY), "--oom-limit", "1") as server:
        assert server.request("GET", "/readyz")[0] == 200
        assert post(server, "oom")[0] == 503
        wait_for_readiness(server, 503)
        for path in READY_PATHS:
            assert server.request("GET", path)[0] == 503
        assert server.request("GET", "/livez") == (200, b"true")
        assert post(server, "good")[0] == 200  # what comes all the same is tried
        wait_for_readiness(server, 200)
        assert server.stop() == 0


def test_the_process_ends_with_1_if_that_is_asked(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, OUT_OF_MEMORY), "--oom-limit", "1", "--exit-on-oom") as server:
        assert post(server, "oom")[0] == 503
        assert server.wait() == 1
    assert "to be started anew" in server.log


def test_an_end_without_a_limit_is_refused(tmp_path: Path) -> None:
    status, errors = run_to_end(write_model(tmp_path, OUT_OF_MEMORY), "--oom-limit", "0", "--exit-on-oom")
    assert status == 2
    assert "--exit-on-oom needs a limit" in errors


def test_inference_mode_without_torch_is_refused_in_one_line(tmp_path: Path) -> None:
    config = "runtime: {inference_mode: true}"
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    directory = write_model(tmp_path / "m", OUT_OF_MEMORY, config)
    status, errors = run_to_end(directory, "--port", "0", env={"PYTHONPATH": str(tmp_path)})
    assert status == 2
    line = json.loads(errors.splitlines()[-1])
    assert line["message"].startswith("inference_mode needs torch, which cannot be imported (no torch here)")
    assert "exc_info" not in line


# --- stuck ---

GATED = """
import asyncio
class Model:
    {prefix}def predict(self, fifo):
        if fifo is None:
            return "free"
        return {wait}self.wait_for(fifo)
    def wait_for(self, fifo):
        return open(fifo).read() + "done"
    async def wait_for_async(self, fifo):
        return await asyncio.get_running_loop().run_in_executor(None, self.wait_for, fifo)
"""
SYNC = GATED.format(prefix="", wait="")
ASYNC = GATED.format(prefix="async ", wait="await ").replace("await self.wait_for(", "await self.wait_for_async(")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    yield fifo


@pytest.mark.parametrize("source, inner", [(SYNC, "wait_for"), (ASYNC, "wait_for_async")], ids=["sync", "async"])
def test_a_stuck_predict_turns_readiness_and_its_stack_is_logged_until_it_goes_on(
    source: str, inner: str, gate: Path, tmp_path: Path
) -> None:
    with serving(write_model(tmp_path / "m", source), "--predict-watchdog", "0.5") as server:
        client = Client(server, str(gate))
        line = server.wait_for_log(r"\{.*is taken to be stuck.*\}").group(0)
        own, _, whole = json.loads(line)["message"].partition("All of the stack:")
        assert f"in {inner}\n" in own
        assert "in predict\n" in own
        assert "fastserve/model/steps.py" not in own
        assert "fastserve/model/steps.py" in whole
        wait_for_readiness(server, 503)
        for path in READY_PATHS:
            assert server.request("GET", path)[0] == 503
        assert server.request("GET", "/livez") == (200, b"true")
        open_gate(gate)
        client.join()
        assert client.answer is not None
        assert client.answer[:2] == (200, b'"done"')
        server.wait_for_log("what was stuck has gone on")
        wait_for_readiness(server, 200)
        assert server.predict(None) == "free"
        assert server.stop() == 0
    assert server.log.count("is taken to be stuck") == 1


# --- killed threads ---

KILLED = """
import ctypes, sys, threading
def strike(ident):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))
class Model:
    def load(self):
        self.ident = threading.get_ident()
    def preprocess(self, x):
        if x == "strike":
            strike(self.ident)  # predict's thread, which is idle
        return x
    def predict(self, x):
        if x in ("SystemExit", "KeyboardInterrupt"):
            raise {"SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt()}[x]
        if x == "thread exit":
            import _thread; _thread.exit()
        if x == "close":
            return self.exits_on_close()
        return threading.get_ident() == self.ident
    def exits_on_close(self):
        try:
            yield 5  # no chunk: it is closed
        finally:
            sys.exit(3)
"""


def test_whatever_kills_a_worker_thread_its_request_is_answered_and_the_next_one_too(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, KILLED)) as server:
        for payload in ("SystemExit", "KeyboardInterrupt", "thread exit", "close"):
            assert post(server, payload)[0] == 500, payload
            assert server.predict("next") is True, payload
        for _ in range(20):
            assert server.predict("strike") is True  # struck between two jobs: none is lost, the thread stays
        assert server.stop() == 0
    assert "SystemExit struck thread fastserve-predict-0" in server.log
    assert "bug of fastserve" not in server.log
