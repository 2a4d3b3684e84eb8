"""What the server tells of the model: what runs and waits, batches, memory, threads, GPUs.

Reads what is counted in `model/`; series of what was not asked for, such as batches, are not there. Called by
`metrics.py` for each scrape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fastserve.endpoints.metrics_text import Family, Sample, gauge, size_histogram, total
from fastserve.gpus import Gpu
from fastserve.model.runtime import Runtime
from fastserve.model.watchdog import Watchdog

# Name behind `fastserve_gpu_`, help, field of Gpu.
_OF_GPU: Final = (
    ("memory_used_bytes", "The GPU's memory in use, by whichever process.", "memory_used_bytes"),
    ("memory_total_bytes", "The GPU's memory.", "memory_total_bytes"),
    ("utilization_ratio", "Part of the last second or so in which some kernel ran.", "utilization"),
)


def of_model(runtime: Runtime) -> Iterator[Family]:
    """All but GPUs, which take asking."""
    yield gauge("fastserve_inflight_requests", "Requests at work or waiting.", runtime.in_flight)
    yield gauge("fastserve_queue_depth", "Requests that wait for a predict slot, or for a thread.", runtime.queued)
    yield gauge("fastserve_predict_slots", "How many predicts may run at once.", runtime.slots)
    tally, condition = runtime.tally(), runtime.condition
    yield total(
        "fastserve_out_of_memory", "How often the model ran out of a device's memory.", condition.shortage.total
    )
    yield total(
        "fastserve_worker_threads_revived",
        "How often a thread of the model's went on, or was replaced, after an exception had struck it from outside.",
        tally.revived,
    )
    if tally.batch_sizes is not None:
        yield size_histogram("fastserve_batch_size", "Inputs that predict was given at once.", tally.batch_sizes)
        yield total(
            "fastserve_batch_retried", "Batches that failed and were tried anew in parts.", tally.batches_retried
        )
    if condition.watchdog is not None:
        yield from _of_watchdog(condition.watchdog)


def _of_watchdog(watchdog: Watchdog) -> Iterator[Family]:
    yield total("fastserve_predict_stuck", "Predicts that the watchdog has taken to be stuck.", watchdog.stuck_total)
    yield gauge(
        "fastserve_predict_oldest_age_seconds",
        "How long the oldest predict had run, or its stream made no headway, at the latest look; 0 if none runs.",
        watchdog.oldest_s,
    )


def of_gpus(gpus: Sequence[Gpu]) -> Iterator[Family]:
    """What each of them tells."""
    for name, help, field in _OF_GPU:
        samples = [
            Sample("", (("gpu", str(gpu.number)), ("name", gpu.name)), value)
            for gpu in gpus
            if (value := getattr(gpu, field)) is not None
        ]
        if samples:
            yield Family(f"fastserve_gpu_{name}", "gauge", help, samples)
