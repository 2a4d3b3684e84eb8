"""What annotations say, as JSON Schema: what Truss computes of each, and what it leaves out."""

from __future__ import annotations

import collections.abc
import json
import sys
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Optional, TypedDict, Union

import pydantic
import pydantic.v1 as pydantic_1
import pytest

from fastserve.model.annotations import make_adapter
from fastserve.model.contract import read_contract
from fastserve.model.schemas import describe, make_schema, read_types
from fastserve.model.signatures import EMPTY
from fastserve.model.typed import read_inputs


class Item(pydantic.BaseModel):
    name: str = pydantic.Field(alias="n", description="what it is called")


class In(pydantic.BaseModel):
    """What is asked."""

    prompt: str
    items: list[Item] = []


class Out(pydantic.BaseModel):
    text: str

    @pydantic.computed_field
    def length(self) -> int:
        return len(self.text)


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Point(TypedDict):
    x: int


@dataclass
class Box:
    width: float


class Old(pydantic_1.BaseModel):
    text: str


# What Truss's own `TrussSchema.from_signature(...).serialize()` says, recorded with pydantic 2.14.
IN = json.loads(
    '{"$defs": {"Item": {"properties": {"n": {"description": "what it is called", "title": "N", "type": "string"}}, '
    '"required": ["n"], "title": "Item", "type": "object"}}, "description": "What is asked.", "properties": '
    '{"prompt": {"title": "Prompt", "type": "string"}, "items": {"default": [], "items": {"$ref": "#/$defs/Item"}, '
    '"title": "Items", "type": "array"}}, "required": ["prompt"], "title": "In", "type": "object"}'
)
OUT = json.loads(
    '{"properties": {"text": {"title": "Text", "type": "string"}}, "required": ["text"], "title": "Out", '
    '"type": "object"}'
)
NUMBERS = {"items": {"type": "integer"}, "title": "Numbers", "type": "array"}
POINT = {
    "properties": {"x": {"title": "X", "type": "integer"}},
    "required": ["x"],
    "title": "Point",
    "type": "object",
}


def describe_predict(takes: Any, returns: Any) -> dict[str, Any] | None:
    """Truss's account of a model whose predict has these annotations."""

    class Model:
        def predict(self, model_input):  # type: ignore[no-untyped-def]
            ...

    named = {"model_input": takes, "return": returns}
    Model.predict.__annotations__ = {name: value for name, value in named.items() if value is not EMPTY}
    contract = read_contract(Model())
    return describe(read_types(contract, read_inputs(contract)).get("predict"))


def account(takes: Any, returns: Any, supports_streaming: bool | None) -> dict[str, Any]:
    return {"input_schema": takes, "output_schema": returns, "supports_streaming": supports_streaming}


@pytest.mark.parametrize(
    "returns, schema, supports_streaming",
    [
        (Out, OUT, False),
        (Numbers, NUMBERS, False),
        (Generator[str, None, None], None, True),
        (Iterator[str], None, True),
        (AsyncGenerator[str, None], None, True),
        (AsyncIterator[str], None, True),
        (Awaitable[Out], OUT, False),
        (Union[Out, Generator[str, None, None]], OUT, True),  # noqa: UP007
        (Union[Iterator[str], Out], OUT, True),  # noqa: UP007
        (Union[Awaitable[Out], AsyncGenerator[str, None]], OUT, True),  # noqa: UP007
        (Out | Generator[str, None, None], OUT, True),  # to Truss, before Python 3.14, nothing
        (Coroutine[Any, Any, Out], OUT, False),  # with which Truss does not load
    ],
)
def test_what_truss_makes_of_results(returns: Any, schema: Any, supports_streaming: bool) -> None:
    assert describe_predict(dict, returns) == account(None, schema, supports_streaming)
    assert describe_predict(In, returns) == account(IN, schema, supports_streaming)


@pytest.mark.parametrize(
    "returns",
    [
        EMPTY,
        None,
        str,
        dict[str, Any],
        collections.abc.Generator,
        collections.abc.Iterable[str],
        Awaitable[str],
        Awaitable[Generator[str, None, None]],
        Union[str, Generator[str, None, None]],  # noqa: UP007
        Union[Awaitable[str], AsyncGenerator[str, None]],  # noqa: UP007
        Union[Generator[str, None, None], AsyncGenerator[str, None]],  # noqa: UP007
        Awaitable,
        typing.Awaitable,  # with which Truss does not load
        "Unresolved",
    ],
)
def test_of_which_results_truss_knows_nothing(returns: Any) -> None:
    assert describe_predict(In, returns) == account(IN, None, None)
    for takes in (EMPTY, dict, "Unresolved"):
        assert describe_predict(takes, returns) is None


@pytest.mark.parametrize(
    "takes, returns, schemas",
    [
        (
            Point,
            list[Point],
            (POINT, {"type": "array", "items": {"$ref": "#/$defs/Point"}, "$defs": {"Point": POINT}}),
        ),
        (Optional[In], Out | None, None),  # noqa: UP045
        (Box, Awaitable[Box], None),
        (Old, Old, (Old.schema(), Old.schema())),
    ],
)
def test_what_truss_has_no_schema_for(takes: Any, returns: Any, schemas: Any) -> None:
    value = Box if returns == Awaitable[Box] else returns
    expected = schemas or (make_adapter(takes).json_schema(), make_adapter(value).json_schema())
    assert describe_predict(takes, returns) == account(expected[0], expected[1], False)


def test_the_first_and_the_last_method_count_and_openai_ones_for_themselves() -> None:
    class Model:
        def preprocess(self, model_input: In) -> Any: ...

        def predict(self, model_input: Item) -> Any: ...

        def postprocess(self, result: Item) -> Out:
            return Out(text="")

        def completions(self, model_input: Numbers) -> Generator[str, None, None]:
            yield ""

    contract = read_contract(Model())
    types = read_types(contract, read_inputs(contract))
    assert describe(types["predict"]) == account(IN, OUT, False)
    assert describe(types["completions"]) == account(NUMBERS, None, True)
    assert (types["predict"].is_stream, types["completions"].is_stream) == (False, True)


def test_a_model_with_a_websocket_alone_has_no_types() -> None:
    class Model:
        async def websocket(self, websocket: Any) -> None: ...

    assert read_types(read_contract(Model()), {}) == {}
    assert describe(None) is None


def test_results_are_described_as_they_are_written() -> None:
    written = make_schema(Out, "#/x/{model}", is_result=True)
    assert written is not None
    assert set(written["properties"]) == {"text", "length"}
    assert make_schema(In, "#/x/{model}", is_result=True) == {
        **IN,
        "properties": {
            "prompt": {"title": "Prompt", "type": "string"},
            "items": {"default": [], "items": {"$ref": "#/x/Item"}, "title": "Items", "type": "array"},
        },
        "$defs": {
            "Item": {
                "properties": {"name": {"description": "what it is called", "title": "Name", "type": "string"}},
                "required": ["name"],
                "title": "Item",
                "type": "object",
            }
        },
    }


def test_pydantic_is_not_imported_for_the_sake_of_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pydantic", "pydantic.main", "pydantic.v1.main"):
        monkeypatch.delitem(sys.modules, name)
    assert make_schema(Box) is None
    assert describe_predict(dict, Box) is None
    assert "pydantic" not in sys.modules
