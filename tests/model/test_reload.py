"""A model that is loaded anew in this process: which threads, what is left of the version before, what counts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest
import uvloop

from fastserve.config import Config
from fastserve.errors import LoadError, ModelDefinitionError, SetupError
from fastserve.model import reload as reload_module
from fastserve.model import threads
from fastserve.model.directory import read_directory
from fastserve.model.loader import prepare_process
from fastserve.model.reload import Reloader
from fastserve.model.runtime import Runtime
from fastserve.model.steps import Job
from fastserve.model.version import LOAD_RETRIES_VARIABLE
from fastserve.model.watch import SourceTree, Stamp
from tests.support.kept_process import kept_process

T = TypeVar("T")
PATIENCE_S = 120.0  # twenty loads, with forty threads each, take 8 s alone and a minute on a machine that is busy
ECHO = "class Model:\n    def predict(self, x):\n        return {!r}\n"
THREADS = """
import threading
class Model:
    def __init__(self):
        self.threads = [threading.get_ident()]
    def load(self):
        self.threads.append(threading.get_ident())
    def predict(self, x):
        return [*self.threads, threading.get_ident(), {!r}]
"""
STEPS = """
class Model:
    def preprocess(self, x):
        return x
    async def predict(self, x):
        return {!r}
    def postprocess(self, x):
        return x
    def is_healthy(self):
        return True
    def setup_environment(self, environment): ...
    def embeddings(self, x):
        yield "a"
"""


# An async load that waits for the test.
GATED_LOAD = "from fs_gate import GATE\n" + ECHO.format("slow") + "    async def load(self):\n        await GATE\n"


class Asked(Job):
    def __init__(self, payload: Any) -> None:
        super().__init__(payload)
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def encode(self) -> Any:
        return self.value

    def on_result(self) -> None:
        self.over.set_result(None)


class Scene:
    """A model directory, and its reloader at work."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.loop = uvloop.new_event_loop()
        environ = dict(os.environ)
        directory = read_directory(path)
        prepare_process(directory)
        self.runtime = Runtime(self.loop, directory, config)
        self.other_options: Mapping[str, Any] = {}
        self.reloader = Reloader(self.loop, self.runtime, directory, config, self.reread, environ)
        self.adopted = 0
        self.began: list[float] = []
        self.runtime.on_adopted.append(self.count)

    def count(self) -> None:
        self.adopted += 1

    def reread(self) -> Any:
        return read_directory(self.path), Config(reload=True, **self.other_options)

    def write(self, **files: str) -> None:
        """model__helper="...": the file model/helper.py; `config` is config.yaml."""
        for name, text in files.items():
            file = self.path / ("config.yaml" if name == "config" else name.replace("__", "/") + ".py")
            write(file, text)

    async def ask(self, payload: Any = None) -> Any:
        job = Asked(payload)
        self.runtime.predict.submit(job)
        await job.over
        if job.error is not None:
            raise job.error
        return job.value

    async def reload(self, **files: str) -> None:
        """Write, and wait until another version serves."""
        before = self.adopted
        self.write(**files)
        await self.adopts(before + 1)

    async def adopts(self, count: int) -> None:
        """Wait for a version: the first is 1. That reload is over then."""
        await until(lambda: self.adopted == count and not self.reloader._lock.locked())

    async def fails(self) -> None:
        """Wait for a reload that fails. It is over then."""
        await until(lambda: self.reloader._has_failed and not self.reloader._lock.locked())


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.replace(file)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until `condition` holds."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends
        await asyncio.sleep(0.001)


@contextlib.contextmanager
def gate() -> Iterator[asyncio.Future[None]]:
    """What GATED_LOAD waits for."""
    module = ModuleType("fs_gate")
    module.GATE = asyncio.get_running_loop().create_future()  # type: ignore[attr-defined]
    sys.modules["fs_gate"] = module
    try:
        yield module.GATE
    finally:
        del sys.modules["fs_gate"]


