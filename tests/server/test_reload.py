"""`--reload` on the real process: what changed files, broken ones and POST /hot-reload do while clients ask."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import py_compile
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve.config import Config
from fastserve.model.directory import read_directory
from fastserve.server import Server as InnerServer
from tests.support.process import Server, serving, write_model

ANSWERS = "class Model:\n    def predict(self, model_input):\n        return {!r}\n"


def write(file: Path, text: str) -> None:
    """As most editors do: a new file under the old name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.replace(file)


def answers(directory: Path, value: object) -> None:
    write(directory / "model" / "model.py", ANSWERS.format(value))


def wait_for(server: Server, line: str, count: int = 1) -> None:
    """Until the log has had `line`, a pattern, so often."""
    server.wait_for_log(f"(?s)({line}.*?){{{count}}}")


@contextlib.contextmanager
def reloading(directory: Path, *flags: str, wait_ready: bool = True) -> Iterator[Server]:
    with serving(directory, "--reload", "--log-format", "text", *flags, wait_ready=wait_ready) as server:
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m", ANSWERS.format("one"))


class Client(threading.Thread):
    """Asks the same question on one connection until it is told to stop; notes what it is answered."""

    def __init__(self, server: Server, method: str, path: str) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._question = (method, path, b"1" if method == "POST" else None)
        self._is_over = threading.Event()
        self.answers: list[tuple[int, bytes]] = []
        self.start()

    def run(self) -> None:
        with contextlib.closing(self._connection):
            is_over = False
            while not is_over:
                is_over = self._is_over.is_set()  # looked at before: one more is asked after `stop`
                self._connection.request(*self._question)
                response = self._connection.getresponse()
                self.answers.append((response.status, response.read()))

    def stop(self) -> list[tuple[int, bytes]]:
        """What came, without what was the same as the one before."""
        self._is_over.set()
        self.join()
        return [a for a, before in zip(self.answers, [None, *self.answers], strict=False) if a != before]


def test_a_change_is_served_without_a_failed_request(model: Path) -> None:
    with reloading(model) as server:
        asking, probing = Client(server, "POST", "/predict"), Client(server, "GET", "/readyz")
        for count, value in enumerate(["two", "three"], 1):
            answers(model, value)
            wait_for(server, "reloaded in", count)
            assert server.predict(1) == value
        assert asking.stop() == [(200, b'"one"'), (200, b'"two"'), (200, b'"three"')]
        assert probing.stop() == [(200, b"{}")]
        assert server.stop() == 0
    assert server.log.count("reloading: model/model.py") == 2


