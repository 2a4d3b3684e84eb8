"""Reads a model object once, at start: which methods it has, of what kind, taking what.

Every wrong signature or combination is refused here, so that the request path never asks. Called by `runtime.py`.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastserve.errors import ModelDefinitionError
from fastserve.interface.request import Request
from fastserve.model.signatures import EMPTY, read_signature


class Kind(enum.Enum):
    """How a method is called. `Kind.SYNC` may block, so it runs on a worker thread."""

    SYNC = enum.auto()
    COROUTINE = enum.auto()
    GENERATOR = enum.auto()
    ASYNC_GENERATOR = enum.auto()


class Takes(enum.Enum):
    """What a method is called with, besides `self`; always by position."""

    NOTHING = enum.auto()
    INPUTS = enum.auto()
    INPUTS_AND_REQUEST = enum.auto()
    REQUEST = enum.auto()


@dataclasses.dataclass(frozen=True)
class Method:
    """One method of the model.

    call: takes the payload, and as second argument the request if there is a `request_type`, whatever the method
        itself takes.
    request_type: the class its request parameter is annotated with; None if it takes no request.
    input_type, output_type: the annotations of its input and result, resolved; EMPTY without.
    """

    name: str
    kind: Kind
    call: Callable[..., Any]
    takes: Takes
    request_type: type | None = None
    input_type: Any = EMPTY
    output_type: Any = EMPTY


@dataclasses.dataclass(frozen=True)
class Contract:
    """The methods of one model that this server calls.

    predict: None for a model with a `websocket` alone, as is `websocket` for every other.
    openai: those of OPENAI_METHODS that it has, by name.
    """

    predict: Method | None
    preprocess: Method | None = None
    postprocess: Method | None = None
    websocket: Method | None = None
    is_healthy: Method | None = None
    setup_environment: Method | None = None
    openai: Mapping[str, Method] = dataclasses.field(default_factory=dict)

    @property
    def first(self) -> Method | None:
        """The method that is given what a predict request brings."""
        return self.preprocess or self.predict

    @property
    def last(self) -> Method | None:
        """The method whose result answers a predict request."""
        return self.postprocess or self.predict


OPENAI_METHODS: Final = ("chat_completions", "completions", "embeddings", "messages", "responses")

_INSTEAD: Final = {
    "websocket": "write `async def websocket(self, websocket)`",
    "is_healthy": "write `def is_healthy(self)`",
    "setup_environment": "write `def setup_environment(self, environment)`",
}


def _instead(name: str) -> str:
    otherwise = (
        f"write `def {name}(self, model_input)`, or `def {name}(self, model_input, request: fastserve.Request)`"
    )
    return _INSTEAD.get(name, otherwise)


def read_contract(model: object) -> Contract:
    """The contract that `model` keeps. Raises ModelDefinitionError, saying what to write instead."""

    def read(name: str) -> Method | None:
        return read_method(model, name)

    openai = {name: method for name in OPENAI_METHODS if (method := read(name)) is not None}
    contract = Contract(
        predict=read("predict"),
        preprocess=read("preprocess"),
        postprocess=read("postprocess"),
        websocket=read("websocket"),
        is_healthy=read("is_healthy"),
        setup_environment=read("setup_environment"),
        openai=openai,
    )
    _check_hooks(contract)
    if contract.websocket is not None:
        _check_websocket(contract)
    elif contract.predict is None:
        raise ModelDefinitionError(
            "Truss model must have a `predict` or `websocket` method; add `def predict(self, model_input)` "
            f"to class {type(model).__name__}"
        )
    else:
        _check_chain(contract)
    return contract


def _check_hooks(contract: Contract) -> None:
    """The methods that no request calls."""
    if contract.is_healthy is not None and contract.is_healthy.takes is not Takes.NOTHING:
        raise ModelDefinitionError(f"`is_healthy` must have only one argument: `self`; {_instead('is_healthy')}")


def _check_websocket(contract: Contract) -> None:
    websocket = contract.websocket
    assert websocket is not None
    instead = _instead("websocket")
    if contract.predict or contract.preprocess or contract.postprocess:
        raise ModelDefinitionError(
            "Truss model cannot have both `websocket` and any of `predict`, `preprocess`, or `postprocess` methods; "
            "leave one out"
        )
    if websocket.takes is not Takes.INPUTS:
        raise ModelDefinitionError(f"`websocket` must have only one argument: `websocket`; {instead}")
    if websocket.kind is not Kind.COROUTINE:
        raise ModelDefinitionError(f"`websocket` endpoints must be async function definitions; {instead}")


def _check_chain(contract: Contract) -> None:
    """A step that takes only the request would throw away what the step before it returned."""
    assert contract.predict is not None
    if contract.preprocess is not None and contract.predict.takes is Takes.REQUEST:
        raise ModelDefinitionError(
            "When using `preprocess`, the predict method cannot only have the request argument (because the result "
            "of `preprocess` would be discarded); write `def predict(self, model_input, request: ...)`"
        )
    if contract.postprocess is not None and contract.postprocess.takes is Takes.REQUEST:
        raise ModelDefinitionError(
            "The `postprocess` method cannot only have the request argument (because the result of `predict` would "
            "be discarded); write `def postprocess(self, result, request: ...)`"
        )


def read_method(model: object, name: str) -> Method | None:
    """The method of that name; None without. Raises ModelDefinitionError for parameters that no method may have."""
    function = getattr(model, name, None)
    if function is None:
        return None
    if not callable(function):
        raise ModelDefinitionError(f"`{name}` is not a method but {function!r}: {_instead(name)}")
    kind = _kind_of(function)
    try:
        signature = read_signature(function)
    except (ValueError, TypeError):  # written in C, without a signature: it is called with the input
        return Method(name, kind, function, Takes.INPUTS)
    takes, request_type = _read_parameters(name, signature)
    annotations = [p.annotation for p in signature.parameters.values()]
    return Method(
        name,
        kind,
        _caller(function, takes),
        takes,
        request_type,
        annotations[0] if takes in (Takes.INPUTS, Takes.INPUTS_AND_REQUEST) else EMPTY,
        signature.return_annotation,
    )


def _read_parameters(name: str, signature: inspect.Signature) -> tuple[Takes, type | None]:
    """By count and annotation, as Truss does: names never matter."""
    parameters = list(signature.parameters.values())
    instead = f"{_instead(name)}. Got: {_text_of(signature)}"
    if not parameters:
        return Takes.NOTHING, None
    if len(parameters) > 2:
        raise ModelDefinitionError(
            f"`{name}` method cannot have more than two arguments, it has {len(parameters)}: {instead}"
        )
    request_type: type | None
    if len(parameters) == 2:
        request_type = _second_type(name, parameters, instead)
        takes = Takes.INPUTS_AND_REQUEST
    else:
        request_type = _request_type(parameters[0].annotation)
        takes = Takes.INPUTS if request_type is None else Takes.REQUEST
        if _may_be_request(parameters[0].annotation):
            raise ModelDefinitionError(
                f"`{name}` method has an argument that may be meant to be the request{_hint(parameters)}: {instead}"
            )
    _check_positional(name, parameters, instead)
    return takes, request_type


def _text_of(signature: inspect.Signature) -> str:
    try:
        return str(signature)
    except Exception:  # noqa: BLE001 - an annotation or a default of the user's that cannot be shown
        return "what cannot be shown"


def _second_type(name: str, parameters: list[inspect.Parameter], instead: str) -> type:
    """The request class of two parameters."""
    first, second = (parameter.annotation for parameter in parameters)
    if _request_type(first) is not None:
        raise ModelDefinitionError(
            f"`{name}` method with two arguments is not allowed to have request as first argument, request must be "
            f"second: {instead}"
        )
    request_type = _request_type(second)
    if request_type is None:
        raise ModelDefinitionError(
            f"`{name}` method with two arguments must have request as second argument (type annotated)"
            f"{_hint(parameters)}: {instead}"
        )
    return request_type


def _may_be_request(annotation: object) -> bool:
    """Whether a name that only type checkers know is that of the request class; any other is an input's."""
    return isinstance(annotation, str) and annotation.rpartition(".")[2] == "Request"


