"""`Server-Timing`: what it tells of every state that a request can be in, and who is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.endpoints.server_timing import durations, encode_timing
from tests.endpoints.test_prediction import Scene

MS = 1_000_000


@pytest.mark.parametrize(
    ("times", "now", "told"),
    [
        ([0], 5, {"queue": 5}),  # it waits
        ([0, 2], 5, {"queue": 2, "preprocess": 3}),  # it runs
        ([0, 2, 3], 5, {"queue": 4, "preprocess": 1}),  # it waits again
        ([0, 2, 3, 7, 12], 13, {"queue": 6, "preprocess": 1, "predict": 5, "encode": 1}),
    ],
)
def test_all_of_the_time_is_told(times: list[int], now: int, told: dict[str, int]) -> None:
    assert dict(durations(["preprocess", "predict"], times, now)) == told


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=7).map(sorted), st.integers(0, 10**12))
def test_what_is_told_adds_up(times: list[int], more: int) -> None:
    now = times[-1] + more
    assert sum(took for _, took in durations(["preprocess", "predict", "postprocess"], times, now)) == now - times[0]


def test_it_is_one_field_in_milliseconds() -> None:
    field = encode_timing(["predict"], [0, 2 * MS, 5 * MS], 6 * MS)
    assert field == b"Server-Timing: queue;dur=2.000, predict;dur=3.000, encode;dur=1.000\r\n"


@pytest.mark.parametrize(("settings", "fields", "is_told"), [
    ({}, {}, False), ({}, {"x-server-timing": b"1"}, True), ({"server_timing": True}, {}, True),
])  # fmt: skip
def test_who_asks_is_told_and_by_option_all_are(
    settings: dict[str, Any], fields: dict[str, bytes], is_told: bool
) -> None:
    scene = Scene(**settings).ready()
    prediction = scene.post(**fields)
    prediction.value = b"1"
    prediction.on_result()
    assert scene.responder.response is not None
    assert (b"Server-Timing: queue;dur=" in scene.responder.response.fields) is is_told
    assert scene.responder.content == b"1"


def test_a_slow_request_is_logged_with_where_its_time_went(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(slow_request_s=1.0).ready()
    for took_s in (0.5, 2.0):
        prediction = scene.post()
        times = prediction.times
        assert times is not None
        times[0] -= round(took_s * 1e9)
        times += [times[0] + MS, times[0] + 3 * MS]
        prediction.value = b"1"
        prediction.on_result()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("slow: /predict took 2.0")
    assert "queue 1.0 ms, predict 2.0 ms, encode" in line
