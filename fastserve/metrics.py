"""What the server counts of itself: plain integers, raised where things happen, text only when they are scraped.

Knows nothing of requests or models. Raised by `http11` and `endpoints`; written out by `endpoints/server_metrics.py`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Final

# A duration of 2**63 ns is three hundred years.
BUCKETS: Final = 64

NANO: Final = 1e-9

# In half a second so many requests to a method are timed at least, if there are as many: enough to tell a p99.9, and
# their cost is not to be seen.
MOST_TIMED: Final = 500
# With each so many more of them half as many of the others are timed, until the next tick tells how many there are: a
# flood is seen in a few milliseconds.
FLOOD: Final = 50


class Histogram:
    """Durations, counted by the power of two of nanoseconds that is next above them.

    counts[n]: how many took less than 2**n ns and no less than half of that. total_ns: their sum.
    """

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total_ns = 0

    def note(self, duration_ns: int, times: int = 1) -> None:
        self.counts[duration_ns.bit_length()] += times
        self.total_ns += duration_ns * times


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
    To measure and count all four takes a fifth of what a trivial predict costs. So of many requests one in several is
    timed, and stands for those that came since the one before.
    untimed: one less for each request: the one that makes it 0 is timed.
    """

    __slots__ = (
        "_counted",
        "_cut_short",
        "_each",
        "_most_timed",
        "_predict_ns",
        "_predicts",
        "_queue_ns",
        "_request_ns",
        "_seen",
        "_seen_by_tick",
        "_stands_for",
        "_timed",
        "untimed",
    )

    def __init__(self) -> None:
        super().__init__()
        # By the powers of two (see Histogram) of all four durations of a request.
        self._counted: defaultdict[tuple[int, int, int, int], int] = defaultdict(int)
        self._request_ns = self._queue_ns = self._predict_ns = 0
        self._predicts = 0  # how many times are counted
        self._cut_short = Histogram()  # requests that never came to the end of their predict
        self._most_timed: float = MOST_TIMED
        self._each = 1  # of so many one is timed
        self._timed = 0  # since the tick
        self.untimed = self._stands_for = 1
        self._seen = self._seen_by_tick = 0  # without those since the one that was timed last

    def begin(self) -> int:
        """The one that has made `untimed` 0 is timed. Returns how many it stands for, itself included."""
        stands_for = self._stands_for
        self._seen += stands_for
        self._timed += 1
        if self._timed >= self._most_timed and not self._timed % FLOOD:
            self._each *= 2
        self.untimed = self._stands_for = self._each
        return stands_for

    def time_next(self) -> None:
        """The next one is timed in any case."""
        self._stands_for -= self.untimed - 1
        self.untimed = 1

    def time_all(self) -> None:
        """From now on each one is timed, however many there are."""
        self._most_timed = math.inf

    def tick(self) -> None:
        """Learn how many there are: now and then, of the server's."""
        self.time_next()  # after a flood nobody waits for the last of its requests to be counted
        came = self._seen + self._stands_for - 1 - self._seen_by_tick
        self._seen_by_tick += came
        self._timed = 0
        self._each = max(1, int(came / self._most_timed))

    def note(self, times: list[int], predict: int, over: int, stands_for: int = 1) -> int:
        """One request is over. times: its `Job.times`; predict: where in them the predict began; over: now.

        Returns how long it took, in ns.
        """
        took = over - times[0]
        if len(times) <= predict + 1:
            self._cut_short.note(took, stands_for)
            return took
        began = times[predict]
        waited = began - times[predict - 1]
        ran = times[predict + 1] - began
        self._request_ns += took * stands_for
        self._queue_ns += waited * stands_for
        self._predict_ns += ran * stands_for
        self._predicts += stands_for
        powers = took.bit_length(), waited.bit_length(), ran.bit_length(), (took - ran).bit_length()
        self._counted[powers] += stands_for
        return took

    @property
    def predicts(self) -> tuple[int, int]:
        """How many predicts there were, and how long they took together, in ns."""
        return self._predicts, self._predict_ns

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

    def tick(self) -> None:
        """Every half second."""
        for counted in self.methods.values():
            counted.tick()

    def method(self, name: str) -> MethodMetrics:
        self.endpoints[name] = made = self.methods[name] = MethodMetrics()
        return made
