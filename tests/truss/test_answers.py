"""Our server answers what Truss's own server answered, but for what `differences.py` gives a reason for."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest

from tests.truss.cases import QUESTIONS
from tests.truss.compare import our_answers, parsed
from tests.truss.differences import REASONS, STRICT_FLAGS
from tests.truss.exchange import Seen
from tests.truss.record import load_answers, write_down

RECORDED: dict[str, Any] = load_answers()["models"]
BY_WHY = {reason.why: reason for reason in REASONS}

# Models that some switch makes a difference to.
STRICT_MODELS = ("results", "inputs", "methods", "typed", "failures", "streams", "responses")


@pytest.mark.parametrize("model", QUESTIONS)
def test_our_answers_are_truss_s(model: str) -> None:
    """Content compares by what the JSON means."""
    wrong = {}
    for name, ours in our_answers(model).items():
        recorded = RECORDED[model][name]
        expected = recorded.get("ours", recorded["answer"])
        if parsed(ours) != parsed(expected):
            wrong[name] = {"ours": ours, "expected": expected, "why": recorded.get("why")}
    assert wrong == {}


@pytest.mark.parametrize("model", STRICT_MODELS)
def test_with_all_switches_they_are_the_same_byte_for_byte(model: str) -> None:
    """But for what has no switch, which is as without them."""
    wrong = {}
    for name, ours in our_answers(model, *STRICT_FLAGS).items():
        recorded = RECORDED[model][name]
        if "ours" in recorded and not BY_WHY[recorded["why"]].is_switched:
            is_right = parsed(ours) == parsed(recorded["ours"])
        else:
            is_right = ours == recorded["answer"]
        if not is_right:
            wrong[name] = {"ours": ours, **recorded}
    assert wrong == {}


def test_the_recording_is_of_these_questions() -> None:
    asked = {
        model: {name: write_down(question) for name, question in QUESTIONS[model].items()} for model in QUESTIONS
    }
    assert {model: {name: said["asked"] for name, said in RECORDED[model].items()} for model in RECORDED} == asked


def differing() -> dict[str, Seen]:
    """All questions with an answer of our own."""
    return {
        f"{model} / {name}": said for model in RECORDED for name, said in RECORDED[model].items() if "ours" in said
    }


def test_every_answer_of_our_own_is_another_than_truss_s_and_has_its_reason() -> None:
    for question, said in differing().items():
        assert parsed(said["ours"]) != parsed(said["answer"]), question
        reason = BY_WHY[said["why"]]
        assert any(fnmatch.fnmatchcase(question, pattern) for pattern in reason.questions), question


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.why[:40])
def test_every_reason_is_needed(reason: Any) -> None:
    mine = {question for question, said in differing().items() if said["why"] == reason.why}
    for pattern in reason.questions:
        assert fnmatch.filter(mine, pattern), pattern
