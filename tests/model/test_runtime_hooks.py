"""What the runtime calls beside `load` and the requests: setup_environment, is_healthy, collectors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from fastserve.config import Config
from fastserve.errors import LoadError, ModelDefinitionError, SetupError
from fastserve.gpus import Gpu
from fastserve.model import version as version_module
from fastserve.model.directory import ModelDirectory
from fastserve.model.runtime import Runtime
from fastserve.model.tally import Tally

T = TypeVar("T")
PATIENCE_S = 20.0


class Model:
    """calls: (method, argument, thread), in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, str]] = []

    def note(self, method: str, argument: Any = None) -> None:
        self.calls.append((method, argument, threading.current_thread().name))

    def setup_environment(self, environment: Any) -> Any:
        self.note("setup_environment", environment)

    def load(self) -> None:
        self.note("load")

    def is_healthy(self) -> Any:
        self.note("is_healthy")
        return True

    def predict(self, model_input: Any) -> None: ...


class AsyncModel(Model):
    async def setup_environment(self, environment: Any) -> None:
        await asyncio.sleep(0)
        self.note("setup_environment", environment)

    async def is_healthy(self) -> bool:
        self.note("is_healthy")
        return False


class AroundModel(AsyncModel):
    def setup_environment(self, environment: Any) -> Awaitable[None]:  # type: ignore[override]
        return AsyncModel.setup_environment(self, environment)


class Fails(Model):
    def setup_environment(self, environment: Any) -> None:
        raise SystemExit("no such environment")


class Yields(Model):
    def setup_environment(self, environment: Any) -> Any:
        yield


class Plain:
    def predict(self, model_input: Any) -> None: ...


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """serve(model, scenario): play it with the runtime, loaded unless it says otherwise."""

    def serve(model: Any, scenario: Callable[[Runtime], Awaitable[T]], *, loads: bool = True) -> T:
        monkeypatch.setattr(version_module, "make_model", lambda *_: model)
        before = set(threading.enumerate())
        loop = uvloop.new_event_loop()
        config = Config(dynamic_config_path=str(tmp_path))
        runtime = Runtime(loop, ModelDirectory(tmp_path, {}, {}), config)

        async def play() -> T:
            if loads:
                await runtime.load()
            return await scenario(runtime)

        try:
            return loop.run_until_complete(asyncio.wait_for(play(), PATIENCE_S))
        finally:
            assert runtime.stop()
            loop.close()
            assert set(threading.enumerate()) <= before

    return serve


async def nothing(runtime: Runtime) -> None: ...


@pytest.mark.parametrize(
    ("model", "thread"), [(Model, "fastserve-predict-0"), (AsyncModel, "MainThread"), (AroundModel, "MainThread")]
)
def test_the_environment_is_told_before_load_on_its_thread_or_on_the_loop(
    serve: Callable[..., Any], tmp_path: Path, model: type[Model], thread: str
) -> None:
    (tmp_path / "environment").write_text('{"name": "a"}')
    it = model()
    serve(it, nothing)
    assert it.calls == [("setup_environment", {"name": "a"}, thread), ("load", None, "fastserve-predict-0")]


def test_without_an_environment_nothing_is_told_but_it_is_watched(serve: Callable[..., Any], tmp_path: Path) -> None:
    it = Model()

    async def scenario(runtime: Runtime) -> None:
        assert runtime.environment is not None
        (tmp_path / "environment").write_text("1")
        await runtime.environment.poll()

    serve(it, scenario)
    assert it.calls == [("load", None, "fastserve-predict-0"), ("setup_environment", 1, it.calls[1][2])]
    assert it.calls[1][2].startswith("fastserve-hook-")


@pytest.mark.parametrize(
    ("model", "text", "kind"),
    [(Fails, "1", LoadError), (Yields, "1", ModelDefinitionError), (Model, "{", SetupError)],
)
def test_what_is_wrong_before_load_fails_it(
    serve: Callable[..., Any], tmp_path: Path, model: type[Model], text: str, kind: type[Exception]
) -> None:
    (tmp_path / "environment").write_text(text)
    it = model()
    with pytest.raises(kind):
        serve(it, nothing)
    assert it.calls == []  # `load` above all


@pytest.mark.parametrize(("model", "answer"), [(Model, True), (AsyncModel, False)])
def test_health_is_asked_of_a_model_that_has_a_word_on_it(
    serve: Callable[..., Any], model: type[Model], answer: bool
) -> None:
    it = model()

    async def scenario(runtime: Runtime) -> bool:
        assert runtime.health is not None
        return await runtime.health.is_healthy()

    assert serve(it, scenario) is answer
    assert it.calls[-1][2].startswith("fastserve-hook-") is (model is Model)


def test_a_plain_model_has_neither_and_no_thread_for_them(serve: Callable[..., Any]) -> None:
    others = threading.enumerate()  # of earlier tests

    async def scenario(runtime: Runtime) -> list[str]:
        assert (runtime.health, runtime.environment) == (None, None)
        started = [thread.name for thread in threading.enumerate() if thread not in others]
        return [name for name in started if name.startswith("fastserve")]

    assert serve(Plain(), scenario) == ["fastserve-predict-0"]


def test_metrics_can_be_scraped_before_load(serve: Callable[..., Any]) -> None:
    async def scenario(runtime: Runtime) -> Any:
        return await runtime.scrape("", ["none_of_that_name"])

    page, error = serve(Plain(), scenario, loads=False)
    assert error is None
    assert list(text_string_to_metric_families(page[0].decode())) == []


GPU = Gpu(0, "A", None, None, None)


def test_gpus_are_read_on_the_thread_of_scrapes_if_there_are_any(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def read() -> list[Gpu]:
        asked.append(threading.current_thread().name)
        return [GPU]

    async def scenario(runtime: Runtime) -> None:
        monkeypatch.setattr(runtime.gpus, "read", read)
        assert await runtime.read_gpus() == []
        runtime.gpus.at_load = [GPU]
        assert await runtime.read_gpus() == [GPU]
        assert asked == ["fastserve-scrape-0"]

    serve(Plain(), scenario)


def test_what_a_version_has_counted_stays_when_it_is_gone(serve: Callable[..., Any]) -> None:
    async def scenario(runtime: Runtime) -> None:
        assert runtime.version is not None
        runtime.version.pools[0].revived = 3
        assert runtime.tally() == Tally(3)
        assert runtime.version.stop()
        runtime.forget(runtime.version)
        assert runtime.tally() == Tally(3)

    serve(Plain(), scenario)
