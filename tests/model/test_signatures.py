"""Parameters and annotations of whatever can stand for a method, text annotations resolved where they can be."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request as StarletteRequest

import fastserve
from fastserve.model.signatures import EMPTY, read_signature

# As a model's module is run: outside sys.modules, its annotations all text.
SOURCE = """
from __future__ import annotations
import functools, typing
from typing import TYPE_CHECKING, Optional
import fastapi, fastserve
from starlette.requests import Request
if TYPE_CHECKING:
    from somewhere import Absent

Alias = fastapi.Request
Circular = "Circular"

def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

class Called:
    def __call__(self, x: dict, request: Request) -> list: ...

class Model:
    def plain(self, x: dict, request: Request) -> list[int]: ...
    def dotted(self, x, request: fastapi.Request): ...
    def ours(self, x, request: fastserve.Request): ...
    def alias(self, x, request: Alias): ...
    def quoted(self, x: "Optional[dict]", request: "Request") -> "None": ...
    def absent(self, x: Absent, request: Request) -> typing.Absent: ...
    def circular(self, x: Circular, request: Request): ...
    def failing(self, x: 1 / 0, request: Request): ...
    def none(self, x: None) -> None: ...
    @logged
    def wrapped(self, x: dict, request: Request) -> list: ...
    @functools.lru_cache
    def cached(self, x: dict, request: Request) -> list: ...
    @staticmethod
    def static(x: dict, request: Request) -> list: ...
    @classmethod
    def of_class(cls, x: dict, request: Request) -> list: ...
    @staticmethod
    @logged
    def static_wrapped(x: dict, request: Request) -> list: ...
    def three(self, first, x: dict, request: Request) -> list: ...
    partial = functools.partialmethod(three, 1)
    called = Called()
    async def coroutine(self, x: dict, request: Request) -> list: ...
    async def stream(self, x: dict, request: Request) -> list:
        yield x

    def __init__(self):
        self.bound_partial = functools.partial(self.three, 1)
        self.twice_partial = functools.partial(functools.partial(Model.three, self), 1)
        self.partial_of_wrapped = functools.partial(logged(Model.three), self, 1)
        self.wrapped_partial = logged(self.bound_partial)
        self.lambda_ = lambda x, request: None
"""


@pytest.fixture(scope="module")
def model() -> Any:
    module = types.ModuleType("model")
    exec(SOURCE, module.__dict__)
    assert "model" not in sys.modules
    return module.__dict__["Model"]()


def annotations_of(function: Callable[..., Any]) -> list[Any]:
    """Of each parameter, then of the result."""
    signature = read_signature(function)
    return [p.annotation for p in signature.parameters.values()] + [signature.return_annotation]


@pytest.mark.parametrize(
    "name",
    [
        "wrapped",
        "cached",
        "static",
        "of_class",
        "static_wrapped",
        "partial",
        "called",
        "coroutine",
        "stream",
        "bound_partial",
        "twice_partial",
        "partial_of_wrapped",
        "wrapped_partial",
    ],
)
def test_text_annotations_mean_what_they_do_where_the_function_stands(model: Any, name: str) -> None:
    assert annotations_of(getattr(model, name)) == [dict, StarletteRequest, list]


@pytest.mark.parametrize(
    ("name", "annotations"),
    [
        ("plain", [dict, StarletteRequest, list[int]]),
        ("dotted", [EMPTY, StarletteRequest, EMPTY]),
        ("ours", [EMPTY, fastserve.Request, EMPTY]),
        ("alias", [EMPTY, StarletteRequest, EMPTY]),
        ("none", [None, None]),
        ("lambda_", [EMPTY, EMPTY, EMPTY]),
    ],
)
def test_names_dotted_names_and_aliases_are_looked_up(model: Any, name: str, annotations: list[Any]) -> None:
    assert annotations_of(getattr(model, name)) == annotations


def test_an_annotation_in_quotes_is_resolved_although_it_is_text_twice(model: Any) -> None:
    annotations = annotations_of(model.quoted)
    assert annotations[1:] == [StarletteRequest, None]
    assert not isinstance(annotations[0], str)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("absent", "Absent", "typing.Absent"), ("circular", "Circular", EMPTY), ("failing", "1 / 0", EMPTY)],
)
def test_what_cannot_be_resolved_stays_text_and_the_rest_is_resolved(
    model: Any, name: str, first: object, last: object
) -> None:
    assert annotations_of(getattr(model, name)) == [first, StarletteRequest, last]


def test_a_class_made_in_a_function_is_not_found_and_stays_text() -> None:
    class Inner: ...

    def predict(x: Inner) -> None: ...

    assert annotations_of(predict) == ["Inner", None]


def test_annotations_that_are_objects_are_left_alone() -> None:
    def predict(x, y): ...  # type: ignore[no-untyped-def]

    predict.__annotations__ = {"x": list[int], "return": StarletteRequest}
    assert annotations_of(predict) == [list[int], EMPTY, StarletteRequest]


def test_a_callable_in_c_has_a_signature_or_raises() -> None:
    assert list(read_signature(len).parameters) == ["obj"]
    assert list(read_signature([].append).parameters) == ["object"]
    with pytest.raises(ValueError, match="no signature"):
        read_signature(max)


def test_a_chain_of_wrappers_in_a_circle_raises_value_error() -> None:
    def predict(x): ...  # type: ignore[no-untyped-def]

    predict.__wrapped__ = predict  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="wrapper loop"):
        read_signature(predict)


def test_a_class_can_be_called_too() -> None:
    class Result:
        def __init__(self, x: dict[str, int]) -> None: ...

    assert list(read_signature(Result).parameters) == ["x"]
    assert read_signature(Result).parameters["x"].annotation == dict[str, int]


def test_a_signature_given_by_hand_is_believed() -> None:
    def predict(*args: Any) -> Any: ...

    parameter = inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY, annotation="StarletteRequest")
    predict.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    assert annotations_of(predict) == [StarletteRequest, EMPTY]
    assert annotations_of(functools.partial(predict)) == [StarletteRequest, EMPTY]
