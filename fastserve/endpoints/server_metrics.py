"""What the server tells of itself: requests, answers, connections, the process.

Reads what is counted elsewhere; every series is there from the start, so that `rate()` sees the first rise. Called by
`metrics.py` for each scrape.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from fastserve.endpoints.metrics_text import Family, Labels, counter, gauge, histogram, total
from fastserve.metrics import Metrics

# What `rejected`, `cancelled` and `expired` count, told as 0 before the first. What is turned away by an option
# (keys, a limit for each client) is there with the option.
REJECTED: Final = ("queue_full", "queue_bytes", "not_ready")
CANCELLED: Final = ("queue", "preprocess", "predict", "postprocess", "stream", "response")
EXPIRED: Final = ("queue", "preprocess", "predict", "postprocess", "stream")
# Why no further connections are accepted for a while.
PAUSED: Final = ("max_connections", "descriptors")


def of_server(metrics: Metrics) -> Iterator[Family]:
    """What was asked and answered, and how long it took."""
    yield counter("fastserve_requests", "Responses by endpoint and status code.", _answered(metrics))
    durations = {endpoint: counted.histograms() for endpoint, counted in metrics.methods.items()}
    for name, part, help in (
        ("request_duration", "request", "From the complete request to its answer, or to the end of its stream."),
        ("queue_duration", "queue", "How long a request waited for its predict."),
        ("predict_duration", "predict", "How long the predict took."),
        ("overhead", "overhead", "All of a request but its predict."),
    ):
        each = (((("endpoint", endpoint),), histograms[part]) for endpoint, histograms in durations.items())
        yield histogram(f"fastserve_{name}_seconds", help, each)
    yield counter(
        "fastserve_rejected",
        "Requests, and connections, turned away before anything was done.",
        _by("reason", metrics.rejected, REJECTED),
    )
    yield counter(
        "fastserve_cancelled", "Requests whose client left, by stage.", _by("stage", metrics.cancelled, CANCELLED)
    )
    yield counter(
        "fastserve_expired", "Requests whose deadline passed, by stage.", _by("stage", metrics.expired, EXPIRED)
    )
    yield total("fastserve_stream_aborted", "Streams cut before their end.", metrics.aborted_streams)
    yield counter(
        "fastserve_accept_paused",
        "How often further connections had to wait, by what there was not enough of.",
        _by("reason", metrics.paused, PAUSED),
    )
    if metrics.failed_handshakes:
        yield counter(
            "fastserve_tls_handshake_failures",
            "Connections that never came as far as a request, by reason.",
            _by("reason", metrics.failed_handshakes),
        )


def _answered(metrics: Metrics) -> Iterator[tuple[Labels, float]]:
    for name, endpoint in list(metrics.endpoints.items()):
        codes = {200: 0} | dict(endpoint.others)
        codes[200] += endpoint.plain
        for code in sorted(codes):
            yield (("endpoint", name), ("code", str(code))), codes[code]


def _by(label: str, counted: Mapping[str, int], known: Sequence[str] = ()) -> Iterator[tuple[Labels, float]]:
    for word in (*known, *sorted(counted.keys() - set(known))):
        yield ((label, word),), counted.get(word, 0)


def of_process() -> Iterator[Family]:
    """What prometheus_client tells of a process, by the same names, from /proc."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()  # from the third on: proc_pid_stat(5)
    ticks = os.sysconf("SC_CLK_TCK")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield total("process_cpu_seconds", "User and system time.", used.ru_utime + used.ru_stime)
    yield gauge("process_start_time_seconds", "Since 1970.", booted + int(fields[19]) / ticks)
    yield gauge("process_virtual_memory_bytes", "Address space.", int(fields[20]))
    yield gauge("process_resident_memory_bytes", "Memory in use.", int(fields[21]) * resource.getpagesize())
    yield gauge("process_threads", "Threads, of the model too.", int(fields[17]))
    yield gauge("process_open_fds", "Open file descriptors.", sum(1 for _ in Path("/proc/self/fd").iterdir()))
    yield gauge("process_max_fds", "The limit of those.", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