BROKEN = {
    "model/model.py": [
        ("class Model:\n    def predict(self:\n", "SyntaxError"),
        ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("class Model:\n    def __init__(self):\n        self.boom()\n", "AttributeError: 'Model' object has no"),
        (ANSWERS.format(1) + "    def load(self):\n        raise SystemExit('no weights')\n", "no weights"),
        (ANSWERS.format(1) + "    async def load(self):\n        raise OSError('no weights here')\n", "weights here"),
        ("class Modell:\n    pass\n", "no class Model"),
        ("class Model:\n    pass\n", "must have a `predict` or `websocket` method"),
        ("class Model:\n    def predict(self, a, b):\n        pass\n", "must have request as second argument"),
    ],
    "config.yaml": [
        ("model_class_name: [\n", "config.yaml"),
        ("runtime: {predict_concurency: 2}\n", "did you mean predict_concurrency"),
        ("external_package_dirs: [nowhere]\n", "nowhere is not a directory"),
        ("model_class_filename: other.py\n", "other.py: no such file"),
    ],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_change_leaves_the_old_model_serving_and_says_why(model: Path, name: str) -> None:
    good = (model / name).read_text()
    with reloading(model) as server:
        for count, (text, words) in enumerate(BROKEN[name], 1):
            write(model / name, text)
            wait_for(server, "goes on; waiting for the next change", count)
            assert words in server.log
            assert server.predict(1) == "one"
            assert server.request("GET", "/readyz")[0] == 200
        write(model / name, good)
        wait_for(server, "reloaded in")
        answers(model, "two")
        wait_for(server, "reloaded in", 2)
        assert server.predict(1) == "two"
        assert server.stop() == 0


def test_the_error_shows_the_user_s_frames_alone(model: Path) -> None:
    with reloading(model) as server:
        write(model / "model" / "helper.py", "def help():\n    raise ValueError('unhelpful')\n")
        write(model / "model" / "model.py", "from model.helper import help\nhelp()\n")
        wait_for(server, "goes on; waiting")
    assert re.search(r'"[^"]*/model/model.py", line 2.*\n(?:    .*\n)+.*/model/helper.py", line 2', server.log)
    assert "importlib" not in server.log
    assert "fastserve/model" not in server.log


def test_a_failed_first_load_waits_for_a_change(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "import nowhere_to_be_found\n")
    with reloading(directory, wait_ready=False) as server:
        wait_for(server, "no model is loaded; waiting for a change of its files")
        assert server.request("GET", "/readyz")[0] == 503
        assert server.request("POST", "/predict", b"1")[0] == 503
        assert server.request("POST", "/hot-reload") == (422, b'{"error":"LoadError: no model is loaded yet"}')
        answers(directory, "one")
        wait_for(server, "ready; the model loaded")
        assert server.predict(1) == "one"
        assert server.stop() == 0


# --- what is imported ---


def test_modules_beside_the_model_and_in_package_directories_are_read_anew(tmp_path: Path) -> None:
    source = (
        "import bundled, external, model.helper\nfrom model.sub.deep import DEEP\nclass Model:\n"
        "    def predict(self, x):\n        return [bundled.X, external.X, model.helper.X, DEEP]\n"
    )
    directory = write_model(tmp_path / "m", source, "external_package_dirs: [../shared]")
    files = [
        directory / "packages" / "bundled.py",
        tmp_path / "shared" / "external" / "__init__.py",
        directory / "model" / "helper.py",
        directory / "model" / "sub" / "deep.py",
    ]
    for file in files:
        write(file, "X = DEEP = 0\n")
    with reloading(directory) as server:
        for count, file in enumerate(files, 1):
            write(file, "X = DEEP = 1\n")
            wait_for(server, "reloaded in", count)
            assert server.predict(1) == [1] * count + [0] * (4 - count)


def test_after_a_broken_change_the_old_model_still_finds_its_own_modules(tmp_path: Path) -> None:
    late = "class Model:\n    def predict(self, x):\n        import model.late\n        return model.late.X\n"
    directory = write_model(tmp_path, "import model.late\n" + late)
    write(directory / "model" / "late.py", "X = 'old'\n")
    with reloading(directory) as server:
        write(directory / "model" / "late.py", "X = 'new'\n")
        write(directory / "model" / "model.py", "import model.late\nassert False\n" + late)
        wait_for(server, "goes on; waiting")
        assert server.predict(1) == "old"
        write(directory / "model" / "model.py", "import model.late\n" + late)
        wait_for(server, "reloaded in")
        assert server.predict(1) == "new"


@pytest.mark.parametrize("way", ["full", "hot"])
def test_an_edit_of_the_same_size_within_the_same_second_is_seen(tmp_path: Path, way: str) -> None:
    directory = write_model(tmp_path, "import model.helper\n" + ANSWERS.format(0).replace("0", "model.helper.X"))
    helper = directory / "model" / "helper.py"
    second = int(time.time()) * 10**9
    write(helper, "X = 1\n")
    os.utime(helper, ns=(second, second + 1_000_000))
    py_compile.compile(str(helper), doraise=True)  # bytecode that says: of that second, of that size
    with reloading(directory) as server:
        for x in (2, 3):
            helper.write_text(f"X = {x}\n")
            os.utime(helper, ns=(second, second + x * 1_000_000))
            if way == "hot":
                assert server.request("POST", "/hot-reload")[0] == 200
            else:
                wait_for(server, "reloaded in", x - 1)
            assert server.predict(1) == x


def test_metrics_are_registered_anew_and_the_old_ones_stay_if_that_fails(tmp_path: Path) -> None:
    source = (
        "from prometheus_client import Counter\nASKED = Counter('asked', {!r})\nclass Model:\n"
        "    def predict(self, x):\n        ASKED.inc()\n"
    )
    directory = write_model(tmp_path, source.format("first"))
    with reloading(directory) as server:
        server.predict(1)
        write(directory / "model" / "model.py", source.format("broken") + "assert False\n")
        wait_for(server, "goes on; waiting")
        server.predict(1)
        _, page = server.request("GET", "/metrics")
        assert (b"asked_total first" in page, b"asked_total 2.0" in page) == (True, True)
        write(directory / "model" / "model.py", source.format("second"))
        wait_for(server, "reloaded in")
        server.predict(1)
        _, page = server.request("GET", "/metrics")
        assert (b"asked_total second" in page, b"asked_total 1.0" in page) == (True, True)


# --- what the model sees of config.yaml ---


def test_the_model_sees_config_yaml_as_it_is_now_and_the_server_goes_on_as_it_was(tmp_path: Path) -> None:
    source = (
        "import os\nclass Model:\n    def __init__(self, config, secrets):\n        self.seen = "
        "[config['model_metadata'], os.environ.get('A'), os.environ.get('B'), secrets['s'],"
        " config['runtime']['predict_concurrency']]\n"
        "    def predict(self, x):\n        return self.seen\n"
    )
    directory = write_model(tmp_path, source, "environment_variables: {A: 1}\nsecrets: {s: x}\n")
    with reloading(directory) as server:
        assert server.predict(1) == [{}, "1", None, "x", 1]
        write(
            directory / "config.yaml",
            "model_metadata: {m: 2}\nenvironment_variables: {B: 3}\nsecrets: {s: y}\n"
            "runtime: {predict_concurrency: 2}\n",
        )
        wait_for(server, "reloaded in")
        assert server.predict(1) == [{"m": 2}, None, "3", "y", 1]
        assert server.log.count("restart the server for what has changed of --concurrency") == 1


# --- hot reload ---

COUNTING = """
class Model:
    def __init__(self):
        self.loads = 0
    def load(self):
        self.loads += 1
    def predict(self, model_input):
        self.loads += 100
        return [{!r}, self.loads]
"""


def test_a_hot_reload_keeps_the_instance_and_no_full_one_follows(tmp_path: Path) -> None:
    directory = write_model(tmp_path, COUNTING.format("one"))
    file = directory / "model" / "model.py"
    with reloading(directory) as server:
        assert server.predict(1) == ["one", 101]
        write(file, COUNTING.format("two"))
        assert server.request("POST", "/hot-reload") == (200, b'{"msg":"Hot reload complete"}')
        assert server.predict(1) == ["two", 201]
        write(file, COUNTING.format("three"))  # what the watch sees next
        wait_for(server, "reloaded in")
        assert server.predict(1) == ["three", 101]
        assert server.stop() == 0
    assert server.log.count("reloaded in") == 1


def test_a_hot_reload_brings_new_methods_and_types(tmp_path: Path) -> None:
    directory = write_model(tmp_path, COUNTING.format("one"))
    with reloading(directory) as server:
        assert server.request("POST", "/v1/embeddings", b"1")[0] == 404
        assert server.request("GET", "/v1/models/m/schema")[0] == 404
        more = (
            "    def preprocess(self, x: int) -> str:\n        return str(x)\n"
            "    def embeddings(self, x):\n        return 'embedded'\n"
        )
        write(directory / "model" / "model.py", COUNTING.format("two") + more)
        assert server.request("POST", "/hot-reload")[0] == 200
        assert server.request("POST", "/v1/embeddings", b"1") == (200, b'"embedded"')
        assert server.predict(1) == ["two", 101]


def test_a_failed_hot_reload_is_a_422_and_the_old_code_goes_on(tmp_path: Path) -> None:
    directory = write_model(tmp_path, COUNTING.format("one"))
    file = directory / "model" / "model.py"
    with reloading(directory) as server:
        for count, (text, words) in enumerate(
            [
                ("class Model:\n    def predict(self:\n", "SyntaxError: "),
                ("assert 0, 'no'\n", "AssertionError: no"),
                ("class Other: pass\n", "SetupError: "),
                ("class Model:\n    __slots__ = ('a',)\n    def predict(self, x): ...\n", "TypeError: __class__ "),
                ("class Model: pass\n", "ModelDefinitionError: Truss model must have"),
            ]
        ):
            write(file, text)
            status, content = server.request("POST", "/hot-reload")
            assert (status, list(json.loads(content))) == (422, ["error"])
            assert json.loads(content)["error"].startswith(words)
            assert server.predict(1) == ["one", 101 + 100 * count]
        write(file, COUNTING.format("two"))
        assert server.request("POST", "/hot-reload")[0] == 200
        assert server.predict(1)[0] == "two"


def test_without_the_switch_nothing_is_reloaded(model: Path) -> None:
    with serving(model, "--no-reload", env={"FASTSERVE_RELOAD": "1"}) as server:
        answers(model, "two")
        status, content = server.request("POST", "/hot-reload")
        assert (status, content) == (404, b'{"error":"Not Found"}')
        assert server.predict(1) == "one"
        status, document = server.request("GET", "/openapi.json")
        assert "/hot-reload" not in json.loads(document)["paths"]


# --- while something takes its time ---

GATED = "class Model:\n    def predict(self, fifo):\n        return [{!r}, fifo and open(fifo).read()]\n"


def make_fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def test_what_is_in_flight_ends_on_the_old_model_and_what_comes_is_answered_by_the_new(tmp_path: Path) -> None:
    directory, gate = write_model(tmp_path / "m", GATED.format("old")), make_fifo(tmp_path / "gate")
    with reloading(directory) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/predict", json.dumps(str(gate)))
        with gate.open("w") as opened:  # it has begun
            write(directory / "model" / "model.py", GATED.format("new"))
            wait_for(server, "reloaded in")
            assert server.predict(None) == ["new", None]
            opened.write("done")
        assert json.loads(connection.getresponse().read()) == ["old", "done"]
        connection.close()
        assert server.stop() == 0


def test_a_load_that_hangs_leaves_the_old_model_serving_and_does_not_keep_the_server_from_ending(
    tmp_path: Path,
) -> None:
    directory, gate = write_model(tmp_path / "m", ANSWERS.format("old")), make_fifo(tmp_path / "gate")
    hangs = ANSWERS.format("hung") + f"    def load(self):\n        open({str(gate)!r}).read()\n"
    with reloading(directory) as server:
        write(directory / "model" / "model.py", hangs)
        wait_for(server, "Executing model.load")
        answers(directory, "newer")
        wait_for(server, "more has changed; the model is loaded once more")
        assert server.predict(1) == "old"
        assert server.request("GET", "/readyz")[0] == 200
        assert server.stop(signal.SIGTERM) == 0
    assert "reloaded" not in server.log


def test_what_has_changed_during_a_load_is_loaded_when_that_is_over(tmp_path: Path) -> None:
    directory, gate = write_model(tmp_path / "m", ANSWERS.format("old")), make_fifo(tmp_path / "gate")
    slow = ANSWERS.format("slow") + f"    def load(self):\n        open({str(gate)!r}).read()\n"
    with reloading(directory) as server:
        write(directory / "model" / "model.py", slow)
        wait_for(server, "Executing model.load")
        answers(directory, "newer")
        with gate.open("w"):
            pass
        wait_for(server, "reloaded in", 2)
        assert server.predict(1) == "newer"
        assert server.stop() == 0


def test_a_drain_during_a_reload_answers_what_is_in_flight(tmp_path: Path) -> None:
    directory, gate = write_model(tmp_path / "m", GATED.format("old")), make_fifo(tmp_path / "gate")
    load_gate = make_fifo(tmp_path / "load")
    hangs = GATED.format("new") + f"    def load(self):\n        open({str(load_gate)!r}).read()\n"
    with reloading(directory) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/predict", json.dumps(str(gate)))
        with gate.open("w") as opened:
            write(directory / "model" / "model.py", hangs)
            wait_for(server, "Executing model.load")
            server.process.send_signal(signal.SIGTERM)
            wait_for(server, "draining, 1 requests in flight")
            opened.write("done")
        assert json.loads(connection.getresponse().read()) == ["old", "done"]
        connection.close()
        assert server.wait() == 0


class EndlessWatch:
    """An EnvironmentWatch that counts its turns."""

    def __init__(self) -> None:
        self.turns = 0

    async def run(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)


def test_the_environment_is_watched_for_the_version_that_serves_alone(tmp_path: Path) -> None:
    directory = read_directory(write_model(tmp_path, ""))
    watches = [EndlessWatch(), EndlessWatch(), None, EndlessWatch()]

    async def play() -> None:
        loop = asyncio.get_running_loop()
        server = InnerServer(loop, directory, Config(), lambda: (directory, Config()), {})
        for watch in watches:
            server._runtime.environment = watch  # type: ignore[assignment]
            server._watch_environment()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            before = [w.turns for w in watches if w is not None]
            await asyncio.sleep(0)
            running = [w for w, turns in zip(filter(None, watches), before, strict=True) if w.turns > turns]
            assert running == ([watch] if watch is not None else [])

    asyncio.run(play())
