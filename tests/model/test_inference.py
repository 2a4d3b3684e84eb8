"""`inference_mode`: predict runs in it from its call to the end of its output, and what cannot is refused at load."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fastserve.errors import ModelDefinitionError, SetupError
from fastserve.model.runtime import Runtime
from tests.model.test_runtime import Asked, ask, methods

# As torch's: of one thread.
MODE = threading.local()


@contextlib.contextmanager
def inference_mode() -> Iterator[None]:
    MODE.is_on = True
    try:
        yield
    finally:
        MODE.is_on = False


def is_on() -> bool:
    return getattr(MODE, "is_on", False)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(inference_mode=inference_mode))


def plain(payload: Any) -> Any:
    return is_on()


def generator(payload: Any) -> Generator[str, None, None]:
    yield f"{is_on()} "
    yield str(is_on())


async def async_generator(payload: Any) -> AsyncGenerator[str, None]:
    yield str(is_on())


async def coroutine(payload: Any) -> Any:
    return is_on()


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "predict, expected", [(plain, True), (generator, "True True"), (lambda p: generator(p), "True True")]
)
def test_predict_runs_in_it_from_its_call_to_its_last_chunk(
    serve: Callable[..., Any], predict: Any, expected: Any, whole: bool
) -> None:
    async def scenario(runtime: Runtime) -> None:
        for _ in range(2):
            assert await ask(runtime, "x", whole=whole) == expected

    serve(methods(predict=predict), scenario, inference_mode=True)


@pytest.mark.usefixtures("torch")
def test_what_predict_made_is_encoded_in_it_and_nothing_else_runs_in_it(serve: Callable[..., Any]) -> None:
    class Model:
        def __init__(self) -> None:
            self.seen = [is_on()]

        def load(self) -> None:
            self.seen.append(is_on())

        def preprocess(self, payload: Any) -> Any:
            self.seen.append(is_on())
            return payload

        def predict(self, payload: Any) -> Any:
            return self.seen

    async def scenario(runtime: Runtime) -> Any:
        return await ask(runtime, "x")

    assert serve(Model, scenario, inference_mode=True, encode=lambda value: (value, is_on())) == ([False] * 3, True)


@pytest.mark.usefixtures("torch")
def test_it_is_left_though_predict_fails(serve: Callable[..., Any]) -> None:
    def predict(payload: Any) -> Any:
        raise SystemExit(3)

    async def scenario(runtime: Runtime) -> None:
        assert runtime.version is not None
        job = Asked("x")
        runtime.predict.submit(job)
        await job.over
        assert isinstance(job.failure, SystemExit)
        assert await runtime.version._on_predict_thread(is_on) is False

    serve(methods(predict=predict), scenario, inference_mode=True)


@pytest.mark.usefixtures("torch")
def test_without_the_option_nothing_runs_in_it(serve: Callable[..., Any]) -> None:
    async def scenario(runtime: Runtime) -> None:
        assert await ask(runtime, "x") is False

    serve(methods(predict=plain), scenario)


async def never(runtime: Runtime) -> None:
    raise AssertionError


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("predict", [coroutine, async_generator])
def test_an_async_predict_is_refused_since_it_shares_its_thread(serve: Callable[..., Any], predict: Any) -> None:
    with pytest.raises(ModelDefinitionError, match="state of a thread, and an async `predict` shares the loop's"):
        serve(methods(predict=predict), never, inference_mode=True)


@pytest.mark.usefixtures("torch")
def test_a_model_without_predict_is_refused(serve: Callable[..., Any]) -> None:
    async def websocket(websocket: Any) -> None: ...

    with pytest.raises(ModelDefinitionError, match="for `predict`, which this model has not"):
        serve(methods(websocket=websocket), never, inference_mode=True)


@pytest.mark.usefixtures("torch")
def test_an_async_generator_that_a_plain_predict_returns_is_an_error(serve: Callable[..., Any]) -> None:
    async def scenario(runtime: Runtime) -> None:
        with pytest.raises(ModelDefinitionError, match="async generator, which runs on the loop"):
            await ask(runtime, "x")

    serve(methods(predict=lambda payload: async_generator(payload)), scenario, inference_mode=True)


def test_without_torch_it_is_refused(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        SetupError, match=r"inference_mode needs torch, which cannot be imported .*fastserve\[torch\]"
    ):
        serve(methods(predict=plain), never, inference_mode=True)
