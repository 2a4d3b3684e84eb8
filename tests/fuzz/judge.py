"""What must hold after every stream, whatever its bytes, cuts and timing. A ViolationError says what does not.

The rules alone: running is `play.py`'s, reading `reading.py`'s and `second_opinion.py`'s. Called by every driver.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from tests.fuzz.answering import PADDING
from tests.fuzz.play import PROBE, PROBE_TARGET, World
from tests.fuzz.reading import Answer, read_answers
from tests.fuzz.scenario import Ending, Expected, Scenario
from tests.fuzz.second_opinion import read_requests
from tests.fuzz.watching import Outcome, Seen, ViolationError

# A refusal is one of these (http.md): 408 is for those who take too long.
REFUSALS: Final = frozenset({400, 408, 413, 414, 415, 417, 431, 501, 505})
# Endings after which a request that has come may go without its answer.
CUTTING: Final = (Ending.RESET,)
# Endings after which what is not running is not run: how far it got depends on the timing.
EARLY: Final = (Ending.RESET, Ending.DRAIN)


def judge(world: World, *scenarios: Scenario, asks_h11: bool = True) -> None:
    """Play `scenarios`, the same but for cuts and timing, and check all that came of them.

    Raises ViolationError, or what fastserve raised; its `scenario` attribute is the one that did.
    """
    plainest = scenarios[0].plainest()
    outcome = judge_one(world, plainest)
    others = read_answers(outcome.sent, outcome.seen)
    if asks_h11:
        check_second_opinion(plainest, outcome)
    for scenario in scenarios:
        if scenario != plainest:
            judge_one(world, scenario, outcome, others)


def judge_one(
    world: World, scenario: Scenario, plainest: Outcome | None = None, others: Sequence[Answer] = ()
) -> Outcome:
    """The same for one. plainest, others: what came of it in one read, and the answers; None if this is that."""
    try:
        outcome = world.play(scenario)
        if outcome.complaints:
            raise ViolationError("; ".join(outcome.complaints))
        answers = read_answers(outcome.sent, outcome.seen)
        check_answers(outcome, answers, may_lack_one=scenario.ending in CUTTING)
        if scenario.expected is not None:
            check_expected(scenario, outcome, answers)
        if plainest is not None:
            check_same(scenario.ending in EARLY, outcome, answers, plainest, others)
    except Exception as error:
        error.scenario = scenario  # type: ignore[attr-defined]
        raise
    return outcome


def check_answers(outcome: Outcome, answers: Sequence[Answer], *, may_lack_one: bool) -> None:
    """Each request has one answer, in order, the right one and whole; behind them is one refusal at the most."""
    seen = outcome.seen
    for request, answer in zip(seen, answers, strict=False):
        _check_answer(request, answer, is_last=answer is answers[-1], may_be_cut=may_lack_one)
    if len(answers) < len(seen):
        is_cut = seen[-1].is_cut and len(answers) == len(seen) - 1
        if not (is_cut or may_lack_one):
            raise ViolationError(f"{len(seen)} requests and {len(answers)} answers")
    elif len(answers) > len(seen):
        refusal = answers[-1]
        if refusal.status not in REFUSALS or not refusal.is_complete or not refusal.content.startswith(b'{"error":'):
            raise ViolationError(f"an answer to nothing: {refusal}")
        if refusal.fields.get(b"connection") != b"close":
            raise ViolationError("a refusal that does not say it closes")
    if any(request.closes for request in seen[:-1]):
        raise ViolationError("a request was run after a response that closes")


def _check_answer(request: Seen, answer: Answer, *, is_last: bool, may_be_cut: bool) -> None:
    if not answer.is_complete:
        if not (is_last and (request.is_cut or may_be_cut)):
            raise ViolationError(f"an answer that is not whole: {answer}")
        return
    if request.is_cut:
        raise ViolationError(f"a response that was cut looks whole: {answer}")
    echo = b"no" if request.status == 404 else b"%b %b %b" % request[:3]
    nothing = request.method == b"HEAD" or answer.status == 204
    if not nothing and answer.content not in (echo, echo + PADDING):
        if may_be_cut and is_last and request.is_http10 and echo.startswith(answer.content):
            return  # content that the close ends, at a peer that has gone
        raise ViolationError(f"the answer to {request[:3]} is {answer}")
    if answer.status // 100 != request.status // 100:
        raise ViolationError(f"the status is {answer.status}, not {request.status}")


def check_expected(scenario: Scenario, outcome: Outcome, answers: Sequence[Answer]) -> None:
    """A valid stream is run as it is meant, all of it, and nothing of it is refused."""
    assert scenario.expected is not None
    expected = list(scenario.expected)
    stays_open = scenario.stays_open and not any(request.closes for request in outcome.seen[: len(expected)])
    if stays_open and scenario.ending is Ending.PROBE:
        if not outcome.is_open:
            raise ViolationError("a connection that should persist was closed")
        expected.append(Expected(b"GET", PROBE_TARGET, b""))
    seen = [Expected(*request[:3]) for request in outcome.seen]
    if scenario.ending in EARLY or (outcome.seen and outcome.seen[-1].closes):
        expected = expected[: len(seen)]
    if seen != expected:
        raise ViolationError(f"valid requests were run as {seen}, not as {expected}")
    if len(answers) > len(seen):
        raise ViolationError(f"a valid stream was refused: {answers[-1]}")


def check_same(
    is_early: bool, outcome: Outcome, answers: Sequence[Answer], plainest: Outcome, others: Sequence[Answer]
) -> None:
    """Neither cuts nor timing change what is run and what is answered.

    Except that a peer that leaves, and a server that ends, cut both off (is_early); and that refused content which is
    not there yet is not waited for.
    """
    if not (outcome.is_timing_free and plainest.is_timing_free):
        return
    both = min(len(outcome.seen), len(plainest.seen)) if is_early else None
    _check_alike("run", outcome.seen[:both], plainest.seen[:both])
    if not is_early:
        _check_alike("answered", _essence(answers), _essence(others))
        _check_alike("open afterwards", [outcome.is_open], [plainest.is_open])


def _check_alike(what: str, some: Sequence[object], others: Sequence[object]) -> None:
    for number, (one, other) in enumerate(itertools.zip_longest(some, others)):
        if one != other:
            raise ViolationError(f"{what}, number {number}: {one}; and in one read {other}")


def _essence(answers: Sequence[Answer]) -> list[tuple[int, bytes]]:
    """(Whether `Connection: close` is said depends on whether the peer's end was there.)"""
    return [(answer.status, answer.content if answer.is_complete else b"") for answer in answers]


def check_second_opinion(scenario: Scenario, outcome: Outcome) -> None:
    """h11 reads the requests that were run from the same bytes, with the same beginnings and ends."""
    raw = scenario.raw + PROBE if scenario.ending is Ending.PROBE else scenario.raw
    requests, end = read_requests(raw)
    for number, request in enumerate(outcome.seen):
        if number == len(requests):
            if end is not None:
                raise ViolationError(f"h11 {end}; but it was run: {request}")
            return
        if Expected(*request[:3]) != requests[number]:
            if request.status == 404 and request[:2] == requests[number][:2] and not request.content:
                return  # refused before its content came
            raise ViolationError(f"h11 reads {requests[number]}, and {request} was run")