Scenario = Callable[[Scene], Awaitable[T]]
Play = Callable[..., Any]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """play(scenario, source): load it with a Reloader, wait for the first load, play; no thread may be left."""
    monkeypatch.setattr(reload_module, "LOOK_S", 0.002)
    monkeypatch.setattr(threads, "STOP_S", 5.0)
    monkeypatch.delenv(LOAD_RETRIES_VARIABLE, raising=False)

    def play(
        scenario: Scenario[T],
        source: str = ECHO.format("one"),
        config: str = "",
        *,
        waits: bool = True,
        **options: Any,
    ) -> T:
        write(tmp_path / "m" / "model" / "model.py", source)
        write(tmp_path / "m" / "config.yaml", config)
        before = set(threading.enumerate())
        scene = Scene(tmp_path / "m", Config(reload=True))

        async def run() -> T:
            running = asyncio.get_running_loop().create_task(scene.reloader.run(scene.began.append))
            if waits:
                await scene.adopts(1)
            try:
                return await scenario(scene)
            finally:
                tasks = {running, *scene.reloader._tasks}
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

        try:
            return scene.loop.run_until_complete(asyncio.wait_for(run(), PATIENCE_S))
        finally:
            has_ended = [scene.reloader.stop(), scene.runtime.stop()]
            scene.loop.close()
            assert has_ended == [True, True]
            assert set(threading.enumerate()) <= before

    with kept_process(tmp_path):
        yield play


