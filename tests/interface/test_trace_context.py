"""What a model passes on of the request that it answers."""

from __future__ import annotations

import pytest

import fastserve
from fastserve.logs import REQUEST_IDS

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({}, {}),
        ({b"traceparent": PARENT}, {"traceparent": PARENT.decode()}),
        (
            {b"traceparent": PARENT, b"tracestate": b"a=1,b=2", b"host": b"x"},
            {"traceparent": PARENT.decode(), "tracestate": "a=1,b=2"},
        ),
        ({b"traceparent": b"nonsense", b"tracestate": b"a=1"}, {}),
        ({b"tracestate": b"a=1"}, {}),
    ],
)
def test_it_is_what_the_request_has_if_that_holds(fields: dict[bytes, bytes], known: dict[str, str]) -> None:
    REQUEST_IDS.set((None, None, 1, fields))
    assert fastserve.trace_context() == known


def test_without_a_request_there_is_none() -> None:
    assert fastserve.trace_context() == {}
