"""Spans of a model's methods, whatever kind they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fastserve.model.contract import Kind, Method, Takes
from fastserve.model.spans import with_spans

_exporter = InMemorySpanExporter()
_provider = TracerProvider(shutdown_on_exit=False)
_provider.add_span_processor(SimpleSpanProcessor(_exporter))


def wrapped(kind: Kind, call: Any) -> Any:
    method = with_spans(Method("predict", kind, call, Takes.INPUTS), _provider.get_tracer("test"))
    assert (method.name, method.kind, method.takes) == ("predict", kind, Takes.INPUTS)
    return method.call


@pytest.fixture(autouse=True)
def _no_spans() -> Iterator[None]:
    _exporter.clear()
    yield


def ended() -> list[str]:
    return [span.name for span in _exporter.get_finished_spans()]


def current() -> str:
    """The span that is current, as it is called; of none, nothing."""
    return getattr(trace.get_current_span(), "name", "")


async def collect(generator: AsyncGenerator[Any, None]) -> list[Any]:
    return [item async for item in generator]


def test_a_plain_method() -> None:
    call = wrapped(Kind.SYNC, lambda *arguments: (*arguments, current()))
    assert call(1, "request") == (1, "request", "predict")
    assert ended() == ["predict"]
    assert current() == ""


def test_a_coroutine() -> None:
    async def predict(payload: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return payload, current()

    assert asyncio.run(wrapped(Kind.COROUTINE, predict)(1)) == (1, "predict")
    assert ended() == ["predict"]


def test_a_generator_has_it_as_long_as_it_yields() -> None:
    def predict(payload: int) -> Iterator[str]:
        yield current()
        yield current()

    generator = wrapped(Kind.GENERATOR, predict)(1)
    assert type(generator) is GeneratorType
    assert next(generator) == "predict"
    assert ended() == []
    assert list(generator) == ["predict"]
    assert ended() == ["predict"]


def test_an_async_generator_has_it_as_long_as_it_yields() -> None:
    async def predict(payload: int) -> AsyncGenerator[str, None]:
        yield current()
        await asyncio.sleep(0)
        yield current()

    generator = wrapped(Kind.ASYNC_GENERATOR, predict)(1)
    assert type(generator) is AsyncGeneratorType
    assert asyncio.run(collect(generator)) == ["predict", "predict"]
    assert ended() == ["predict"]


def test_a_generator_that_is_returned_has_a_span_of_its_own() -> None:
    generator = wrapped(Kind.SYNC, lambda payload: (current() for _ in range(2)))(1)
    assert ended() == ["predict"]
    assert list(generator) == ["predict.stream"] * 2
    assert ended() == ["predict", "predict.stream"]


def test_an_async_generator_that_is_returned_has_a_span_of_its_own() -> None:
    async def stream() -> AsyncGenerator[str, None]:
        yield current()

    async def predict(payload: int) -> AsyncGenerator[str, None]:
        return stream()

    async def play() -> list[str]:
        return await collect(await wrapped(Kind.COROUTINE, predict)(1))

    assert asyncio.run(play()) == ["predict.stream"]
    assert ended() == ["predict", "predict.stream"]


def test_one_that_is_closed_early_ends_without_an_error_and_closes_what_is_in_it() -> None:
    told = []

    def predict(payload: int) -> Iterator[int]:
        try:
            yield 1
        finally:
            told.append("closed")

    generator = wrapped(Kind.GENERATOR, predict)(1)
    next(generator)
    generator.close()
    assert told == ["closed"]
    assert ended() == ["predict"]
    assert _exporter.get_finished_spans()[0].status.is_unset


def test_an_async_one_that_is_closed_early_closes_what_is_in_it() -> None:
    told = []

    async def predict(payload: int) -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            told.append("closed")

    async def play() -> None:
        generator = wrapped(Kind.ASYNC_GENERATOR, predict)(1)
        await generator.asend(None)
        await generator.aclose()

    asyncio.run(play())
    assert (told, ended()) == (["closed"], ["predict"])


def test_what_it_raises_is_told_and_raised() -> None:
    def predict(payload: int) -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        wrapped(Kind.SYNC, predict)(1)
    (span,) = _exporter.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]
