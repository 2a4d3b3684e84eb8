"""What is counted of requests' durations: by powers of two, all four of a request in one entry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastserve.metrics import Histogram, MethodMetrics

DURATIONS = st.integers(0, 10**11)


def test_a_duration_is_counted_below_the_power_of_two_above_it() -> None:
    histogram = Histogram()
    for duration_ns in (0, 1, 2, 3, 4, 1000):
        histogram.note(duration_ns)
    assert {power: count for power, count in enumerate(histogram.counts) if count} == {0: 1, 1: 1, 2: 2, 3: 1, 10: 1}
    assert histogram.total_ns == 1010


@given(st.lists(st.tuples(DURATIONS, DURATIONS, DURATIONS, DURATIONS, DURATIONS), max_size=20))
def test_each_histogram_is_as_if_it_had_been_counted_by_itself(
    requests: list[tuple[int, int, int, int, int]],
) -> None:
    metrics = MethodMetrics()
    expected = {name: Histogram() for name in ("request", "queue", "predict", "overhead")}
    for before, waited, ran, after, arrived in requests:
        times = [
            arrived,
            arrived,
            arrived + before,
            arrived + before + waited,
        ]  # a step in front, which took no queue
        times.append(times[-1] + ran)
        took = metrics.note(times, 3, times[-1] + after)
        assert took == before + waited + ran + after
        for name, duration_ns in (("request", took), ("queue", waited), ("predict", ran), ("overhead", took - ran)):
            expected[name].note(duration_ns)
    made = metrics.histograms()
    for name, histogram in expected.items():
        assert (made[name].counts, made[name].total_ns) == (histogram.counts, histogram.total_ns)
    assert metrics.predicts == (len(requests), expected["predict"].total_ns)


def test_a_request_that_never_came_to_the_end_of_its_predict_is_one_all_the_same() -> None:
    metrics = MethodMetrics()
    assert metrics.note([100], 1, 108) == 8
    assert metrics.note([100, 101], 1, 104) == 4
    made = metrics.histograms()
    assert (sum(made["request"].counts), made["request"].total_ns) == (2, 12)
    assert not any(sum(made[name].counts) for name in ("queue", "predict", "overhead"))
    assert metrics.predicts == (0, 0)
