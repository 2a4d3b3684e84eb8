"""What Truss's platform mounts, sets and asks, against the real command: models under tests/models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import Server, run_to_end, serving, write_model

MODELS = Path(__file__).parent.parent / "models"
ECHO = "class Model:\n    def predict(self, model_input):\n        return model_input\n"
READY = "/v1/models/model"


# --- is_healthy ---


@pytest.fixture(scope="module")
def health() -> Iterator[Server]:
    with serving(MODELS / "health") as server:
        yield server


@pytest.mark.parametrize(
    ("answer", "status", "warnings", "raised"),
    [
        ("true", 200, 0, None),
        ("text", 200, 0, None),
        (
            "none",
            200,
            1,
            None,
        ),  # as by Truss: says nothing, so being loaded decides
        ("zero", 503, 1, None),
        ("false", 503, 1, None),
        ("empty", 503, 1, None),
        ("raises", 503, 1, "'missing'"),
        ("stops", 503, 1, ""),
        ("exits", 503, 1, "3"),
        ("without truth", 503, 1, "neither"),
    ],
)
def test_the_model_s_own_word_decides_its_readiness_and_nothing_else(
    health: Server, answer: str, status: int, warnings: int, raised: str | None
) -> None:
    asked = health.predict(answer)
    written = len(health.log)
    seen = [health.request(method, READY)[0] for method in ("GET", "HEAD")]
    seen.append(health.request("GET", READY + ":predict")[0])
    assert seen == [status] * 3
    for path in ("/", READY + "/loaded", "/ping", "/readyz", "/livez", "/v2/health/ready"):
        assert health.request("GET", path)[0] == 200
    assert health.predict("true") == asked + 3
    health.request("POST", "/predict", b'"no such answer"')  # its line in the log comes after all of the above
    health.wait_for_log(rf"(?s)\A.{{{written}}}.*no such answer")
    log = health.log[written:]
    assert log.count("Health check failed.") == 3 * warnings
    shown = re.findall(r'Exception while checking if model is healthy: (.*?)", "exc_info', log)
    assert shown == ([] if raised is None else [raised] * 3)
    if raised is not None:
        assert "model/model.py" in log
        assert "fastserve/model/hooks.py" not in log  # only the user's frames


def test_an_unhealthy_model_has_truss_answer_for_not_ready(health: Server) -> None:
    health.predict("false")
    assert health.request("GET", READY) == (503, b'{"error":"Model with name model is not ready."}')


HANGS = """
import logging, threading
release = threading.Event()
class Model:
    hangs = True
    def is_healthy(self):
        logging.info("asked")
        if self.hangs: release.wait()
        return True
    def preprocess(self, model_input):
        if model_input == "release": release.set()
        return model_input
    def predict(self, model_input):
        self.hangs = False
        logging.info("predicting")
        release.wait()
