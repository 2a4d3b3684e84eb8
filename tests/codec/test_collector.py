"""The garbage collector rests while a great many values are made, and is as it was before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from fastserve.codec.collector import MANY, resting_collector


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generation of each collection, as it begins."""
    seen: list[int] = []

    def on_collection(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            seen.append(about["generation"])

    gc.collect()
    gc.callbacks.append(on_collection)
    yield seen
    gc.callbacks.remove(on_collection)


def test_nothing_is_collected_while_values_are_made_and_little_afterwards(collections: list[int]) -> None:
    with resting_collector():
        made: list[list[int]] = [[] for _ in range(2 * MANY)]
    assert not collections
    assert gc.isenabled()
    assert gc.get_count()[0] < MANY, "they are not walked through when the next few are made"
    assert len(made) == 2 * MANY


def test_a_few_values_stay_where_they_are() -> None:
    gc.collect()
    gc.freeze()
    frozen = gc.get_freeze_count()
    try:
        with resting_collector():
            pass
        assert gc.get_freeze_count() == frozen > 0
    finally:
        gc.unfreeze()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with resting_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_it_goes_on_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), resting_collector():
        raise ZeroDivisionError
    assert gc.isenabled()
