"""A runtime whose model asks for batches, jobs whose answers can be awaited, and a predict that notes its batches."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fastserve.config import Config
from fastserve.model import threads
from fastserve.model import version as version_module
from fastserve.model.directory import ModelDirectory
from fastserve.model.runtime import Runtime
from fastserve.model.steps import Job
from fastserve.model.streams import Stream

PATIENCE_S = 20.0

Serve = Callable[..., None]


class Asked(Job):
    """A job whose end can be awaited. Its stream is read as it comes, unless it `reads` not. asked: the payload."""

    def __init__(self, payload: Any, *, whole: bool = False, reads: bool = True) -> None:
        super().__init__(payload)
        self.asked = payload
        self.whole = whole
        self.reads = reads
        self.content = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wants_whole(self) -> bool:
        return self.whole

    def encode(self) -> Any:
        return self.value

    def on_result(self) -> None:
        if self.stream is not None:
            assert self.stream.is_done
            self.on_chunks(self.stream)
        self.over.set_result(None)  # a second time would be an error

    def on_chunks(self, stream: Stream) -> None:
        if self.reads:
            self.read()

    def read(self) -> None:
        assert self.stream is not None
        while not self.stream.is_empty:
            self.content += b"".join(self.stream.take())

    @property
    def failure(self) -> BaseException | None:
        return self.stream.error if self.stream is not None else self.error

    async def answer(self) -> Any:
        """The result, or all of the stream. Raises what user code raised."""
        await self.over
        if self.failure is not None:
            raise self.failure
        return self.content.decode() if self.stream is not None else self.value


def submit(runtime: Runtime, *payloads: Any, whole: bool = False) -> list[Asked]:
    """Send them all in one turn of the loop."""
    jobs = [Asked(payload, whole=whole) for payload in payloads]
    for job in jobs:
        runtime.predict.submit(job)
    return jobs


async def ask(runtime: Runtime, payload: Any) -> Any:
    return await submit(runtime, payload)[0].answer()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends
        await asyncio.sleep(0.0005)


def wait(event: threading.Event) -> None:
    """Block a model's method on `event`, but not for ever."""
    assert event.wait(PATIENCE_S)


def methods(**named: Any) -> Any:
    """A model class with these methods, each a function of the payload alone."""
    return type("Model", (), {name: staticmethod(function) for name, function in named.items()})


class Recorder:
    """A predict of some kind, which answers each input for itself; a generator sends the answer letter by letter.

    batches: what it was given. A batch with "hold" in it waits at the gate.
    """

    def __init__(self, kind: str, answer: Callable[[Any], str] = lambda value: f"p({value})") -> None:
        self.batches: list[list[Any]] = []
        self._answer = answer
        self._gate, self._gate_on_loop = threading.Event(), asyncio.Event()
        self.predict: Any = getattr(self, f"_{kind}")

    def open_gate(self) -> None:
        self._gate.set()
        self._gate_on_loop.set()

    async def hold(self, runtime: Runtime) -> None:
        """Have the one slot be taken until the gate is opened."""
        submit(runtime, "hold")
        await until(lambda: self.batches == [["hold"]])

    def _plain(self, inputs: list[Any]) -> list[str]:
        self.batches.append(inputs)
        if "hold" in inputs:
            wait(self._gate)
        return [self._answer(value) for value in inputs]

    async def _coroutine(self, inputs: list[Any]) -> list[str]:
        self.batches.append(inputs)
        if "hold" in inputs:
            await self._gate_on_loop.wait()
        return [self._answer(value) for value in inputs]

    def _generator(self, inputs: list[Any]) -> Generator[list[str | None], None, None]:
        for letters in itertools.zip_longest(*self._plain(inputs)):
            yield list(letters)

    async def _async_generator(self, inputs: list[Any]) -> AsyncGenerator[list[str | None], None]:
        for letters in itertools.zip_longest(*await self._coroutine(inputs)):
            yield list(letters)

    def _plain_returns_generator(self, inputs: list[Any]) -> Any:
        return self._generator(inputs)

    def _plain_returns_async_generator(self, inputs: list[Any]) -> Any:
        return self._async_generator(inputs)

    async def _coroutine_returns_async_generator(self, inputs: list[Any]) -> Any:
        return self._async_generator(inputs)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """serve(Model, scenario): load it into a runtime, play the scenario, stop; no thread may be left behind.

    ends_idle: nor anything in flight. max_batch_size: None for no batches at all.
    """
    monkeypatch.setattr(threads, "STOP_S", 5.0)

    def serve(
        model: Callable[[], Any],
        scenario: Callable[[Runtime], Awaitable[None]],
        *,
        slots: int = 1,
        encode: Callable[[Any], Any] = lambda value: value,
        ends_idle: bool = True,
        max_batch_size: int | None = 8,
        batch_wait_ms: float = 0,
        on_batch_error: str | None = None,
        **settings: Any,
    ) -> None:
        monkeypatch.setattr(Asked, "encode", lambda job: encode(job.value))
        monkeypatch.setattr(version_module, "make_model", lambda *_: model())
        said = {"max_batch_size": max_batch_size, "batch_wait_ms": batch_wait_ms, "on_batch_error": on_batch_error}
        directory = ModelDirectory(Path("/nowhere"), {}, {"batching": said} if max_batch_size else {})
        before = set(threading.enumerate())
        loop = uvloop.new_event_loop()
        runtime = Runtime(loop, directory, Config(predict_concurrency=slots, **settings))

        async def play() -> None:
            await runtime.load()
            await scenario(runtime)
            if ends_idle:
                await runtime.wait_idle()

        try:
            main = loop.create_task(play(), name="main")
            loop.call_later(PATIENCE_S, main.cancel)
            loop.run_until_complete(main)
            loop.run_until_complete(loop.shutdown_asyncgens())
        except (SystemExit, KeyboardInterrupt) as error:  # pytest itself would end
            raise AssertionError("user code has stopped the loop") from error
        finally:
            has_stopped = runtime.stop()
            loop.close()
        assert has_stopped
        assert set(threading.enumerate()) <= before
        assert runtime.in_flight == 0 or not ends_idle
        assert runtime._budget.used == 0

    return serve
