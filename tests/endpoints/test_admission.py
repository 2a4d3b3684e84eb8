"""How many may wait, how much they may hold, and when who is turned away is to try again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import Config
from fastserve.endpoints.admission import LEAST_RETRY_S, MOST_RETRY_S, Admission
from fastserve.model.in_flight import Load

SECOND = 1_000_000_000


def loaded(jobs: int = 0, size: int = 0) -> Load:
    counted = Load()
    counted.jobs, counted.size = jobs, size
    return counted


def predicts(*seconds: float) -> tuple[int, int]:
    return len(seconds), sum(round(took * SECOND) for took in seconds)


def test_slots_are_no_part_of_the_queue() -> None:
    assert Admission(Config(predict_concurrency=4, max_queue=10)).most == 14


def test_those_at_work_are_no_part_of_it_either() -> None:
    admission = Admission(Config(predict_concurrency=2, max_queue=10))
    admission.fit(16)
    assert admission.most == 26


@pytest.mark.parametrize(
    ("held", "more", "has_room"), [(0, 101, True), (1, 99, True), (1, 100, False), (100, 1, False)]
)
def test_content_is_bounded_but_one_request_is_let_in_alone(held: int, more: int, has_room: bool) -> None:
    assert Admission(Config(max_queue_bytes=100)).has_room_for(more, loaded(size=held)) is has_room


def test_who_is_turned_away_is_told_when_all_before_it_are_done() -> None:
    admission = Admission(Config(predict_concurrency=2))
    assert admission.retry_after_s(loaded(jobs=10), predicts(1.0, 3.0)) == 10


def test_what_predicts_took_of_late_counts() -> None:
    admission = Admission(Config())
    assert admission.retry_after_s(loaded(jobs=3), predicts(100.0)) == 300
    assert admission.retry_after_s(loaded(jobs=3), predicts(100.0, 2.0)) == 6
    assert admission.retry_after_s(loaded(jobs=4), predicts(100.0, 2.0)) == 8  # none has ended since


def test_as_many_as_are_at_work_are_over_at_once() -> None:
    admission = Admission(Config())
    admission.fit(32)
    assert admission.retry_after_s(loaded(jobs=64), predicts(3.0)) == 6


def test_without_any_predict_a_second_is_told() -> None:
    assert Admission(Config()).retry_after_s(loaded(jobs=1000), predicts()) == LEAST_RETRY_S


@given(st.integers(0, 10**6), st.lists(st.floats(0, 10**5), max_size=5))
def test_it_is_always_a_time_that_one_can_wait(jobs: int, seconds: list[float]) -> None:
    assert LEAST_RETRY_S <= Admission(Config()).retry_after_s(loaded(jobs), predicts(*seconds)) <= MOST_RETRY_S
