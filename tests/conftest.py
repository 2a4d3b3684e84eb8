"""What every test starts with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastserve.logs import REQUEST_IDS


@pytest.fixture(autouse=True)
def _no_request() -> Iterator[None]:
    """No request is being answered: one that an earlier test answered in this thread would be in log lines."""
    token = REQUEST_IDS.set(None)
    yield
    REQUEST_IDS.reset(token)
