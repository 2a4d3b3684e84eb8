"""The metrics page against the real command and the real prometheus_client."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.process import Server, serving, write_model

MODELS = Path(__file__).parent.parent / "models"


def names(page: bytes) -> list[str]:
    """Of the model's own metrics, behind the server's."""
    every = [family.name for family in text_string_to_metric_families(page.decode())]
    return [name for name in every if not name.startswith(("fastserve_", "process_"))]


@pytest.mark.parametrize("multiprocess", [False, True])
def test_metrics_are_exactly_what_the_model_registers(tmp_path: Path, multiprocess: bool) -> None:
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} if multiprocess else {}
    with serving(MODELS / "metrics", env=env) as server:
        server.predict("word")
        for path in ("/metrics", "/metrics/"):
            status, page = server.request("GET", path)
            assert status == 200
            assert names(page) == ["my_predictions", "my_input_length"]
            assert b'my_predictions_total{kind="str"} 1.0' in page
            assert b'my_input_length_bucket{le="10.0"} 1.0' in page
            assert b"_created" not in page
        assert server.request("HEAD", "/metrics") == (200, b"")
        assert names(server.request("GET", "/metrics?name[]=my_predictions_total")[1]) == ["my_predictions"]


def test_open_metrics_is_there_for_whoever_asks() -> None:
    with serving(MODELS / "metrics") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        types = []
        for accept in ("", "application/openmetrics-text; version=1.0.0", "text/html"):
            connection.request("GET", "/metrics", headers={"Accept": accept})
            response = connection.getresponse()
            types.append(
                (response.getheader("Content-Type", "").partition(";")[0], response.read()[-6:] == b"# EOF\n")
            )
        connection.close()
        assert types == [("text/plain", False), ("application/openmetrics-text", True), ("text/plain", False)]


def test_a_model_without_metrics_has_the_servers_alone_and_loads_no_library(tmp_path: Path) -> None:
    source = (
        "import sys\nclass Model:\n    def predict(self, model_input):\n"
        "        return [name for name in ('prometheus_client', 'starlette', 'pydantic') if name in sys.modules]\n"
    )
    with serving(write_model(tmp_path, source)) as server:
        status, page = server.request("GET", "/metrics")
        assert (status, names(page)) == (200, [])
        assert b"\nfastserve_model_ready 1\n" in page
        assert server.predict(1) == []


@pytest.fixture
def collectors() -> Iterator[Server]:
    """A model with a collector of its own, which has been asked once."""
    with serving(MODELS / "collectors", wait_ready=False) as server:
        server.wait_for_log("Executing model.load")
        status, page = server.request("GET", "/metrics")  # its `load` waits for that
        assert (status, names(page)) == (200, ["my_gauge"])
        server.wait_for_log("ready; the model loaded")
        yield server


def test_metrics_can_be_read_while_the_model_loads(collectors: Server) -> None:
    assert names(collectors.request("GET", "/metrics")[1]) == ["my_gauge"]


@pytest.mark.parametrize(("what", "words"), [("raise", "ValueError: broken collector"), ("exit", "SystemExit: 3")])
def test_a_collector_that_raises_is_a_500_of_the_model_s(collectors: Server, what: str, words: str) -> None:
    collectors.predict(what)
    status, content = collectors.request("GET", "/metrics")
    assert (status, content) == (500, b'{"error":"Internal Server Error (in model/chainlet)."}')
    collectors.wait_for_log(f"Exception while collecting the model's metrics.*model/model.py.*{words}")
    assert collectors.request("GET", "/metrics")[0] == 200


def test_a_collector_that_hangs_keeps_nobody_else_waiting(collectors: Server) -> None:
    collectors.predict("hang")
    with collectors.connect() as scraping, collectors.connect() as leaving:
        scraping.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        leaving.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        leaving.close()
        assert collectors.request("GET", "/livez")[0] == 200
        collectors.predict("release")
        assert scraping.recv(1000).startswith(b"HTTP/1.1 200")
    assert collectors.stop() == 0