def play_alone(scenario: Scenario[None], play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """play, but nothing is loaded unless the scenario does so."""

    async def idle(reloader: Reloader, on_ready: Callable[[float], None]) -> None: ...

    monkeypatch.setattr(Reloader, "run", idle)
    play(scenario, waits=False)


# --- versions ---


@pytest.mark.parametrize("source", [THREADS, STEPS])
def test_nothing_is_left_of_twenty_versions(play: Play, source: str) -> None:
    async def scenario(scene: Scene) -> None:
        models: list[weakref.ref[Any]] = []
        counts = set()
        for number in range(20):
            assert scene.runtime.version is not None
            models.append(weakref.ref(scene.runtime.version._model))
            await scene.ask()
            await scene.reload(model__model=source.format(number))
            await until(lambda: not scene.reloader._tasks)  # the threads of the one before have ended
            counts.add(threading.active_count())
        assert len(counts) == 1
        gc.collect()
        assert [model for model in models if model() is not None] == []
        assert scene.runtime.stop()

    play(scenario, source.format("first"))


def test_init_load_and_predict_have_one_thread_and_each_version_its_own(play: Play) -> None:
    async def scenario(scene: Scene) -> tuple[list[Any], list[Any]]:
        old = await scene.ask()
        await scene.reload(model__model=THREADS.format("new"))
        return old, await scene.ask()

    old, new = play(scenario, THREADS.format("old"))
    assert (len(set(old[:3])), old[3], len(set(new[:3])), new[3]) == (1, "old", 1, "new")


def test_the_version_before_begins_and_finishes_what_was_reserved_of_it(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        job = Asked(None)
        begin = scene.runtime.predict.reserve(job)
        await scene.reload(model__model=ECHO.format("new"))
        assert scene.runtime.in_flight == 1
        begin()
        await job.over
        assert job.value == "old"
        await scene.runtime.wait_idle()

    play(scenario, ECHO.format("old"))


def test_the_version_before_finishes_what_it_has_begun_and_what_waits_for_it(play: Play) -> None:
    gated = "class Model:\n    def predict(self, gate):\n        return gate and gate.wait(20) and {!r}\n"

    async def scenario(scene: Scene) -> None:
        gate = threading.Event()
        asked = [Asked(gate) for _ in range(3)]
        for job in asked:
            scene.runtime.predict.submit(job)
        await scene.reload(model__model=gated.format("new"))
        assert await scene.ask(None) is None
        assert scene.runtime.in_flight == 3
        gate.set()
        await asyncio.gather(*(job.over for job in asked))
        assert [job.value for job in asked] == ["old"] * 3
        await scene.runtime.wait_idle()

    play(scenario, gated.format("old"))


def test_methods_come_and_go(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        entry = scene.runtime.openai["embeddings"]
        assert (entry.exists, scene.runtime.health) == (False, None)
        await scene.reload(model__model=STEPS.format("two"))
        assert await scene.ask() == "two"
        assert (entry.exists, scene.runtime.health is None, scene.runtime.environment is None) == (True, False, False)
        await scene.reload(model__model=ECHO.format("three"))
        assert await scene.ask() == "three"
        assert (entry.exists, scene.runtime.health, scene.runtime.environment) == (False, None, None)

    play(scenario)


def test_a_load_that_fails_is_not_tried_again(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.fails()
        assert (scene.adopted, scene.began) == (0, [])
        with pytest.raises(LoadError, match="no model is loaded yet"):
            await scene.reloader.hot_reload()
        await scene.reload(model__model=ECHO.format("one"))
        await scene.reload(model__model=ECHO.format("two"))
        assert len(scene.began) == 1

    broken = ECHO.format("none") + "    def load(self):\n        raise ValueError('no weights')\n"
    play(scenario, broken, waits=False)
    assert caplog.text.count("ValueError: no weights") == 1
    assert "trying again" not in caplog.text


# --- the process ---


def test_variables_and_paths_are_those_of_config_yaml_and_back_if_it_fails(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FS_OUTSIDE", "outside")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    names = ("FS_OUTSIDE", "FS_FIRST", "FS_SECOND")

    def process() -> tuple[list[str | None], list[str], str]:
        paths = [os.path.relpath(path, tmp_path) for path in sys.path if path.startswith(str(tmp_path))]
        return [os.environ.get(name) for name in names], paths, os.path.relpath(Path.cwd(), tmp_path)

    def config(variables: str, package: str) -> str:
        return f"environment_variables: {{{variables}}}\nexternal_package_dirs: [../{package}]\n"

    async def scenario(scene: Scene) -> None:
        first = (["inside", "1", None], ["m", "a"], "m")
        assert process() == first
        scene.write(config=config("FS_SECOND: 2", "b"), model__model="assert 0")
        await scene.fails()
        assert process() == first
        os.chdir("/")  # as a model may
        await scene.reload(model__model=ECHO.format("two"))
        assert process() == (["outside", None, "2"], ["m", "b"], "m")

    play(scenario, config=config("FS_OUTSIDE: inside, FS_FIRST: 1", "a"))


def test_a_path_that_the_model_has_taken_away_is_not_missed(play: Play, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    async def scenario(scene: Scene) -> None:
        sys.path.remove(str(tmp_path / "a"))
        await scene.reload(config="{}")
        assert [path for path in sys.path if path.startswith(str(tmp_path))] == [str(tmp_path / "m")]

    play(scenario, config="external_package_dirs: [../a]")


def test_the_file_that_was_wrong_is_watched_though_only_the_broken_version_has_it(play: Play, tmp_path: Path) -> None:
    write(tmp_path / "shared" / "helper.py", "X = 0 / 0\n")

    async def scenario(scene: Scene) -> None:
        source = "import helper\n" + ECHO.format("?").replace("'?'", "helper.X")
        scene.write(config="external_package_dirs: [../shared]", model__model=source)
        await scene.fails()
        assert await scene.ask() == "one"
        write(tmp_path / "shared" / "helper.py", "X = 'mended'\n")
        await scene.adopts(2)
        assert await scene.ask() == "mended"

    play(scenario)


def test_options_of_the_server_are_told_once_and_left(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        scene.other_options = {"port": 81, "predict_concurrency": 4}
        for number in range(2):
            await scene.reload(model__model=ECHO.format(number))
        scene.other_options = {}
        await scene.reload(model__model=ECHO.format("back"))

    with caplog.at_level(logging.WARNING):
        play(scenario)
    assert [m.partition(" of ")[2] for m in caplog.messages] == ["--port, --concurrency", "--port, --concurrency"]


# --- what counts as a change ---


def test_a_burst_of_changes_is_one_and_only_when_it_is_over(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload_module, "LOOK_S", 0)

    async def scenario(scene: Scene) -> None:
        source = str(scene.path / "model" / "model.py")
        looks = [{source: Stamp(number, 1, 1)} for number in (1, 1, 2, 3, 4, 4)]
        reloader = scene.reloader
        reloader._seen = looks[0]
        monkeypatch.setattr(SourceTree, "scan", lambda tree: looks.pop(0))
        assert await reloader._wait_for_change() == [source]
        assert looks == []

    play_alone(scenario, play, monkeypatch)


def test_what_a_load_and_a_predict_write_is_no_change_but_what_was_there_is(play: Play) -> None:
    source = (
        "from pathlib import Path\nclass Model:\n    def load(self):\n"
        "        self.prompt = Path('prompt.txt').read_text()\n"
        "        Path('cache.bin').write_text(Path('cache.bin').read_text() + 'x')\n"
        "    def predict(self, x):\n        Path('output.png').write_text(str(x))\n        return self.prompt\n"
    )

    async def scenario(scene: Scene) -> None:
        await scene.fails()
        write(scene.path / "prompt.txt", "be kind")
        write(scene.path / "cache.bin", "")
        await scene.adopts(1)  # the first load had failed without them
        for number in range(2):
            assert await scene.ask(number) == "be kind"
        await looks(scene, 5)
        assert scene.adopted == 1
        write(scene.path / "prompt.txt", "be brief")
        await scene.adopts(2)
        assert await scene.ask(3) == "be brief"
        await looks(scene, 5)
        assert ((scene.path / "cache.bin").read_text(), scene.adopted) == ("xx", 2)

    play(scenario, source, waits=False)


async def looks(scene: Scene, count: int) -> None:
    """Until the files have been looked at so often."""
    done = 0
    look = scene.reloader._look

    async def counted() -> Any:
        nonlocal done
        done += 1
        return await look()

    scene.reloader._look = counted  # type: ignore[method-assign]
    await until(lambda: done >= count)
    del scene.reloader._look


def test_a_change_during_a_load_is_told_and_loaded_afterwards(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario(scene: Scene) -> None:
        with gate() as opened:
            scene.write(model__model=GATED_LOAD)
            await until(lambda: caplog.text.count("Executing model.load()") == 1)
            write(scene.path / "model" / "cache.bin", "written by the load, as it seems")
            await looks(scene, 3)
            assert "more has changed" not in caplog.text
            scene.write(model__model=ECHO.format("newer"))
            await until(lambda: "more has changed" in caplog.text)
            assert await scene.ask() == "one"
            opened.set_result(None)
            await scene.adopts(3)
        assert await scene.ask() == "newer"

    play(scenario)


def test_a_version_whose_thread_is_stuck_is_remembered_for_the_end(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(scene: Scene) -> None:
        stuck = scene.runtime.version
        assert stuck is not None
        with monkeypatch.context() as patch:
            patch.setattr(stuck, "stop", lambda: False)
            await scene.reload(model__model=ECHO.format("two"))
            await until(lambda: not scene.reloader._tasks)
            assert not scene.runtime.stop()
        assert scene.runtime._versions == [stuck, scene.runtime.version]

    play(scenario)


# --- hot reload ---


def test_a_hot_reload_waits_for_a_full_one_and_runs_though_nobody_waits_for_it(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        with gate() as opened:
            scene.write(model__model=GATED_LOAD)
            await until(scene.reloader._lock.locked)
            asked = asyncio.create_task(scene.reloader.hot_reload())
            await asyncio.sleep(0)
            asked.cancel()
            opened.set_result(None)
            await scene.adopts(3)
            assert await scene.ask() == "slow"

    play(scenario)


def test_a_hot_reload_does_not_take_config_yaml_for_seen(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        source = "class Model:\n    def __init__(self, config):\n        self.name = config['model_name']\n"
        await scene.reload(model__model=source + "    def predict(self, x):\n        return self.name\n")
        scene.write(config="model_name: new")
        await scene.reloader.hot_reload()
        await scene.adopts(4)
        assert await scene.ask() == "new"

    play(scenario)


def test_a_hot_reload_that_fails_leaves_modules_and_class_alone(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.reloader._load((), scene.began.append)
        assert scene.runtime.version is not None
        model = scene.runtime.version._model
        before = sys.modules["model.model"], type(model), scene.reloader._seen
        for source, error in (("class Model: pass\n", ModelDefinitionError), ("class Other: pass\n", SetupError)):
            scene.write(model__model=source)
            with pytest.raises(error):
                await scene.reloader.hot_reload()
            assert (sys.modules["model.model"], type(model), scene.reloader._seen) == before
        assert caplog.text.count("the model that was loaded before goes on") == 2

    play_alone(scenario, play, monkeypatch)


def test_a_bug_of_ours_is_said_to_be_one(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(scene: Scene) -> None:
        monkeypatch.setattr(scene.reloader._changeover, "begin", lambda directory: 1 / 0)
        await scene.reloader._load((), scene.began.append)
        assert "this is a bug of fastserve" in caplog.text
        assert "ZeroDivisionError" in caplog.text

    play_alone(scenario, play, monkeypatch)


def test_a_log_line_names_a_few_of_many_changed_files(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(scene: Scene) -> None:
        changed = [str(scene.path / "model" / f"{number}.py") for number in range(7)]
        assert scene.reloader._names(changed[:2]) == "model/0.py, model/1.py"
        assert scene.reloader._names(changed) == ", ".join(f"model/{n}.py" for n in range(5)) + " and 2 more"

    play_alone(scenario, play, monkeypatch)
