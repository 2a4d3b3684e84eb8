"""`is_healthy`: which answers mean well, and what is logged."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve.model.contract import read_contract
from fastserve.model.health import HealthCheck
from tests.support.hooks import with_hooks


class NeitherNor:
    def __bool__(self) -> bool:
        raise ValueError("neither nor")


class ShyError(Exception):
    def __str__(self) -> str:
        raise ValueError("not to be shown")


class Model:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def is_healthy(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def predict(self, model_input: Any) -> None: ...


class AsyncModel(Model):
    async def is_healthy(self) -> Any:
        return Model.is_healthy(self)


@pytest.mark.parametrize("model", [Model, AsyncModel])
@pytest.mark.parametrize(
    ("answer", "is_healthy", "lines"),
    [
        (True, True, []),
        ("x", True, []),
        (34, True, []),
        ({"a": 1}, True, []),
        (None, True, ["Health check failed."]),
        (False, False, ["Health check failed."]),
        ("", False, ["Health check failed."]),
        (0, False, ["Health check failed."]),
        (KeyError("x"), False, ["Exception while checking if model is healthy: 'x'", "Health check failed."]),
        (SystemExit(3), False, ["Exception while checking if model is healthy: 3", "Health check failed."]),
        (
            ShyError(),
            False,
            ["Exception while checking if model is healthy: <ShyError that cannot be shown>", "Health check failed."],
        ),
        (
            NeitherNor(),
            False,
            ["Exception while checking if model is healthy: neither nor", "Health check failed."],
        ),
    ],
)
def test_truth_decides(
    model: type[Model], answer: Any, is_healthy: bool, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    method = read_contract(model(answer)).is_healthy
    assert method is not None
    assert with_hooks(lambda hooks: HealthCheck(method, hooks).is_healthy()) is is_healthy
    assert [record.getMessage() for record in caplog.records] == lines
