"""The models that make whatever response their input describes, for the files that test these."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.making import MODELS
from tests.support.process import Server, serving


@pytest.fixture(scope="module")
def starlette() -> Iterator[Server]:
    with serving(MODELS / "response_starlette") as server:
        yield server


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    with serving(MODELS / "response_fastserve") as server:
        yield server


@pytest.fixture(params=["starlette", "ours"])
def either(request: pytest.FixtureRequest) -> Server:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, Server)
    return server
