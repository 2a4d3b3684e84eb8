"""What a model object may look like: the kinds of its methods, what they take, which must be there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from fastserve.errors import ModelDefinitionError
from fastserve.model.contract import Kind, Method, read_contract


def model_with(**methods: Any) -> object:
    """A model whose class has these attributes."""
    return type("Model", (), methods)()


def predict_of(model: object) -> Method:
    predict = read_contract(model).predict
    assert predict is not None
    return predict


def plain(self: object, model_input: Any) -> Any:
    return model_input


async def coroutine(self: object, model_input: Any) -> Any:
    return model_input


def generator(self: object, model_input: Any) -> Generator[Any, None, None]:
    yield model_input


async def async_generator(self: object, model_input: Any) -> AsyncGenerator[Any, None]:
    yield model_input


class Called:
    def __call__(self, model_input: Any) -> Any:
        return model_input


class CalledAsync:
    async def __call__(self, model_input: Any) -> Any:
        return model_input


class CalledStreaming:
    def __call__(self, model_input: Any) -> Generator[Any, None, None]:
        yield model_input


class CalledStreamingAsync:
    async def __call__(self, model_input: Any) -> AsyncGenerator[Any, None]:
        yield model_input


@functools.wraps(plain)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return plain(*args, **kwargs)


KINDS = [
    (plain, Kind.SYNC),
    (coroutine, Kind.COROUTINE),
    (generator, Kind.GENERATOR),
    (async_generator, Kind.ASYNC_GENERATOR),
    (staticmethod(functools.partial(coroutine, None)), Kind.COROUTINE),
    (classmethod(plain), Kind.SYNC),
    (staticmethod(lambda model_input: model_input), Kind.SYNC),
    (wrapped, Kind.SYNC),
    (Called(), Kind.SYNC),
    (CalledAsync(), Kind.COROUTINE),
    (CalledStreaming(), Kind.GENERATOR),
    (CalledStreamingAsync(), Kind.ASYNC_GENERATOR),
]


@pytest.mark.parametrize("name", ["preprocess", "predict", "postprocess"])
@pytest.mark.parametrize("method, kind", KINDS)
def test_a_method_is_classified_by_what_calling_it_returns(name: str, method: object, kind: Kind) -> None:
    contract = read_contract(model_with(**{"predict": plain, name: method}))
    read = getattr(contract, name)
    assert (read.name, read.kind) == (name, kind)
    assert callable(read.call)


def test_a_method_set_in_init_counts_too() -> None:
    model = model_with(predict=plain)
    model.postprocess = functools.partial(coroutine, model)  # type: ignore[attr-defined]
    postprocess = read_contract(model).postprocess
    assert postprocess is not None
    assert postprocess.kind is Kind.COROUTINE


def test_steps_that_are_not_there_or_none_are_left_out() -> None:
    contract = read_contract(model_with(predict=plain, preprocess=None))
    assert contract.preprocess is None
    assert contract.postprocess is None


def no_arguments(self: object) -> str:
    return "called"


def one_with_default(self: object, model_input: Any = None) -> Any:
    return model_input


def one_by_star(self: object, *args: Any) -> Any:
    return args


@pytest.mark.parametrize(
    "method, result", [(no_arguments, "called"), (plain, 7), (one_with_default, 7), (one_by_star, (7,))]
)
def test_call_takes_the_payload_whatever_the_method_takes(method: Callable[..., Any], result: object) -> None:
    assert predict_of(model_with(predict=method)).call(7) == result


def test_a_coroutine_method_without_arguments_is_still_awaited() -> None:
    async def predict(self: object) -> str:
        return "called"

    method = predict_of(model_with(predict=predict))
    assert method.kind is Kind.COROUTINE
    awaitable = method.call(7)
    assert inspect.iscoroutine(awaitable)
    awaitable.close()


def two(self: object, model_input: Any, request: Any) -> Any: ...


def two_with_default(self: object, model_input: Any, k: int = 1) -> Any: ...


def three(self: object, a: Any, b: Any, c: Any) -> Any: ...


def stars(self: object, a: Any, *args: Any, **kwargs: Any) -> Any: ...


@pytest.mark.parametrize("name", ["preprocess", "predict", "postprocess"])
@pytest.mark.parametrize(
    "method, words",
    [
        (two, "must have request as second argument"),
        (two_with_default, "must have request as second argument"),
        (three, "cannot have more than two arguments"),
        (stars, "cannot have more than two arguments"),
    ],
)
def test_more_arguments_than_the_payload_are_refused(name: str, method: object, words: str) -> None:
    with pytest.raises(ModelDefinitionError) as refused:
        read_contract(model_with(**{"predict": plain, name: method}))
    for word in (f"`{name}`", words, f"def {name}(self, model_input)"):
        assert word in str(refused.value)


@pytest.mark.parametrize("name", ["preprocess", "postprocess"])
def test_a_step_that_cannot_be_called_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelDefinitionError, match=f"`{name}`"):
        read_contract(model_with(**{"predict": plain, name: 5}))


def test_a_function_in_c_without_a_signature_is_called_with_the_input() -> None:
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(max)
    method = predict_of(model_with(predict=staticmethod(max)))
    assert (method.kind, method.call([1, 3, 2])) == (Kind.SYNC, 3)


@pytest.mark.parametrize("methods", [{}, {"predict": None, "preprocess": plain}])
def test_a_model_without_predict_is_told_to_add_it(methods: dict[str, Any]) -> None:
    with pytest.raises(ModelDefinitionError, match=r"must have a `predict`.*add `def predict\(self, model_input\)`"):
        read_contract(model_with(**methods))


def test_a_websocket_alone_is_enough() -> None:
    contract = read_contract(model_with(websocket=coroutine))
    assert contract.predict is None
    assert contract.websocket is not None
