"""The server's own metrics as text: Prometheus's format 0.0.4, or OpenMetrics 1.0 for whoever asks for it.

Reads what is counted elsewhere; every series is there from the start, so that `rate()` sees the first rise. Called by
`metrics.py` for each scrape.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fastserve.metrics import NANO, Histogram, MethodMetrics, Metrics

# 2**15 ns are 33 us, 2**36 ns are 69 s: what is quicker is all one, what is slower is too slow whatever it is.
FIRST_BUCKET: Final = 15
LAST_BUCKET: Final = 36
# What `rejected` and `cancelled` count, told as 0 before the first.
REJECTED: Final = ("queue_full", "queue_bytes", "not_ready")
CANCELLED: Final = ("queue", "preprocess", "predict", "postprocess", "stream", "response")
EXPIRED: Final = ("queue", "preprocess", "predict", "postprocess", "stream")

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One line. suffix: behind the family's name, such as `_total`."""

    suffix: str
    labels: Labels
    value: float


class Family(NamedTuple):
    """One metric. kind: counter, gauge or histogram. name: without the `_total` of a counter."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


def text_of(families: Iterable[Family], *, is_openmetrics: bool) -> bytes:
    """`families` as lines. In 0.0.4 a counter is declared with its `_total`, in OpenMetrics without."""
    lines: list[str] = []
    for family in families:
        name = family.name + ("_total" if family.kind == "counter" and not is_openmetrics else "")
        lines.append(f"# HELP {name} {family.help}")
        lines.append(f"# TYPE {name} {family.kind}")
        lines += [
            f"{family.name}{sample.suffix}{_labels(sample.labels)} {_number(sample.value)}"
            for sample in family.samples
        ]
    return "".join(line + "\n" for line in lines).encode()


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(round(value, 9))


def counter(name: str, help: str, values: Iterable[tuple[Labels, float]]) -> Family:
    return Family(name, "counter", help, [Sample("_total", labels, value) for labels, value in values])


def gauge(name: str, help: str, value: float) -> Family:
    return Family(name, "gauge", help, [Sample("", (), value)])


def histogram(name: str, help: str, counted: Iterable[tuple[Labels, Histogram]]) -> Family:
    return Family(name, "histogram", help, [sample for labels, one in counted for sample in _buckets(labels, one)])


def _buckets(labels: Labels, one: Histogram) -> Iterator[Sample]:
    counts = tuple(one.counts)  # the loop goes on counting
    below = sum(counts[: FIRST_BUCKET + 1])
    for power in range(FIRST_BUCKET, LAST_BUCKET + 1):
        if power > FIRST_BUCKET:
            below += counts[power]
        yield Sample("_bucket", (*labels, ("le", _number((1 << power) * NANO))), below)
    total = sum(counts)
    yield Sample("_bucket", (*labels, ("le", "+Inf")), total)
    yield Sample("_sum", labels, one.total_ns * NANO)
    yield Sample("_count", labels, total)


def of_server(metrics: Metrics) -> Iterator[Family]:
    """What was asked and answered, and how long it took."""
    yield counter("fastserve_requests", "Responses by endpoint and status code.", _answered(metrics))
    for name, help in (
        ("request", "From the complete request to its answer, or to the end of its stream."),
        ("queue", "How long a request waited for its predict."),
        ("predict", "How long the predict took."),
    ):
        yield histogram(f"fastserve_{name}_duration_seconds", help, _durations(metrics, name))
    yield histogram(
        "fastserve_overhead_seconds", "All of a request but its predict.", _durations(metrics, "overhead")
    )
    yield counter(
        "fastserve_rejected",
        "Requests turned away before anything was done.",
        _by("reason", metrics.rejected, REJECTED),
    )
    yield counter(
        "fastserve_cancelled", "Requests whose client left, by stage.", _by("stage", metrics.cancelled, CANCELLED)
    )
    yield counter(
        "fastserve_expired", "Requests whose deadline passed, by stage.", _by("stage", metrics.expired, EXPIRED)
    )
    yield counter("fastserve_stream_aborted", "Streams cut before their end.", [((), metrics.aborted_streams)])


def _answered(metrics: Metrics) -> Iterator[tuple[Labels, float]]:
    for name, endpoint in list(metrics.endpoints.items()):
        codes = {200: 0} | dict(endpoint.others)
        codes[200] += endpoint.plain
        for code in sorted(codes):
            yield (("endpoint", name), ("code", str(code))), codes[code]


def _durations(metrics: Metrics, name: str) -> Iterator[tuple[Labels, Histogram]]:
    for endpoint, counted in metrics.methods.items():
        yield (("endpoint", endpoint),), _histogram(counted, name)


def _histogram(counted: MethodMetrics, name: str) -> Histogram:
    histogram: Histogram = getattr(counted, name)
    return histogram


def _by(label: str, counted: dict[str, int], known: Sequence[str]) -> Iterator[tuple[Labels, float]]:
    for word in (*known, *sorted(counted.keys() - set(known))):
        yield ((label, word),), counted.get(word, 0)


def of_process() -> Iterator[Family]:
    """What prometheus_client tells of a process, by the same names, from /proc."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()  # from the third on: proc_pid_stat(5)
    ticks = os.sysconf("SC_CLK_TCK")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield counter("process_cpu_seconds", "User and system time.", [((), used.ru_utime + used.ru_stime)])
    yield gauge("process_start_time_seconds", "Since 1970.", booted + int(fields[19]) / ticks)
    yield gauge("process_virtual_memory_bytes", "Address space.", int(fields[20]))
    yield gauge("process_resident_memory_bytes", "Memory in use.", int(fields[21]) * resource.getpagesize())
    yield gauge("process_threads", "Threads, of the model too.", int(fields[17]))
    yield gauge("process_open_fds", "Open file descriptors.", sum(1 for _ in Path("/proc/self/fd").iterdir()))
    yield gauge("process_max_fds", "The limit of those.", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