"""


def test_a_probe_waits_neither_for_predicts_nor_for_a_probe_that_hangs_and_may_leave(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, HANGS)) as server:
        with server.connect() as probing:
            probing.sendall(b"GET /v1/models/model HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for_log("asked")
        with server.connect() as predicting:
            predicting.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
            server.wait_for_log("predicting")
            assert server.request("GET", READY) == (200, b"{}")
            assert server.request("POST", "/predict", b'"release"')[0] == 200
            assert predicting.recv(100).startswith(b"HTTP/1.1 200")
        assert server.stop() == 0


def test_an_async_is_healthy_is_awaited_on_the_loop_and_a_draining_server_does_not_ask(tmp_path: Path) -> None:
    source = (
        "import asyncio, logging, threading\n"
        "class Model:\n"
        "    async def is_healthy(self):\n"
        "        await asyncio.sleep(0)\n"
        "        logging.info('asked on %s', threading.current_thread().name)\n        return 34\n"
        "    async def predict(self, model_input):\n"
        "        logging.info('begun')\n        await asyncio.sleep(0.5)\n        return 1\n"
    )
    with serving(write_model(tmp_path, source)) as server:
        assert server.request("GET", READY)[0] == 200
        server.wait_for_log("asked on MainThread")
        with server.connect() as probing, server.connect() as predicting:
            probing.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # accepted before the signal
            assert probing.recv(1000).startswith(b"HTTP/1.1 200")
            predicting.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
            server.wait_for_log("begun")
            assert server.stop() == 0
        assert server.log.count("asked on") == 1


# --- setup_environment ---


def environment(tmp_path: Path, text: str | None) -> dict[str, str]:
    """Where the platform's file is, and what says so."""
    if text is not None:
        (tmp_path / "environment").write_text(text)
    return {"FASTSERVE_DYNAMIC_CONFIG_PATH": str(tmp_path)}


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('{"name": "a"}', [["__init__", {"name": "a"}], ["setup_environment", {"name": "a"}], ["load", None]]),
        ("null", [["__init__", None], ["setup_environment", None], ["load", None]]),
        ("", [["__init__", None], ["load", None]]),
        (None, [["__init__", None], ["load", None]]),
    ],
)
def test_the_environment_is_told_before_load_and_then_each_change_whatever_is_raised(
    tmp_path: Path, text: str | None, calls: list[object]
) -> None:
    with serving(MODELS / "environment", env=environment(tmp_path, text)) as server:
        assert server.predict(None) == calls
        environment(tmp_path, '"bad"')
        server.wait_for_log("Exception while setting up environment: no such environment")
        environment(tmp_path, '{"name": "later"}')
        server.wait_for_log("environment: {'name': 'later'}")
        seen = server.predict(None)
        while seen[-1] != ["setup_environment", {"name": "later"}]:  # the line comes before the call
            seen = server.predict(None)
        assert seen == [*calls, ["setup_environment", "bad"], ["setup_environment", {"name": "later"}]]
        assert server.stop() == 0
        assert "hooks.py" not in server.log


def test_what_setup_environment_raises_before_load_fails_the_load_as_by_truss(tmp_path: Path) -> None:
    status, log = run_to_end(MODELS / "environment", "--port", "0", env=environment(tmp_path, '"bad"'))
    assert status == 1
    assert "ValueError: no such environment" in log


def test_an_async_setup_environment_is_awaited(tmp_path: Path) -> None:
    source = (
        "import asyncio, threading\n"
        "class Model:\n"
        "    async def setup_environment(self, environment):\n"
        "        await asyncio.sleep(0)\n        self.told = [environment, threading.current_thread().name]\n"
        "    def predict(self, model_input):\n        return self.told\n"
    )
    with serving(write_model(tmp_path, source), env=environment(tmp_path, "[1]")) as server:
        assert server.predict(1) == [[1], "MainThread"]


def test_an_environment_that_is_not_json_is_refused(tmp_path: Path) -> None:
    status, log = run_to_end(MODELS / "environment", "--port", "0", env=environment(tmp_path, "{"))
    assert status == 2
    assert f"{tmp_path}/environment: not JSON" in log


# --- secrets ---


def test_secrets_come_from_files_variables_and_config(tmp_path: Path) -> None:
    (tmp_path / "from_file").write_text("one\n")
    env = {"TRUSS_SECRET_from_variable": "v", "TRUSS_SECRET_from_file": "x"}
    with serving(MODELS / "secrets", "--secrets-path", str(tmp_path), env=env) as server:
        assert [server.predict(f"from_{name}") for name in ("config", "variable", "file")] == ["1", "v", "one\n"]
        (tmp_path / "from_file").write_text("two")  # looked up at each access
        assert server.predict("from_file") == "two"
        status, content = server.request("POST", "/predict", b'"nowhere"')
        assert (status, content) == (500, b'{"error":"Internal Server Error (in model/chainlet)."}')
        server.wait_for_log(rf"'nowhere' has no value: looked in {tmp_path}/nowhere, .*TRUSS_SECRET_nowhere")


# --- refused at start ---


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("model_name: x\ndocker_server: {start_command: serve}\n", "config.yaml:2: docker_server: "),
        (
            "runtime:\n  transport:\n    kind: grpc\n",
            "config.yaml:3: runtime.transport.kind: grpc",
        ),
    ],
)
def test_what_only_the_platform_does_is_refused_in_one_line(tmp_path: Path, config: str, words: str) -> None:
    status, log = run_to_end(write_model(tmp_path, ECHO, config), "--port", "0")
    assert status == 2
    assert words in log
    assert log.count("\n") == 1
