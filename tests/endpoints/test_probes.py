"""Liveness and readiness through the life of a server."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from fastserve.endpoints.probes import Health, Readiness, answer_liveness
from fastserve.lifecycle import Lifecycle, State
from fastserve.messages import Head, Request
from fastserve.model.runtime import Runtime
from tests.support.responder import RecordingResponder


def test_liveness_never_changes_and_readiness_follows_the_lifecycle() -> None:
    lifecycle = Lifecycle()
    readiness = Readiness(lifecycle)
    seen = []
    for state in (None, State.READY, State.LEAVING, State.DRAINING, State.STOPPED):
        if state is not None:
            lifecycle.move_to(state)
        ready, alive = RecordingResponder(), RecordingResponder()
        head = Head(b"", b"GET", b"/", b"/", {})
        readiness.answer(Request(head, b"", ready))
        answer_liveness(Request(head, b"", alive))
        assert ready.response is not None
        assert alive.response is not None
        assert (alive.response.kind[0], alive.content) == (200, b"true")
        seen.append(ready.response.kind[0])
    assert seen == [503, 200, 503, 503, 503]


class FakeCheck:
    """A model's is_healthy. The server starts to drain while it is asked, if it `drains`."""

    def __init__(self, answer: bool, drains: Lifecycle | None = None) -> None:
        self.answer = answer
        self.asked = 0
        self._drains = drains

    async def is_healthy(self) -> bool:
        self.asked += 1
        if self._drains is not None:
            self._drains.move_to(State.DRAINING)
        await asyncio.sleep(0)
        return self.answer


def probe(lifecycle: Lifecycle, check: FakeCheck | None) -> tuple[int, bool]:
    """The status code, and whether it was there at once."""

    async def play() -> tuple[int, bool]:
        responder = RecordingResponder()
        runtime = cast(Runtime, SimpleNamespace(health=check))
        Health(lifecycle, runtime).answer(Request(Head(b"", b"GET", b"/", b"/", {}), b"", responder))
        at_once = responder.response is not None
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
        assert responder.response is not None
        assert responder.calls == ["response"]
        return responder.response.kind[0], at_once

    return asyncio.run(play())


def lifecycle_at(*states: State) -> Lifecycle:
    lifecycle = Lifecycle()
    for state in states:
        lifecycle.move_to(state)
    return lifecycle


@pytest.mark.parametrize("states", [(), (State.READY, State.DRAINING)])
def test_a_model_is_not_asked_unless_the_server_is_ready(states: tuple[State, ...]) -> None:
    check = FakeCheck(True)
    assert probe(lifecycle_at(*states), check) == (503, True)
    assert check.asked == 0


def test_a_model_without_a_word_on_its_health_is_answered_for_at_once() -> None:
    assert probe(lifecycle_at(State.READY), None) == (200, True)


@pytest.mark.parametrize(("answer", "status"), [(True, 200), (False, 503)])
def test_a_ready_model_s_own_word_decides(answer: bool, status: int) -> None:
    check = FakeCheck(answer)
    assert probe(lifecycle_at(State.READY), check) == (status, False)
    assert check.asked == 1


def test_a_server_that_drains_meanwhile_is_not_ready() -> None:
    lifecycle = lifecycle_at(State.READY)
    assert probe(lifecycle, FakeCheck(True, drains=lifecycle)) == (503, False)
