"""The metrics page against Prometheus's own tools, and the dashboard against the page."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import fastserve
from tests.support.process import PATIENCE_S, Server, serving, write_model
from tests.support.tls import shared_certificate

DASHBOARD = Path(fastserve.__file__).parent / "grafana_dashboard.json"
SOURCE = """
class Model:
    def predict(self, x):
        if x == "stream":
            return (word for word in ("a", "b"))
        if x == "error":
            raise ValueError(x)
        return x
    def chat_completions(self, x):
        return x
"""


# Batches of two go at once: what is asked is asked in pairs.
FULL_SOURCE = """
class OutOfMemoryError(Exception): ...
class Model:
    def chat_completions(self, x):
        raise OutOfMemoryError("CUDA")
    def predict(self, inputs):
        return [1 / number for number in inputs]
"""
FULL_CONFIG = "runtime: {batching: {max_batch_size: 2, batch_wait_ms: 30000}}"
CLIENT_LIMIT = 16
FULL_FLAGS = ("--predict-watchdog", "3600", "--max-connections-per-client", str(CLIENT_LIMIT))
PYNVML = """
from types import SimpleNamespace
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(handle): return 'NVIDIA "L4"'
def nvmlDeviceGetMemoryInfo(handle): return SimpleNamespace(used=1 << 30, total=24 << 30)
def nvmlDeviceGetUtilizationRates(handle): return SimpleNamespace(gpu=25)
"""
KEY = "the-key"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("model"), SOURCE)) as server:
        yield server


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With TLS, keys, batches, a watchdog, a limit for each client, and a GPU, as far as anybody can tell."""
    directory = tmp_path_factory.mktemp("full")
    (directory / "pynvml.py").write_text(PYNVML)
    model = write_model(directory / "m", FULL_SOURCE, FULL_CONFIG)
    env = {"PYTHONPATH": f"{directory}:{Path.cwd()}", "FASTSERVE_API_KEYS": KEY}
    with serving(model, *FULL_FLAGS, *shared_certificate().flags, env=env) as server:
        yield server


def ask_full(server: Server, method: str, path: str, content: str | None = None, key: str = KEY) -> tuple[int, bytes]:
    context = shared_certificate().trusting()
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=PATIENCE_S, context=context)
    with contextlib.closing(connection):
        connection.request(method, path, content, {"X-API-Key": key})
        response = connection.getresponse()
        return response.status, response.read()


def post_pair(server: Server, *contents: str) -> list[int]:
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask_full, server, "POST", "/predict", content) for content in contents]
        return [one.result()[0] for one in asked]


def post(server: Server, content: str, path: str = "/predict") -> int:
    return server.request("POST", path, content.encode())[0]


def samples(server: Server, name: str) -> dict[str, float]:
    """Labels, as they are written, to value."""
    return samples_of(server.request("GET", "/metrics")[1], name)


def samples_of(page: bytes, name: str) -> dict[str, float]:
    found = re.findall(rf"^{name}({{.*}})? (\S+)$", page.decode(), re.MULTILINE)
    return {labels or "": float(value) for labels, value in found}


def test_what_is_asked_and_answered_is_counted(server: Server) -> None:
    before = samples(server, "fastserve_requests_total")
    for content, status in (("1", 200), ("2", 200), ("{", 400), ('"stream"', 200), ('"error"', 500)):
        assert post(server, content) == status
    assert post(server, "1", "/v1/chat/completions") == 200
    assert post(server, "1", "/nowhere") == 404
    assert server.request("GET", "/ready")[0] == 200
    after = samples(server, "fastserve_requests_total")
    rise = {labels: value - before.get(labels, 0) for labels, value in after.items() if value != before.get(labels)}
    rise.pop('{endpoint="metrics",code="200"}')
    assert rise == {
        '{endpoint="predict",code="200"}': 3,
        '{endpoint="predict",code="400"}': 1,
        '{endpoint="predict",code="500"}': 1,
        '{endpoint="chat_completions",code="200"}': 1,
        '{endpoint="none",code="404"}': 1,
        '{endpoint="readiness",code="200"}': 1,
    }


@pytest.mark.parametrize("kind", ["request_duration", "queue_duration", "predict_duration", "overhead"])
def test_histograms_count_every_predict(server: Server, kind: str) -> None:
    name = f"fastserve_{kind}_seconds"
    label = '{endpoint="predict"}'
    before = samples(server, name + "_count")[label]
    for _ in range(3):
        post(server, "1")
    assert samples(server, name + "_count")[label] == before + 3
    buckets = samples(server, name + "_bucket")
    assert buckets['{endpoint="predict",le="+Inf"}'] == before + 3
    counts = [value for labels, value in buckets.items() if 'endpoint="predict"' in labels]
    assert counts == sorted(counts)
    assert samples(server, name + "_sum")[label] > 0


