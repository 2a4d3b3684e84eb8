"""Every case over a real socket to a real process, with a connection beside them that must not notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cases import sockets
from tests.cases.case import Case
from tests.cases.load import all_cases


@pytest.fixture(scope="module")
def place() -> Iterator[sockets.Place]:
    with sockets.place() as where:
        yield where


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_a_case_is_answered_as_wanted_over_a_socket(case: Case, place: sockets.Place) -> None:
    received, problems = sockets.run(case, place)
    assert problems == [], received


def test_a_connection_beside_them_gets_its_own_answers(place: sockets.Place) -> None:
    """The witness has been asked after every case above, and asserts that it never had to connect anew."""
    assert place.witness.ask() == []
