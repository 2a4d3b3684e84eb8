"""`Server-Timing`: where the time of a request went, told in its answer (W3C Server Timing, section 2).

For requests that ask with `X-Server-Timing`, or all by option. It stands between prediction and connection, so that
others pay nothing. Made by `predict.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from time import monotonic_ns
from typing import Final

from fastserve.endpoints.prediction import Prediction
from fastserve.endpoints.relaying import RelayingResponder
from fastserve.messages import Head, Response

FIELD: Final = b"x-server-timing"


def wants_timing(head: Head) -> bool:
    """Whether the client asks for it."""
    return FIELD in head.fields


def tell_timing(steps: Sequence[str], prediction: Prediction) -> None:
    """Have the answer of `prediction` tell where its time went. steps: the names of its methods, in order."""
    request, times = prediction.request, prediction.times  # not held itself: it holds the request
    assert times is not None

    def fields_for(response: Response) -> bytes:
        return encode_timing(steps, times, monotonic_ns())

    request.connection = RelayingResponder(request.connection, fields_for)


def durations(steps: Sequence[str], times: Sequence[int], now: int) -> Iterator[tuple[str, int]]:
    """(name, ns) of each step, of all waiting before them as `queue`, of the rest as `encode`. times: a Job's."""
    spans = [end - begin for begin, end in pairwise([*times, now])]
    waits, runs = spans[::2], spans[1::2]
    rest = waits.pop() if len(times) > 2 * len(steps) else None
    yield "queue", sum(waits)
    yield from zip(steps, runs, strict=False)
    if rest is not None:
        yield "encode", rest


def encode_timing(steps: Sequence[str], times: Sequence[int], now: int) -> bytes:
    """The field, as a complete line. Durations are in milliseconds."""
    metrics = ", ".join(f"{name};dur={took / 1e6:.3f}" for name, took in durations(steps, times, now))
    return b"Server-Timing: %b\r\n" % metrics.encode()
