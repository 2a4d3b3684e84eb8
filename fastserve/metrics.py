"""What the server counts of itself: plain integers, raised where things happen, text only when they are scraped.

Knows nothing of requests or models. Raised by `http11` and `endpoints`; written out by `endpoints/server_metrics.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
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

    __slots__ = ("_counted", "_cut_short", "_predict_ns", "_queue_ns", "_request_ns")

    def __init__(self) -> None:
        super().__init__()
        # By the powers of two (see Histogram) of all four durations of a request: to add one number and look up one
        # entry is a third less work than to do so four times.
        self._counted: defaultdict[tuple[int, int, int, int], int] = defaultdict(int)
        self._request_ns = self._queue_ns = self._predict_ns = 0
        self._cut_short = Histogram()  # requests that never came to the end of their predict

    def note(self, times: list[int], predict: int, over: int) -> int:
        """One request is over. times: its `Job.times`; predict: where in them the predict began; over: now.

        Returns how long it took, in ns.
        """
        took = over - times[0]
        if len(times) <= predict + 1:
            self._cut_short.note(took)
            return took
        began = times[predict]
        waited = began - times[predict - 1]
        ran = times[predict + 1] - began
        self._request_ns += took
        self._queue_ns += waited
        self._predict_ns += ran
        self._counted[took.bit_length(), waited.bit_length(), ran.bit_length(), (took - ran).bit_length()] += 1
        return took

    @property
    def predicts(self) -> tuple[int, int]:
        """How many predicts there were, and how long they took together, in ns."""
        return sum(self._counted.values()), self._predict_ns

    def histograms(self) -> dict[str, Histogram]:
        """Each of the durations, by its name."""
        request, queue, predict, overhead = made = [Histogram() for _ in range(4)]
        for powers, count in self._counted.items():
            for histogram, power in zip(made, powers, strict=True):
                histogram.counts[power] += count
        for power, count in enumerate(self._cut_short.counts):
            request.counts[power] += count
        request.total_ns = self._request_ns + self._cut_short.total_ns
        queue.total_ns, predict.total_ns = self._queue_ns, self._predict_ns
        overhead.total_ns = self._request_ns - self._predict_ns
        return {"request": request, "queue": queue, "predict": predict, "overhead": overhead}


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
