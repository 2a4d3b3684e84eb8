"""The text of the metrics page, read back by prometheus_client's parsers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from fastserve.endpoints.metrics_text import Family, Sample, counter, gauge, histogram, size_histogram, text_of
from fastserve.metrics import Histogram


@given(st.text(), st.booleans())
def test_a_label_may_have_any_value(value: str, is_openmetrics: bool) -> None:
    family = Family("a", "gauge", "Help.", [Sample("", (("b", "c"), ("name", value)), 1)])
    text = text_of([family], is_openmetrics=is_openmetrics).decode()
    parse = openmetrics.text_string_to_metric_families if is_openmetrics else text_string_to_metric_families
    (read,) = parse(text + ("# EOF\n" if is_openmetrics else ""))
    assert read.samples[0].labels == {"b": "c", "name": value}


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_both_formats_say_the_same(is_openmetrics: bool) -> None:
    durations = Histogram()
    for duration_ns in (1, 1 << 20, 1 << 40):
        durations.note(duration_ns)
    families = [
        counter("a", "Help.", [((), 1), ((("b", "c"),), 2)]),
        gauge("d", "Help.", 0.5),
        histogram("e", "Help.", [((), durations)]),
        size_histogram("f", "Help.", {1: 2, 3: 4, 5000: 1}),
    ]
    text = text_of(families, is_openmetrics=is_openmetrics).decode()
    parse = openmetrics.text_string_to_metric_families if is_openmetrics else text_string_to_metric_families
    read = list(parse(text + ("# EOF\n" if is_openmetrics else "")))
    assert [(family.name, family.type) for family in read] == [
        ("a", "counter"), ("d", "gauge"), ("e", "histogram"), ("f", "histogram")
    ]  # fmt: skip
    assert ("# TYPE a_total counter" in text) is not is_openmetrics
    assert [sample.value for sample in read[0].samples] == [1, 2]
    assert [sample.value for sample in read[2].samples if sample.name == "e_count"] == [3]


def test_sizes_are_counted_up_to_each_power_of_two() -> None:
    family = size_histogram("f", "Help.", {1: 2, 3: 4, 4: 1, 5000: 1})
    read = {
        sample.labels["le"]: sample.value
        for sample in next(
            iter(text_string_to_metric_families(text_of([family], is_openmetrics=False).decode()))
        ).samples
        if sample.name == "f_bucket"
    }
    assert {float(size): count for size, count in read.items()} == {
        1.0: 2,
        2.0: 2,
        4.0: 7,
        **{float(1 << power): 7 for power in range(3, 11)},
        math.inf: 8,
    }
    assert [sample.value for sample in family.samples[-2:]] == [2 + 12 + 4 + 5000, 8]