def _hint(parameters: list[inspect.Parameter]) -> str:
    """Why the last parameter may not have been recognised as the request, if that can be told."""
    last = parameters[-1]
    if isinstance(last.annotation, str):
        return f" ({last.annotation!r} cannot be resolved: import it outside TYPE_CHECKING)"
    if last.kind is last.VAR_KEYWORD:
        return " (a decorator that hides what it wraps needs functools.wraps)"
    return ""


def _check_positional(name: str, parameters: list[inspect.Parameter], instead: str) -> None:
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY or parameter.kind is parameter.VAR_KEYWORD:
            stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
            raise ModelDefinitionError(
                f"`{name}` is called by position, which gives nothing to `{stars}{parameter.name}`: {instead}"
            )


def _request_type(annotation: object) -> type | None:
    """`annotation` if it is a request class: ours, or starlette's, which is fastapi's too, if it is imported."""
    starlette = sys.modules.get("starlette.requests")
    classes = (Request,) if starlette is None else (Request, starlette.Request)
    return annotation if isinstance(annotation, type) and issubclass(annotation, classes) else None


def _caller(function: Callable[..., Any], takes: Takes) -> Callable[..., Any]:
    """`function`, called with a payload (and a request, if it takes one)."""
    if takes is Takes.NOTHING:
        return lambda payload: function()
    if takes is Takes.REQUEST:
        return lambda payload, request: function(request)
    return function


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
