"""What the metrics page has of the server: series from the start, reasons that come later, and those of an option."""

from __future__ import annotations

from fastserve.endpoints.server_metrics import CANCELLED, EXPIRED, PAUSED, REJECTED, of_process, of_server
from fastserve.metrics import Metrics


def values(metrics: Metrics, name: str) -> dict[str, float]:
    """By the value of the last label."""
    (family,) = (family for family in of_server(metrics) if family.name == name)
    return {sample.labels[-1][1] if sample.labels else "": sample.value for sample in family.samples}


def test_every_known_reason_is_there_before_it_was_one() -> None:
    metrics = Metrics()
    for name, known in (
        *(("rejected", REJECTED), ("cancelled", CANCELLED)),
        *(("expired", EXPIRED), ("accept_paused", PAUSED)),
    ):
        assert values(metrics, f"fastserve_{name}") == dict.fromkeys(known, 0)
    metrics.rejected.update({"unauthorized": 0, "queue_full": 2})
    assert values(metrics, "fastserve_rejected") == {**dict.fromkeys(REJECTED, 0), "queue_full": 2, "unauthorized": 0}


def test_handshakes_are_there_with_tls() -> None:
    metrics = Metrics()
    assert "fastserve_tls_handshake_failures" not in {family.name for family in of_server(metrics)}
    metrics.failed_handshakes.update({"timeout": 0, "not_tls": 1})
    assert values(metrics, "fastserve_tls_handshake_failures") == {"timeout": 0, "not_tls": 1}


def test_answers_are_counted_by_status_and_those_of_methods_timed() -> None:
    metrics = Metrics()
    predict = metrics.method("predict")
    predict.plain, predict.others[500] = 3, 1
    predict.others[200] += 1  # such as a stream
    predict.note([0, 1 << 20, 1 << 22], 1, 1 << 23)
    assert values(metrics, "fastserve_requests") == {"200": 4, "500": 1}
    assert values(metrics, "fastserve_predict_duration_seconds")["+Inf"] == 1


def test_a_process_tells_of_itself() -> None:
    told = {family.name: family.samples[0].value for family in of_process()}
    assert told["process_max_fds"] > told["process_open_fds"] > 2
    assert told["process_virtual_memory_bytes"] > told["process_resident_memory_bytes"] > 1 << 20
    assert min(told.values()) > 0
