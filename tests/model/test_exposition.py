"""The default registry of prometheus_client as a model left it, without what the library itself put there."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import prometheus_client
import pytest
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, REGISTRY, Counter
from prometheus_client.parser import text_string_to_metric_families

from fastserve.model.exposition import PLAIN_TEXT, ModelMetrics

DEFAULTS = (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR)


@pytest.fixture(autouse=True)
def counter() -> Iterator[Counter]:
    """A model's counter in a registry that is otherwise as it comes; so it is afterwards."""
    _put_back()
    counter = Counter("my_count", "x")
    yield counter
    REGISTRY.unregister(counter)
    _put_back()


def _put_back() -> None:
    for collector in DEFAULTS:
        if collector not in REGISTRY._collector_to_names:
            REGISTRY.register(collector)
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]


def names(page: tuple[bytes, str]) -> list[str]:
    return [family.name for family in text_string_to_metric_families(page[0].decode())]


def test_only_the_model_s_own_are_shown(counter: Counter) -> None:
    counter.inc()
    page = ModelMetrics().expose()
    assert names(page) == ["my_count"]
    assert page[1].startswith("text/plain")
    assert b"my_count_total 1.0\n" in page[0]
    assert b"created" not in page[0]


@pytest.mark.parametrize("removed", DEFAULTS)
def test_what_a_model_has_removed_itself_is_no_trouble(removed: object) -> None:
    REGISTRY.unregister(removed)  # type: ignore[arg-type]
    assert names(ModelMetrics().expose()) == ["my_count"]


def test_a_library_without_one_of_them_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(prometheus_client, "GC_COLLECTOR")
    monkeypatch.delattr(prometheus_client, "disable_created_metrics")
    REGISTRY.unregister(GC_COLLECTOR)
    assert "my_count" in names(ModelMetrics().expose())


def test_what_a_model_adds_or_turns_on_later_stays() -> None:
    metrics = ModelMetrics()
    metrics.strip()
    REGISTRY.register(GC_COLLECTOR)
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]
    assert set(names(metrics.expose())) >= {"my_count", "my_count_created", "python_gc_collections"}


def test_only_named_series_are_shown_if_any_is_named() -> None:
    other = Counter("other", "x")
    try:
        assert names(ModelMetrics().expose(names=["other_total"])) == ["other"]
    finally:
        REGISTRY.unregister(other)


def test_open_metrics_is_shown_to_whoever_accepts_it() -> None:
    content, content_type = ModelMetrics().expose("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert content.endswith(b"# EOF\n")


def test_without_the_library_there_is_nothing_and_it_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "prometheus_client")
    metrics = ModelMetrics()
    metrics.strip()
    assert metrics.expose() == (b"", PLAIN_TEXT)
    assert "prometheus_client" not in sys.modules
