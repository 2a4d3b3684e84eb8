"""Reads a model object once, at start: which methods it has, of what kind, taking what.

Every wrong signature or combination is refused here, so that the request path never asks. Called by `loader.py`.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
from collections.abc import Callable
from typing import Any, Final

from fastserve.errors import ModelDefinitionError


class Kind(enum.Enum):
    """How a method is called. `Kind.SYNC` may block, so it runs on a worker thread."""

    SYNC = enum.auto()
    COROUTINE = enum.auto()
    GENERATOR = enum.auto()
    ASYNC_GENERATOR = enum.auto()


@dataclasses.dataclass(frozen=True)
class Method:
    """One method of the model. call: takes the payload, whatever the method itself takes."""

    name: str
    kind: Kind
    call: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Contract:
    """The methods of one model that this server calls for a request."""

    predict: Method
    preprocess: Method | None
    postprocess: Method | None


_STEPS: Final = ("preprocess", "predict", "postprocess")


def read_contract(model: object) -> Contract:
    """The contract that `model` keeps. Raises ModelDefinitionError, saying what to write instead."""
    if not callable(getattr(model, "predict", None)):
        if callable(getattr(model, "websocket", None)):
            raise ModelDefinitionError("a `websocket` method without `predict` is not supported; add `predict`")
        raise ModelDefinitionError(
            "Truss model must have a `predict` or `websocket` method; add `def predict(self, model_input)` "
            f"to class {type(model).__name__}"
        )
    methods = {name: _read_method(model, name) for name in _STEPS}
    predict = methods["predict"]
    assert predict is not None
    return Contract(predict, methods["preprocess"], methods["postprocess"])


def _read_method(model: object, name: str) -> Method | None:
    function = getattr(model, name, None)
    if function is None:
        return None
    if not callable(function):
        raise ModelDefinitionError(
            f"`{name}` is not a method but {function!r}: write `def {name}(self, model_input)`"
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # written in C, without a signature: it is called with the input
        return Method(name, _kind_of(function), function)
    if len(parameters) > 2:
        raise ModelDefinitionError(
            f"`{name}` cannot have more than two arguments, it has {len(parameters)}: "
            f"write `def {name}(self, model_input)`"
        )
    if len(parameters) == 2:
        raise ModelDefinitionError(
            f"`{name}` with two arguments must have request as second argument (type annotated), "
            f"and requests are not passed on yet: write `def {name}(self, model_input)`"
        )
    kind = _kind_of(function)
    if not parameters:
        return Method(name, kind, lambda payload: function())
    return Method(name, kind, function)


def _kind_of(function: Callable[..., Any]) -> Kind:
    called = type(function).__call__  # an object that can be called, a torch module say
    for candidate in (function, called):
        if inspect.isasyncgenfunction(candidate):
            return Kind.ASYNC_GENERATOR
        if inspect.iscoroutinefunction(candidate):
            return Kind.COROUTINE
        if inspect.isgeneratorfunction(candidate):
            return Kind.GENERATOR
    return Kind.SYNC
