"""What the server counts of itself: plain integers, raised where things happen, text only when they are scraped.

Knows nothing of requests or models. Raised by `http11` and `endpoints`; written out by `endpoints/server_metrics.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

# A duration of 2**63 ns is three hundred years.
BUCKETS: Final = 64

NANO: Final = 1e-9


class Histogram:
    """Durations, counted by the power of two of nanoseconds that is next above them.

    counts[n]: how many took less than 2**n ns and no less than half of that. total_ns: their sum.
    """

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total_ns = 0

    def note(self, duration_ns: int) -> None:
        self.counts[duration_ns.bit_length()] += 1
        self.total_ns += duration_ns

    @property
    def count(self) -> int:
        return sum(self.counts)


class EndpointMetrics:
    """The answers of one endpoint.

    plain: a 200 with JSON in one piece, what nearly every answer is. others: by status code.
    """

    __slots__ = ("others", "plain")

    def __init__(self) -> None:
        self.plain = 0
        self.others: Counter[int] = Counter()


# Of routes that nobody scrapes.
UNCOUNTED: Final = EndpointMetrics()


class MethodMetrics(EndpointMetrics):
    """And how long the requests to one method of the model took.

    request: from the complete request to its answer's last byte, or to the end of what is done for it. queue: what of
    this the predict was waited for. predict: in the predict. overhead: all but the predict.
    """

    __slots__ = ("overhead", "predict", "queue", "request")

    def __init__(self) -> None:
        super().__init__()
        self.request = Histogram()
        self.queue = Histogram()
        self.predict = Histogram()
        self.overhead = Histogram()

    def note(self, times: list[int], predict: int, over: int) -> int:
        """One request is over. times: its `Job.times`; predict: where in them the predict began; over: now.

        Returns how long it took, in ns.
        `Histogram.note`, written out four times: 0.3 us of a request's 20.
        """
        took = over - times[0]
        histogram = self.request
        histogram.counts[took.bit_length()] += 1
        histogram.total_ns += took
        if len(times) <= predict + 1:  # it failed, or nobody waited any more, before the end of the predict
            return took
        began = times[predict]
        waited = began - times[predict - 1]
        histogram = self.queue
        histogram.counts[waited.bit_length()] += 1
        histogram.total_ns += waited
        ran = times[predict + 1] - began
        histogram = self.predict
        histogram.counts[ran.bit_length()] += 1
        histogram.total_ns += ran
        beyond = took - ran
        histogram = self.overhead
        histogram.counts[beyond.bit_length()] += 1
        histogram.total_ns += beyond
        return took


class Metrics:
    """All that one server counts.

    endpoints: by name; methods: those of them that are methods of the model.
    rejected: requests, and connections, turned away, by reason; who does so by an option enters its reason at start.
    cancelled: requests whose client left, by what was being done. expired: whose deadline passed, likewise.
    aborted_streams: cut before their end.
    paused: how often no further connections were accepted, by what there was not enough of.
    failed_handshakes: of TLS, by reason; empty without TLS.
    """

    __slots__ = (
        "aborted_streams",
        "cancelled",
        "endpoints",
        "expired",
        "failed_handshakes",
        "methods",
        "paused",
        "rejected",
    )

    def __init__(self) -> None:
        self.endpoints: dict[str, EndpointMetrics] = {}
        self.methods: dict[str, MethodMetrics] = {}
        self.rejected: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.expired: Counter[str] = Counter()
        self.aborted_streams = 0
        self.paused: Counter[str] = Counter()
        self.failed_handshakes: Counter[str] = Counter()

    def endpoint(self, name: str) -> EndpointMetrics:
        return self.endpoints.setdefault(name, EndpointMetrics())

    def method(self, name: str) -> MethodMetrics:
        self.endpoints[name] = made = self.methods[name] = MethodMetrics()
        return made
