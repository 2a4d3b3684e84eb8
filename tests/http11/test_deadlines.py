"""The sweep of all connections: each is asked, whatever happens to others, and the loop is not held for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from fastserve.http11 import deadlines as module
from fastserve.http11.deadlines import LEAST_IN_TURN, Deadlines
from fastserve.turns import TURN_S, Turns
from tests.support.fakes import FakeLoop

COUNT = 10 * LEAST_IN_TURN


class Sweep:
    """Deadlines of connections each of which takes `each_s` to be asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, each_s: float = 2 * TURN_S) -> None:
        self.clock, self.each_s = 0.0, each_s
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.clock))
        self.loop = FakeLoop()
        self.asked: list[tuple[Asked, float]] = []
        self.connections = {Asked(self) for _ in range(COUNT)}
        turns = Turns(cast(asyncio.AbstractEventLoop, self.loop))
        self.deadlines = Deadlines(0.0, self.connections, turns)


class Asked:
    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def check_deadline(self, now: float) -> None:
        self._sweep.clock += self._sweep.each_s
        self._sweep.asked.append((self, now))
        if len(self._sweep.asked) == 3:
            raise OSError("out of file descriptors")


def test_those_that_take_long_are_asked_in_later_turns_of_the_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = Sweep(monkeypatch)
    sweep.deadlines.tick(7.0)
    assert len(sweep.asked) == LEAST_IN_TURN
    sweep.loop.run_ready()
    assert {connection for connection, _ in sweep.asked} == sweep.connections
    assert len(sweep.asked) == COUNT
    assert "a bug of fastserve" in caplog.text  # the others are asked all the same


def test_those_that_take_no_time_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(monkeypatch, each_s=0.0)
    sweep.deadlines.tick(7.0)
    assert len(sweep.asked) == COUNT


def test_who_has_gone_meanwhile_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(monkeypatch)
    sweep.deadlines.tick(7.0)
    sweep.connections.clear()
    sweep.loop.run_ready()
    assert len(sweep.asked) == LEAST_IN_TURN


def test_a_tick_in_between_is_told_and_begins_no_other_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(monkeypatch)
    sweep.deadlines.tick(7.0)
    sweep.deadlines.tick(8.0)
    sweep.loop.run_ready()
    assert [now for _, now in sweep.asked] == [7.0] * LEAST_IN_TURN + [8.0] * (COUNT - LEAST_IN_TURN)
    sweep.deadlines.tick(9.0)
    assert len(sweep.asked) == COUNT + LEAST_IN_TURN
