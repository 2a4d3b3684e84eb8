"""What batching asks of the class: refused at start what cannot work, and a request sees the types of one input."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

from fastserve import Request
from fastserve.errors import ModelDefinitionError
from fastserve.model.batched_contract import read_batched, read_size_of
from fastserve.model.contract import Contract, Method, read_contract
from fastserve.model.signatures import EMPTY


class Item(BaseModel):
    value: int


class Typed(TypedDict):
    value: int


def read(predict: Any, **others: Any) -> Contract:
    """The contract of a model with these functions as methods, as one request sees it."""
    model = type("Model", (), {"predict": predict, **others})()
    return read_batched(read_contract(model))


def predict_of(annotation: Any, returned: Any = EMPTY) -> Method:
    def predict(self: Any, inputs: Any) -> Any: ...

    predict.__annotations__ = {"inputs": annotation}
    if returned is not EMPTY:
        predict.__annotations__["return"] = returned
    method = read(predict).predict
    assert method is not None
    return method


@pytest.mark.parametrize(
    "annotation, item",
    [
        (list[Item], Item),
        (list[Typed], Typed),
        (Sequence[Item], Item),
        (Iterable[bytes], bytes),
        (list[list[int]], list[int]),
        (list, EMPTY),
        (Sequence, EMPTY),
        (object, EMPTY),
        (Any, EMPTY),
        (list[Item] | None, EMPTY),
        ("list[Unknown]", EMPTY),
    ],
)
def test_one_input_is_what_the_list_is_of(annotation: Any, item: Any) -> None:
    assert predict_of(annotation).input_type is item or predict_of(annotation).input_type == item


def test_without_an_annotation_an_input_may_be_anything() -> None:
    method = read(lambda self, inputs: inputs).predict
    assert method is not None
    assert (method.input_type, method.output_type) == (EMPTY, EMPTY)


@pytest.mark.parametrize("annotation", [Item, Typed, dict, str, bytes, dict[str, Any], tuple[Item, ...]])
def test_an_annotation_that_is_no_list_is_refused(annotation: Any) -> None:
    with pytest.raises(ModelDefinitionError, match="is given a list of inputs: write `list"):
        predict_of(annotation)


@pytest.mark.parametrize(
    "returned, result",
    [
        (list[Item], Item),
        (list, EMPTY),
        (Iterator[list[str]], Iterator[list[str]]),
        (AsyncIterator[list[str]], AsyncIterator[list[str]]),
        (dict[str, int], dict[str, int]),
    ],
)
def test_one_result_is_what_the_list_is_of(returned: Any, result: Any) -> None:
    assert predict_of(EMPTY, returned).output_type == result


def test_a_predict_that_takes_the_request_is_refused() -> None:
    def both(self: Any, inputs: Any, request: Request) -> None: ...

    def alone(self: Any, request: Request) -> None: ...

    for predict in (both, alone):
        with pytest.raises(ModelDefinitionError, match="a batch has those of many clients: take it in `preprocess`"):
            read(predict)


def test_the_steps_around_it_may_take_the_request() -> None:
    def step(self: Any, value: Any, request: Request) -> None: ...

    contract = read(lambda self, inputs: inputs, preprocess=step, postprocess=step)
    assert contract.preprocess is not None
    assert contract.preprocess.request_type is Request


def test_a_predict_without_an_input_is_refused() -> None:
    with pytest.raises(ModelDefinitionError, match="`predict` takes no input, and a batch is a list of inputs"):
        read(lambda self: None)


def test_a_model_without_predict_is_refused() -> None:
    class Model:
        async def websocket(self, websocket: Any) -> None: ...

    with pytest.raises(ModelDefinitionError, match=re.escape("runtime.batching is for models with `predict`")):
        read_batched(read_contract(Model()))


# --- batch_size_of ---


def test_a_model_may_measure_its_inputs() -> None:
    class Model:
        def batch_size_of(self, model_input: str) -> int:
            return len(model_input)

    size_of = read_size_of(Model())
    assert size_of is not None
    assert size_of("four") == 4
    assert read_size_of(object()) is None


async def coroutine(self: Any, model_input: Any) -> int:
    return 1


def generator(self: Any, model_input: Any) -> Any:
    yield 1


def with_request(self: Any, model_input: Any, request: Request) -> int:
    return 1


@pytest.mark.parametrize("method", [coroutine, generator, with_request, lambda self: 1])
def test_a_measure_that_cannot_be_taken_at_once_is_refused(method: Any) -> None:
    with pytest.raises(ModelDefinitionError, match="`batch_size_of` takes one input and returns its size at once"):
        read_size_of(type("Model", (), {"batch_size_of": method})())


def test_a_measure_that_is_no_method_is_refused() -> None:
    with pytest.raises(ModelDefinitionError, match="`batch_size_of` is not a method but 5"):
        read_size_of(type("Model", (), {"batch_size_of": 5})())
