"""`X-Request-Timeout` and `--timeout`: what is read, who is answered with 504 and when, what becomes of the work."""

from __future__ import annotations

from time import monotonic_ns
from typing import cast

import orjson
import pytest

from fastserve.endpoints.predict import LEARN_NS
from fastserve.endpoints.prediction import Prediction
from fastserve.endpoints.request_timeout import LEAST_S, MOST_S, read_timeout
from fastserve.errors import DeadlineError, RequestError
from fastserve.messages import MEANINGFUL, Head
from fastserve.model.steps import Step
from tests.endpoints.test_prediction import Scene

FIELD = b"x-request-timeout"
SECOND = 1_000_000_000


def head(said: bytes | None) -> Head:
    return Head(b"", b"POST", b"/predict", b"/predict", {} if said is None else {FIELD: said})


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        (b"2", 2.0),
        (b"0.25", 0.25),
        (b"1e1", 10.0),
        (b"0.001", LEAST_S),
        (b"86400", MOST_S),
        (b" 3 ", 3.0),
    ],
)
def test_a_number_of_seconds_is_read(said: bytes | None, seconds: float | None) -> None:
    assert read_timeout(head(said)) == seconds


@pytest.mark.parametrize(
    "said", [b"", b"0", b"-1", b"0.0009", b"86400.1", b"inf", b"nan", b"1_0", b"5s", b"1, 2", b"\xd9\xa1"]
)
def test_anything_else_is_refused_and_says_what_it_takes(said: bytes) -> None:
    with pytest.raises(RequestError, match=r"seconds from 0\.001 to 86400") as refused:
        read_timeout(head(said))
    assert refused.value.status == 400


def test_heads_that_differ_in_it_do_not_share_a_route() -> None:
    assert FIELD in MEANINGFUL


def test_who_waits_for_longer_than_it_said_is_answered_and_its_work_leaves_the_queue() -> None:
    scene = Scene().ready()
    prediction = scene.post(**{"x-request-timeout": b"5"})
    assert prediction.expires - times_of(prediction)[0] == 5_000_000_000
    (fire,) = scene.loop.timers
    fire()
    assert scene.responder.response is not None
    assert scene.responder.response.kind[0] == 504
    assert "X-Request-Timeout" in orjson.loads(scene.responder.content)["error"]
    assert prediction.is_cancelled
    assert scene.entry.withdrawn == [prediction]
    assert scene.metrics.expired == {"predict": 1}
    fire()  # nothing of this is done twice
    assert scene.responder.calls == ["response"]


def test_the_servers_own_limit_is_kept_if_it_is_shorter() -> None:
    prediction = Scene(timeout_s=10.0).ready().post(**{"x-request-timeout": b"50"})
    assert prediction.expires - times_of(prediction)[0] == 10_000_000_000


def test_an_answer_in_time_stops_the_timer() -> None:
    scene = Scene().ready()
    prediction = scene.post(**{"x-request-timeout": b"5"})
    stopped = []
    assert prediction.disconnection is not None
    prediction.disconnection.call(lambda: stopped.append(True))
    prediction.value = b"1"
    prediction.on_result()
    assert stopped
    assert scene.responder.content == b"1"


def test_what_expires_on_a_worker_is_answered_with_the_same() -> None:
    scene = Scene().ready()
    prediction = scene.post()
    prediction.error = DeadlineError()
    prediction.on_result()
    assert scene.responder.response is not None
    assert scene.responder.response.kind[0] == 504
    assert scene.metrics.expired == {"queue": 1}


@pytest.mark.parametrize("timeout_s", [0.0, 5.0, 3600.0])
@pytest.mark.parametrize("is_queued", [False, True])
def test_the_sweep_answers_only_what_is_due(timeout_s: float, is_queued: bool) -> None:
    scene = Scene(timeout_s=timeout_s).ready()
    prediction = scene.post()
    prediction.running = cast(Step, None if is_queued else object())
    prediction.on_tick(timeout_s / 2)
    assert scene.responder.calls == []
    prediction.on_tick(timeout_s)
    assert scene.responder.calls == (["response"] if timeout_s else [])


def test_a_short_timeout_of_the_servers_has_a_timer_for_each_request() -> None:
    scene = Scene(timeout_s=1.0).ready()
    scene.post()
    assert len(scene.loop.timers) == 1


def times_of(prediction: Prediction) -> list[int]:
    assert prediction.times is not None
    return prediction.times


def note_predict(scene: Scene, seconds: int) -> None:
    """One has taken so long."""
    scene.metrics.methods["predict"].note([0, 0, seconds * SECOND], 1, seconds * SECOND)


def left_to_begin_s(prediction: Prediction) -> float:
    return (prediction.expires - times_of(prediction)[0]) / SECOND


def test_what_would_be_late_is_not_begun() -> None:
    scene = Scene(timeout_s=10.0).ready()
    for _ in range(2):
        note_predict(scene, 1)
    first = scene.post()
    assert left_to_begin_s(first) == 10
    first.on_tick(0)
    second = scene.post()
    assert left_to_begin_s(second) == 8.5
    second.running = cast(Step, object())
    second.on_tick(9)
    assert scene.responder.calls == []  # it has a second left
    second.on_tick(10)
    assert scene.responder.calls == ["response"]


def test_what_waits_too_long_to_be_in_time_leaves_the_queue() -> None:
    scene = Scene(timeout_s=10.0).ready()
    note_predict(scene, 1)
    waiting = scene.post()
    waiting.on_tick(7.4)
    assert scene.responder.calls == []
    waiting.on_tick(7.5)  # it may be a second later by the next time
    assert scene.responder.calls == ["response"]
    assert scene.entry.withdrawn == [waiting]


def test_the_sweep_leaves_those_alone_that_have_timers_and_are_looked_at_when_they_begin() -> None:
    scene = Scene(timeout_s=1.0).ready()
    waiting = scene.post()
    waiting.on_tick(0.9)
    assert scene.responder.calls == []


def test_so_it_is_with_the_time_that_a_request_gives_itself() -> None:
    scene = Scene(timeout_s=100.0).ready()
    note_predict(scene, 1)
    scene.post().on_tick(0)
    assert left_to_begin_s(scene.post(**{"x-request-timeout": b"5"})) == 3.5
    assert scene.loop.delays_s[-1] == pytest.approx(5, abs=0.5)  # it is told when its time is over, not before
    assert left_to_begin_s(scene.post(**{"x-request-timeout": b"50"})) == 48.5


def test_what_a_predict_never_manages_in_time_is_begun_nevertheless() -> None:
    scene = Scene(timeout_s=10.0).ready()
    note_predict(scene, 30)
    scene.post().on_tick(0)
    assert left_to_begin_s(scene.post()) == 5  # or nobody would learn that it has become faster
    assert left_to_begin_s(scene.post(**{"x-request-timeout": b"2"})) == 1


def test_what_predicts_take_is_learned_once_a_tick() -> None:
    scene = Scene(timeout_s=10.0).ready()
    note_predict(scene, 1)
    waiting = [scene.post() for _ in range(3)]
    waiting[0].on_tick(0)
    note_predict(scene, 2)
    waiting[1].on_tick(0)
    assert left_to_begin_s(scene.post()) == 8.5
    scene.endpoint.learn(monotonic_ns() + LEARN_NS)
    assert left_to_begin_s(scene.post()) == 7


def test_without_a_limit_nothing_is_too_late() -> None:
    scene = Scene(timeout_s=0.0).ready()
    note_predict(scene, 1)
    scene.post().on_tick(0)
    assert left_to_begin_s(scene.post()) > 10**9
