"""The data itself: every rule has a case or a test elsewhere, names are unlike, cases say what they are."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cases.load import all_cases, load_cases
from tests.cases.rows import ELSEWHERE, ROWS

TESTS = Path(__file__).parent.parent


def test_every_rule_has_a_case() -> None:
    covered = set(load_cases()) | set(ELSEWHERE)
    assert covered == set(ROWS)
    for row, (file, name) in ELSEWHERE.items():
        assert f"def {name}(" in (TESTS / file).read_text(), row


def test_there_are_at_least_300_cases_and_no_two_are_the_same() -> None:
    cases = all_cases()
    assert len(cases) >= 300
    assert len({case.name for case in cases}) == len(cases)
    assert len({(case.pieces, case.ends, case.waits) for case in cases}) == len(cases)


def test_every_case_names_its_source() -> None:
    known = re.compile(r"RFC \d+ [A-Z\d.]+|llhttp|smuggling|bounds|Truss")
    assert [case.name for case in all_cases() if not known.match(case.source)] == []


def test_what_is_smuggled_is_never_seen() -> None:
    assert [case.name for case in all_cases() if b"smuggled" in case.seen] == []
