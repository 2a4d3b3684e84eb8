"""What the metrics page has of the model: always there, or with what was asked for."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastserve.endpoints.metrics_text import Family, Sample
from fastserve.endpoints.model_metrics import of_gpus, of_model
from fastserve.gpus import Gpu
from fastserve.model.runtime import Runtime
from fastserve.model.tally import Tally


def families(tally: Tally | None = None, watchdog: Any = None) -> dict[str, Family]:
    condition = SimpleNamespace(shortage=SimpleNamespace(total=5), watchdog=watchdog)
    runtime = SimpleNamespace(in_flight=3, queued=2, slots=1, condition=condition, tally=lambda: tally or Tally(7))
    return {family.name: family for family in of_model(cast(Runtime, runtime))}


def values(found: dict[str, Family]) -> dict[str, float]:
    return {name: family.samples[0].value for name, family in found.items()}


def test_some_are_there_whatever_the_model_is() -> None:
    assert values(families()) == {
        "fastserve_inflight_requests": 3,
        "fastserve_queue_depth": 2,
        "fastserve_predict_slots": 1,
        "fastserve_out_of_memory": 5,
        "fastserve_worker_threads_revived": 7,
    }


@pytest.mark.parametrize("sizes", [Counter[int](), Counter({2: 3})])
def test_batches_are_there_with_the_model_that_asks_for_them(sizes: Counter[int]) -> None:
    found = families(Tally(0, sizes, 4))
    assert found["fastserve_batch_size"].samples[-1] == Sample("_count", (), sizes[2])
    assert values(found)["fastserve_batch_retried"] == 4


def test_what_the_watchdog_sees_is_there_with_the_watchdog() -> None:
    found = values(families(watchdog=SimpleNamespace(stuck_total=1, oldest_s=2.5)))
    assert found["fastserve_predict_stuck"] == 1
    assert found["fastserve_predict_oldest_age_seconds"] == 2.5


def test_a_gpu_tells_what_it_knows() -> None:
    found = {family.name: family.samples for family in of_gpus([Gpu(0, "A", 1, 2, None), Gpu(3, "B", None, 5, None)])}
    a, b = (("gpu", "0"), ("name", "A")), (("gpu", "3"), ("name", "B"))
    assert found == {
        "fastserve_gpu_memory_used_bytes": [Sample("", a, 1)],
        "fastserve_gpu_memory_total_bytes": [Sample("", a, 2), Sample("", b, 5)],
    }
    assert list(of_gpus([])) == []
