"""A short run of all the fuzzing; the long one is `python -m tests.fuzz`. `test_detection.py`: it can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.campaign import Campaign
from tests.fuzz.choices import Drawn
from tests.fuzz.judge import judge
from tests.fuzz.play import World
from tests.fuzz.scenario import Scenario
from tests.fuzz.streams import make_mutated, make_noise, make_valid

# What is drawn is many small choices; none is slow, but the machine may be.
SHORT = settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
STREAMS = [scenario.raw for scenario in corpus.read(corpus.FINDS, corpus.REACHED)]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One for many scenarios: what one leaves behind, the next would show."""
    world = World()
    yield world
    world.close()


def scenarios(make: Callable[..., Scenario], *arguments: Any) -> st.SearchStrategy[Scenario]:
    """What a generator makes of choices that hypothesis draws."""
    return st.composite(lambda draw: make(Drawn(draw), *arguments))()


@SHORT
@given(scenario=scenarios(make_valid))
def test_every_valid_request_is_answered_once_in_order_and_rightly(world: World, scenario: Scenario) -> None:
    judge(world, scenario)


@SHORT
@given(scenario=scenarios(make_mutated, STREAMS))
def test_a_mutated_stream_is_read_in_one_way_or_refused(world: World, scenario: Scenario) -> None:
    judge(world, scenario)


@SHORT
@given(scenario=scenarios(make_noise))
def test_any_bytes_give_requests_or_one_refusal(world: World, scenario: Scenario) -> None:
    judge(world, scenario)


@pytest.mark.parametrize("scenario", corpus.read(corpus.FINDS), ids=repr)
def test_what_once_found_a_bug_finds_none_at_any_cut(world: World, scenario: Scenario) -> None:
    judge(world, scenario)
    plainest = scenario.plainest()
    for cut in range(1, len(scenario.raw)):
        judge(world, Scenario(plainest.raw, (cut,), is_tight=plainest.is_tight), asks_h11=False)


def test_the_corpus_finds_nothing(world: World) -> None:
    for scenario in corpus.read(corpus.REACHED):
        judge(world, scenario)


def test_a_short_campaign_is_clean_and_leaves_nothing_behind() -> None:
    said: list[str] = []
    campaign = Campaign("short", said.append)
    try:
        result = campaign.run(seconds=0.0, streams=2_500, warm_up=1_500)
    finally:
        campaign.close()
    assert result.failure is None
    assert result.streams >= 2_500
    assert result.after.growth_over(result.before) == []
    assert len(said) == 2
