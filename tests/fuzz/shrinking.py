"""Makes a scenario that fails as small as it gets while it still fails: fewer bytes, fewer cuts, plainer timing.

For scenarios that come from a seed or bytes; hypothesis shrinks its own. Called by `campaign.py` for all drivers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Final

from tests.fuzz.scenario import Ending, Scenario

# Plays of one connection, half a millisecond each.
MAX_TRIES: Final = 4_000


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], max_tries: int = MAX_TRIES) -> Scenario:
    """The smallest that is found in `max_tries`. fails: whether a scenario is still a find; true for `scenario`."""
    tries = 0
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in _smaller(scenario):
            tries += 1
            if tries > max_tries:
                return scenario
            if fails(smaller):
                scenario, is_smaller = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    for plainer in _plainer(scenario):
        if plainer != scenario:
            yield plainer
    if scenario.expected is not None:  # known for these bytes alone
        return
    raw = scenario.raw
    size = 1 << max(len(raw).bit_length() - 1, 0)
    while size:
        for start in range(0, len(raw), size):
            yield _without(scenario, start, size)
        size //= 2
    for at, octet in enumerate(raw):
        if octet not in b"a\r\n :":
            yield dataclasses.replace(scenario, raw=raw[:at] + b"a" + raw[at + 1 :])


def _plainer(scenario: Scenario) -> Iterator[Scenario]:
    yield dataclasses.replace(scenario, expected=None, stays_open=False)
    yield dataclasses.replace(scenario, tempo=b"")
    yield dataclasses.replace(scenario, manners=b"")
    yield dataclasses.replace(scenario, ending=Ending.PROBE)
    yield dataclasses.replace(scenario, is_tight=False)
    for number in range(len(scenario.cuts)):
        yield dataclasses.replace(scenario, cuts=scenario.cuts[:number] + scenario.cuts[number + 1 :])
    for name in ("manners", "tempo"):
        octets = getattr(scenario, name)
        for number in range(len(octets)):
            yield dataclasses.replace(scenario, **{name: octets[:number] + octets[number + 1 :]})


def _without(scenario: Scenario, start: int, size: int) -> Scenario:
    raw = scenario.raw[:start] + scenario.raw[start + size :]
    cuts = tuple(cut if cut <= start else max(start, cut - size) for cut in scenario.cuts)
    return dataclasses.replace(scenario, raw=raw, cuts=cuts)
