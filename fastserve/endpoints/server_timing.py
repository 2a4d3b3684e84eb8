"""`Server-Timing`: where the time of a request went, told in its answer (W3C Server Timing, section 2).

For requests that ask with `X-Server-Timing`, or all by option. It stands between prediction and connection, so that
others pay nothing. Made by `predict.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from time import monotonic_ns
from typing import Any, Final

from fastserve.endpoints.prediction import Prediction
from fastserve.messages import JSON, Addresses, Head, Request, Responder, Response

FIELD: Final = b"x-server-timing"


def wants_timing(head: Head) -> bool:
    """Whether the client asks for it."""
    return FIELD in head.fields


def tell_timing(steps: Sequence[str], prediction: Prediction) -> None:
    """Have the answer of `prediction` tell where its time went. steps: the names of its methods, in order."""
    request = prediction.request
    request.connection = TimingResponder(request.connection, prediction, steps)


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


class TimingResponder:
    """messages.Responder: `connection`, with the field on what it sends."""

    __slots__ = ("_connection", "_prediction", "_steps")

    def __init__(self, connection: Responder, prediction: Prediction, steps: Sequence[str]) -> None:
        self._connection = connection
        self._prediction = prediction
        self._steps = steps

    def _timed(self, response: Response) -> Response:
        timing = encode_timing(self._steps, self._prediction.times, monotonic_ns())
        return Response(response.kind, response.content, response.fields + timing, response.pieces)

    def send_json(self, request: Request, content: bytes) -> None:
        self.send_response(request, Response((200, JSON), content))

    def send_response(self, request: Request, response: Response) -> None:
        self._connection.send_response(request, self._timed(response))

    def send_head(
        self, request: Request, response: Response, length: int | None = None, *, may_pause: bool = False
    ) -> None:
        self._connection.send_head(request, self._timed(response), length, may_pause=may_pause)

    def send_chunks(self, request: Request, chunks: Sequence[bytes]) -> None:
        self._connection.send_chunks(request, chunks)

    def send_end(self, request: Request) -> None:
        self._connection.send_end(request)

    def abort(self, request: Request) -> None:
        self._connection.abort(request)

    def addresses(self, request: Request) -> Addresses:
        return self._connection.addresses(request)

    def can_write(self, request: Request) -> bool:
        return self._connection.can_write(request)

    def is_unanswered(self, request: Request) -> bool:
        return self._connection.is_unanswered(request)

    def upgrade(self, request: Request, make_protocol: Callable[[Any], asyncio.Protocol]) -> None:
        self._connection.upgrade(request, make_protocol)
