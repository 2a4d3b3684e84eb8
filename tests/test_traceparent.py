"""Which `traceparent` names a trace, after www.w3.org/TR/trace-context section 3.2."""

from __future__ import annotations

import pytest

from fastserve.traceparent import trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7-ff",
        f"01-{TRACE}-00f067aa0ba902b7-01",
        f"cc-{TRACE}-00f067aa0ba902b7-01-what-comes-later",
        f"cc-{TRACE}-00f067aa0ba902b7-01-",
    ],
)
def test_a_good_one_has_its_trace_id(value: str) -> None:
    assert trace_id_of({b"traceparent": value.encode()}) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-00f067aa0ba902b7",
        f"00-{TRACE}-00f067aa0ba902b7-01-more",
        f"00-{TRACE}-00f067aa0ba902b7-01-",
        f"00-{TRACE}-00f067aa0ba902b7-012",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-00f067aa0ba902b7-01",
        f"cc-{TRACE}-00f067aa0ba902b7-01.more",
        f"00-{TRACE}-00f067aa0ba902b7-01, 00-{TRACE}-00f067aa0ba902b7-01",  # sent twice
    ],
)
def test_any_other_is_ignored(value: str) -> None:
    assert trace_id_of({b"traceparent": value.encode()}) is None


def test_without_one_there_is_no_trace() -> None:
    assert trace_id_of({b"tracestate": b"a=b"}) is None
