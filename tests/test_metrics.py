"""What is counted of requests' durations, and of which requests: by powers of two, all four in one entry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastserve.metrics import MOST_TIMED, Histogram, MethodMetrics

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


# --- of many requests, which are timed ---


def ask(metrics: MethodMetrics, count: int) -> list[int]:
    """So many requests come. Returns for how many those stand that are timed."""
    timed = []
    for _ in range(count):
        metrics.untimed -= 1
        if not metrics.untimed:
            timed.append(metrics.begin())
    return timed


def test_while_there_are_few_each_is_timed() -> None:
    metrics = MethodMetrics()
    for _ in range(3):
        assert ask(metrics, MOST_TIMED) == [1] * MOST_TIMED
        metrics.tick()


def test_a_flood_is_seen_before_the_next_tick() -> None:
    metrics = MethodMetrics()
    timed = ask(metrics, 100 * MOST_TIMED)
    assert timed[:MOST_TIMED] == [1] * MOST_TIMED
    assert len(timed) < 2 * MOST_TIMED
    assert timed == sorted(timed)


def test_of_many_one_in_several_is_timed_and_each_is_counted_once() -> None:
    metrics = MethodMetrics()
    before = ask(metrics, 10 * MOST_TIMED)
    metrics.tick()
    timed = ask(metrics, 10 * MOST_TIMED)
    assert timed[1:3] == [10, 10]
    assert MOST_TIMED - 50 < len(timed) <= MOST_TIMED
    metrics.tick()
    last = ask(metrics, 1)  # after the tick the next one is timed, and takes in those that were left
    assert len(last) == 1
    assert sum(before) + sum(timed) + sum(last) == 20 * MOST_TIMED + 1


def test_after_a_flood_each_is_timed_again() -> None:
    metrics = MethodMetrics()
    ask(metrics, 100 * MOST_TIMED)
    for _ in range(2):
        metrics.tick()
    first, *others = ask(metrics, 3)
    assert first >= 1  # and takes in the flood's last ones
    assert others == [1, 1]


def test_one_that_is_to_be_timed_takes_in_those_before() -> None:
    metrics = MethodMetrics()
    ask(metrics, 10 * MOST_TIMED)
    metrics.tick()
    assert len(ask(metrics, 5)) == 1  # the first
    metrics.time_next()
    assert ask(metrics, 1) == [5]


def test_if_all_are_to_be_timed_all_are() -> None:
    metrics = MethodMetrics()
    metrics.time_all()
    for _ in range(3):
        assert ask(metrics, 10 * MOST_TIMED) == [1] * (10 * MOST_TIMED)
        metrics.tick()


@given(st.lists(st.one_of(st.integers(0, 5000), st.sampled_from(["tick", "next"])), max_size=20))
def test_whatever_comes_each_request_is_counted_once(events: list[int | str]) -> None:
    metrics, came, counted = MethodMetrics(), 0, 0
    for event in events:
        if event == "tick":
            metrics.tick()
        elif event == "next":
            metrics.time_next()
        else:
            assert isinstance(event, int)
            came += event
            counted += sum(ask(metrics, event))
        assert counted == came - (metrics._stands_for - metrics.untimed)
    metrics.time_next()
    assert counted + sum(ask(metrics, 1)) == came + 1


def test_one_that_stands_for_several_counts_as_so_many() -> None:
    metrics = MethodMetrics()
    metrics.note([0, 1000, 3000], 1, 3500, stands_for=4)
    metrics.note([0], 1, 16, stands_for=2)
    made = metrics.histograms()
    assert sum(made["request"].counts) == 6
    assert made["request"].total_ns == 4 * 3500 + 2 * 16
    assert (sum(made["predict"].counts), made["predict"].total_ns) == (4, 8000)
    assert metrics.predicts == (4, 8000)
