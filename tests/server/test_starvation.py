"""Clients that wait, promise, stop and leave, in their hundreds: none takes anything from the client beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.siege import Siege, siege
from tests.support.starvation import STARVATION


@pytest.fixture(scope="module")
def besieged() -> Iterator[Siege]:
    with siege() as it:
        yield it


@pytest.mark.parametrize("name", STARVATION)
def test_nobody_starves_beside(besieged: Siege, name: str) -> None:
    besieged.endure(STARVATION[name], idles=True)