def rise(full: Server, cause: Callable[[], object]) -> dict[str, float]:
    """What `cause` makes more of, but for answers and durations."""

    def read() -> dict[str, float]:
        page = ask_full(full, "GET", "/metrics")[1]
        names = {*re.findall(r"^(fastserve_(?:\w+_total|batch_size_sum|batch_size_count))\b", page.decode(), re.M)}
        names.remove("fastserve_requests_total")
        return {name + labels: value for name in names for labels, value in samples_of(page, name).items()}

    before = read()
    cause()
    after = read()
    assert after.keys() == before.keys()  # every series is there from the start
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def test_the_size_of_each_batch_is_counted_and_that_it_was_tried_anew(full: Server) -> None:
    sizes = {"fastserve_batch_size_sum": 2, "fastserve_batch_size_count": 1}
    assert rise(full, lambda: post_pair(full, "1", "2")) == sizes
    assert rise(full, lambda: post_pair(full, "0", "2")) == {**sizes, "fastserve_batch_retried_total": 1}


def test_running_out_of_memory_is_counted(full: Server) -> None:
    found = rise(full, lambda: ask_full(full, "POST", "/v1/chat/completions", "{}"))
    assert found == {"fastserve_out_of_memory_total": 1}


def test_requests_without_a_key_are_counted(full: Server) -> None:
    found = rise(full, lambda: ask_full(full, "GET", "/metrics", key="wrong"))
    assert found == {'fastserve_rejected_total{reason="unauthorized"}': 1}


def test_connections_that_speak_no_tls_are_counted(full: Server) -> None:
    found = rise(full, lambda: full.request("GET", "/livez"))
    assert found == {'fastserve_tls_handshake_failures_total{reason="not_tls"}': 1}


def test_a_client_with_too_many_connections_is_counted(full: Server) -> None:
    address = ("127.0.0.1", full.port)

    def connect_too_often() -> None:
        with contextlib.ExitStack() as held:
            for _ in range(CLIENT_LIMIT + 1):
                last = socket.create_connection(address, PATIENCE_S, source_address=("127.0.0.2", 0))
                held.enter_context(last)
            assert last.recv(1) == b""

    assert rise(full, connect_too_often) == {'fastserve_rejected_total{reason="client_limit"}': 1}


def test_gpus_and_the_watchdog_are_there(full: Server) -> None:
    page = ask_full(full, "GET", "/metrics")[1]
    label = r'{gpu="0",name="NVIDIA \"L4\""}'
    assert samples_of(page, "fastserve_gpu_memory_used_bytes") == {label: 1 << 30}
    assert samples_of(page, "fastserve_gpu_memory_total_bytes") == {label: 24 << 30}
    assert samples_of(page, "fastserve_gpu_utilization_ratio") == {label: 0.25}
    assert samples_of(page, "fastserve_predict_stuck_total") == {"": 0}
    assert samples_of(page, "fastserve_predict_oldest_age_seconds") == {"": 0}


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_promtool_finds_nothing_to_mend(server: Server, accept: str) -> None:
    page = server.request("GET", "/metrics", headers={"Accept": accept})[1]
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=30)
    if accept == "text/plain":  # promtool reads no other
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    else:
        assert page.endswith(b"# EOF\n")


def test_promtool_finds_nothing_to_mend_where_all_is_on(full: Server) -> None:
    page = ask_full(full, "GET", "/metrics")[1]
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def queries() -> Iterator[str]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]


@pytest.mark.parametrize("query", list(queries()))
def test_every_query_of_the_dashboard_asks_for_metrics_that_exist(full: Server, query: str) -> None:
    page = ask_full(full, "GET", "/metrics")[1].decode()
    names = re.findall(r"\b((?:fastserve|process)_\w+)", query)
    assert names
    for name in names:
        assert re.search(rf"^{name}[ {{]", page, re.MULTILINE), name


@pytest.fixture
def prometheus(full: Server, tmp_path: Path) -> Iterator[int]:
    """A real Prometheus that scrapes the server once a second, with TLS and a key. Its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    job = {
        "job_name": "model",
        "scheme": "https",
        "tls_config": {"ca_file": str(shared_certificate().certificate)},
        "authorization": {"credentials": KEY},
        "static_configs": [{"targets": [f"127.0.0.1:{full.port}"]}],
    }
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    command = [
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, query: str) -> list[dict[str, Any]]:
    """The result of an instant query; empty while Prometheus is not there or has nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/api/v1/query?" + urlencode({"query": query}))
            answer = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException):
            return []
    found: list[dict[str, Any]] = answer.get("data", {}).get("result", [])
    return found


def test_a_real_prometheus_scrapes_it_and_answers_every_query_of_the_dashboard(full: Server, prometheus: int) -> None:
    assert post_pair(full, "1", "2") == [200, 200]
    deadline = time.monotonic() + 60
    while not ask(prometheus, 'fastserve_requests_total{endpoint="predict",code="200"} > 0'):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ask(prometheus, 'up{job="model"}')[0]["value"][1] == "1"
    assert ask(prometheus, "fastserve_gpu_utilization_ratio")[0]["metric"]["name"] == 'NVIDIA "L4"'
    for query in queries():
        if not query.startswith("label_values"):
            filled = query.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "1m")
            connection = http.client.HTTPConnection("127.0.0.1", prometheus, timeout=5)
            connection.request("GET", "/api/v1/query?" + urlencode({"query": filled}))
            assert connection.getresponse().status == 200, query  # else it is not PromQL
            connection.close()
