"""The methods of a model, each call of which is a span of OpenTelemetry's: the current one while it runs.

Its parent is what is current in the request's context: the span of the request. Called by `version.py`, if there is
a tracer at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from fastserve.model.contract import Kind, Method


def with_spans(method: Method, tracer: Any) -> Method:
    """`method`, with a span of its name for each call.

    That of a generator lasts as long as it yields; one that a plain function or coroutine returns has a span of its
    own, `NAME.stream`, as that of the call is over by then.
    """
    return dataclasses.replace(method, call=_WRAPPERS[method.kind](method.call, method.name, tracer))


def _plain(call: Callable[..., Any], name: str, tracer: Any) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        with tracer.start_as_current_span(name):
            value = call(*arguments)
        return _if_stream(value, name, tracer)

    return run


def _coroutine(call: Callable[..., Any], name: str, tracer: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def run(*arguments: Any) -> Any:
        with tracer.start_as_current_span(name):
            value = await call(*arguments)
        return _if_stream(value, name, tracer)

    return run


def _generator(call: Callable[..., Any], name: str, tracer: Any) -> Callable[..., Any]:
    return lambda *arguments: _iterate(call(*arguments), name, tracer)


def _async_generator(call: Callable[..., Any], name: str, tracer: Any) -> Callable[..., Any]:
    return lambda *arguments: _iterate_async(call(*arguments), name, tracer)


def _if_stream(value: Any, name: str, tracer: Any) -> Any:
    """`value`; with a span around what it yields, if it is a generator."""
    if type(value) is GeneratorType:
        return _iterate(value, f"{name}.stream", tracer)
    if type(value) is AsyncGeneratorType:
        return _iterate_async(value, f"{name}.stream", tracer)
    return value


def _iterate(generator: Generator[Any, Any, Any], name: str, tracer: Any) -> Generator[Any, Any, Any]:
    with tracer.start_as_current_span(name):
        return (yield from generator)


async def _iterate_async(generator: AsyncGenerator[Any, Any], name: str, tracer: Any) -> AsyncGenerator[Any, None]:
    with tracer.start_as_current_span(name):
        try:
            async for item in generator:
                yield item
        finally:
            await generator.aclose()


_WRAPPERS: Final = {
    Kind.SYNC: _plain,
    Kind.COROUTINE: _coroutine,
    Kind.GENERATOR: _generator,
    Kind.ASYNC_GENERATOR: _async_generator,
}
