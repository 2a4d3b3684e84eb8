"""What every test starts with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from fastserve.logs import REQUEST_IDS

settings.register_profile("untimed", deadline=None)  # a timing is a benchmark, not a test
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _no_request() -> Iterator[None]:
    """No request is being answered: one that an earlier test answered in this thread would be in log lines."""
    token = REQUEST_IDS.set(None)
    yield
    REQUEST_IDS.reset(token)
