"""The metrics page against Prometheus's own tools, and the dashboard against the page."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import fastserve
from tests.support.process import Server, serving, write_model

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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("model"), SOURCE)) as server:
        yield server


def post(server: Server, content: str, path: str = "/predict") -> int:
    return server.request("POST", path, content.encode())[0]


def samples(server: Server, name: str) -> dict[str, float]:
    """Labels, as they are written, to value."""
    page = server.request("GET", "/metrics")[1].decode()
    return {
        labels or "": float(value) for labels, value in re.findall(rf"^{name}({{.*}})? (\S+)$", page, re.MULTILINE)
    }


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


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_promtool_finds_nothing_to_mend(server: Server, accept: str) -> None:
    page = server.request("GET", "/metrics", headers={"Accept": accept})[1]
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=30)
    if accept == "text/plain":  # promtool reads no other
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    else:
        assert page.endswith(b"# EOF\n")


def queries() -> Iterator[str]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]


@pytest.mark.parametrize("query", list(queries()))
def test_every_query_of_the_dashboard_asks_for_metrics_that_exist(server: Server, query: str) -> None:
    page = server.request("GET", "/metrics")[1].decode()
    names = re.findall(r"\b((?:fastserve|process)_\w+)", query)
    assert names
    for name in names:
        assert re.search(rf"^{name}[ {{]", page, re.MULTILINE), name


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Iterator[int]:
    """A real Prometheus that scrapes the server once a second. Its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "model", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}],
    }
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


def test_a_real_prometheus_scrapes_it_and_answers_every_query_of_the_dashboard(
    server: Server, prometheus: int
) -> None:
    assert post(server, "1") == 200
    deadline = time.monotonic() + 60
    while not ask(prometheus, 'fastserve_requests_total{endpoint="predict",code="200"} > 0'):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ask(prometheus, 'up{job="model"}')[0]["value"][1] == "1"
    for query in queries():
        if not query.startswith("label_values"):
            filled = query.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "1m")
            connection = http.client.HTTPConnection("127.0.0.1", prometheus, timeout=5)
            connection.request("GET", "/api/v1/query?" + urlencode({"query": filled}))
            assert connection.getresponse().status == 200, query  # else it is not PromQL
            connection.close()
