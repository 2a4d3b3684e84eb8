"""Metrics of one version of a model after the other: same names, custom collectors, failures."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily

from fastserve.model.collectors import Collectors


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """The default registry, for this test alone."""
    made = CollectorRegistry(auto_describe=True)
    monkeypatch.setattr(prometheus_client, "REGISTRY", made)
    return made


def count(registry: CollectorRegistry, name: str, by: float = 1) -> Counter:
    counter = Counter(name, "help", registry=registry)
    counter.inc(by)
    return counter


def page(registry: CollectorRegistry) -> dict[str, float]:
    samples = [s for metric in registry.collect() for s in metric.samples]
    assert len({s.name for s in samples}) == len(samples)
    return {s.name: s.value for s in samples if not s.name.endswith("_created")}


def test_a_name_of_the_version_before_may_be_taken_again_but_not_twice(registry: CollectorRegistry) -> None:
    collectors = Collectors()
    collectors.begin([])
    count(registry, "a", 1)
    with pytest.raises(ValueError, match="Duplicated"):
        count(registry, "a")
    collectors.keep()
    collectors.begin([])
    count(registry, "a", 2)
    with pytest.raises(ValueError, match="Duplicated"):
        count(registry, "a")
    collectors.keep()
    count(registry, "b", 3)  # at its first request, say
    assert page(registry) == {"a_total": 2, "b_total": 3}


def test_if_the_new_version_fails_the_metrics_of_the_old_one_are_back(registry: CollectorRegistry) -> None:
    collectors = Collectors()
    old, other = count(registry, "a", 1), count(registry, "b", 5)
    for _ in range(2):
        collectors.begin([])
        count(registry, "a", 100)
        collectors.go_back()
        old.inc()
        other.inc()
    assert page(registry) == {"a_total": 3, "b_total": 7}
    collectors.begin([])
    count(registry, "a", 2)
    collectors.keep()
    assert page(registry) == {"a_total": 2, "b_total": 7}


class Silent:
    """A custom collector that does not say beforehand which names it has. value: of its gauge."""

    def __init__(self, value: float) -> None:
        self.value = value

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("silent", "help", self.value)


def test_a_collector_of_the_model_s_own_class_goes_with_its_version(registry: CollectorRegistry) -> None:
    collectors = Collectors()
    registry.register(Silent(1))
    collectors.begin({__name__})
    assert page(registry) == {}
    registry.register(Silent(2))
    collectors.go_back()
    assert 1 in [s.value for metric in registry.collect() for s in metric.samples]
    collectors.begin({__name__})
    registry.register(Silent(3))
    collectors.keep()
    assert page(registry) == {"silent": 3}


def test_nothing_is_held_of_a_version_that_is_gone(registry: CollectorRegistry) -> None:
    collectors = Collectors()
    make: list[Callable[[], Any]] = [lambda: count(registry, "a"), lambda: registry.register(Silent(1))]
    for one in make:
        one()
    held = [weakref.ref(collector) for collector in registry._collector_to_names]
    collectors.begin({__name__})
    count(registry, "a")
    collectors.keep()
    gc.collect()
    assert [ref() for ref in held] == [None, None]


@pytest.mark.parametrize("insides", [None, object()])
def test_without_the_library_or_with_another_build_of_it_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, insides: object
) -> None:
    monkeypatch.setattr(prometheus_client, "REGISTRY", insides)
    collectors = Collectors()
    collectors.begin([])
    collectors.go_back()
    collectors.begin([])
    collectors.keep()
