"""Liveness and readiness through the life of a server."""

from __future__ import annotations

from fastserve.endpoints.probes import Readiness, answer_liveness
from fastserve.lifecycle import Lifecycle, State
from fastserve.messages import Head, Request
from tests.support.responder import RecordingResponder


def test_liveness_never_changes_and_readiness_follows_the_lifecycle() -> None:
    lifecycle = Lifecycle()
    readiness = Readiness(lifecycle)
    seen = []
    for state in (None, State.READY, State.DRAINING, State.STOPPED):
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
    assert seen == [503, 200, 503, 503]
