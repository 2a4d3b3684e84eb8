"""Start, stop and failure of the real process: signals, drain, load, exit statuses."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.process import (
    Server,
    command,
    environment,
    may_make_pid_namespaces,
    run_to_end,
    serving,
    serving_as_pid_1,
    write_model,
)

# predict waits until the test has opened and closed the FIFO.
GATED = """
class Model:
    def predict(self, fifo):
        if fifo is None:
            return "free"
        open(fifo).read()
        return "done"
"""
GATED_LOAD = """
import os
class Model:
    def load(self):
        open(os.environ["GATE"]).read()
    def predict(self, x):
        return x
"""


class Client(threading.Thread):
    """One predict in the background; `answer` is (status, content, Connection field) once joined."""

    def __init__(self, server: Server, payload: object) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._connection.connect()
        self._connection.request("POST", "/predict", json.dumps(payload))
        self.answer: tuple[int, bytes, str | None] | None = None
        self.start()

    def run(self) -> None:
        try:
            response = self._connection.getresponse()
            self.answer = (response.status, response.read(), response.getheader("Connection"))
        except (OSError, http.client.HTTPException):
            self.answer = None
        finally:
            self._connection.close()


def open_gate(fifo: Path) -> None:
    with fifo.open("w"):
        pass


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    return fifo


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_what_runs_and_what_is_queued_and_exits_0(number: int, gate: Path, tmp_path: Path) -> None:
    with serving(write_model(tmp_path / "m", GATED)) as server:
        second_gate = tmp_path / "second"
        os.mkfifo(second_gate)
        running, queued = Client(server, str(gate)), Client(server, str(second_gate))
        idle = server.connect()
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"true" in idle.recv(65536)
        server.process.send_signal(number)
        server.wait_for_log("draining, 2 requests in flight")
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        open_gate(gate)
        open_gate(second_gate)
        assert server.wait() == 0
        for client in (running, queued):
            client.join()
            assert client.answer == (200, b'"done"', "close")
        idle.close()


def test_readiness_is_503_while_draining_and_liveness_200(gate: Path, tmp_path: Path) -> None:
    with serving(write_model(tmp_path / "m", GATED)) as server:
        client = Client(server, str(gate))
        probes = [server.connect() for _ in range(2)]
        for probe in probes:  # a connection in the middle of a request is kept until it has been answered
            probe.sendall(b"GET ")
        server.request("GET", "/livez")  # by now those bytes have been read
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("draining")
        probes[0].sendall(b"/readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        probes[1].sendall(b"/livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert probes[0].recv(65536).startswith(b"HTTP/1.1 503")
        assert probes[1].recv(65536).startswith(b"HTTP/1.1 200")
        for probe in probes:
            probe.close()
        open_gate(gate)
        assert server.wait() == 0
        client.join()
        assert client.answer is not None


def test_what_is_not_finished_in_the_graceful_time_is_aborted(gate: Path, tmp_path: Path) -> None:
    with serving(write_model(tmp_path / "m", GATED), "--timeout-graceful-shutdown", "0.2") as server:
        client = Client(server, str(gate))
        assert server.request("GET", "/livez")[0] == 200
        assert server.stop() == 0
        client.join()
        assert client.answer is None
        assert "still in flight" in server.log


def test_a_second_interrupt_ends_at_once(gate: Path, tmp_path: Path) -> None:
    with serving(write_model(tmp_path / "m", GATED)) as server:
        client = Client(server, str(gate))
        assert server.request("GET", "/livez")[0] == 200
        server.process.send_signal(signal.SIGINT)
        server.wait_for_log("draining")
        assert server.stop(signal.SIGINT) == 130
        client.join()


def test_while_loading_probes_tell_so_and_predict_is_503(gate: Path, tmp_path: Path) -> None:
    directory = write_model(tmp_path / "m", GATED_LOAD)
    with serving(directory, env={"GATE": str(gate)}, wait_ready=False) as server:
        assert server.request("GET", "/livez") == (200, b"true")
        assert server.request("GET", "/")[0] == 200
        not_ready = (503, b'{"error":"Model with name model is not ready."}')
        for path in ("/health", "/v1/models/model", "/v1/models/model/loaded", "/ping"):
            assert server.request("GET", path) == not_ready
        assert server.request("POST", "/predict", b"1") == not_ready
        open_gate(gate)
        server.wait_for_log("ready")
        assert server.predict(1) == 1


def test_a_signal_during_load_ends_soon_with_0(gate: Path, tmp_path: Path) -> None:
    with serving(write_model(tmp_path / "m", GATED_LOAD), env={"GATE": str(gate)}, wait_ready=False) as server:
        server.wait_for_log("Executing model.load")
        assert server.stop() == 0


def test_load_is_tried_twice_with_503_meanwhile(tmp_path: Path) -> None:
    source = """
class Model:
    tries = 0
    def load(self):
        Model.tries += 1
        if Model.tries == 1:
            raise OSError("not yet")
    def predict(self, x):
        return self.tries
"""
    with serving(write_model(tmp_path, source), wait_ready=False) as server:
        server.wait_for_log("trying again")
        assert server.request("GET", "/readyz")[0] == 503
        server.wait_for_log("ready")
        assert server.predict(None) == 2
        assert "OSError: not yet" in server.log
        assert "model/model.py" in server.log
        assert "fastserve/model/" not in server.log  # the user's frames are shown, not ours


@pytest.mark.parametrize(
    "source",
    [
        "raise OSError('broken')",
        "class Model:\n    def __init__(self):\n        raise OSError('broken')\n    def predict(self, x): pass",
        "class Model:\n    def load(self):\n        raise OSError('broken')\n    def predict(self, x): pass",
        "class Model:\n    async def load(self):\n        raise OSError('broken')\n    def predict(self, x): pass",
    ],
)
def test_a_failed_load_exits_1_with_the_users_traceback(source: str, tmp_path: Path) -> None:
    directory = write_model(tmp_path, source)
    with serving(directory, env={"NUM_LOAD_RETRIES_TRUSS": "0"}, wait_ready=False) as server:
        assert server.wait() == 1
        lines = [json.loads(line) for line in server.log.splitlines()]
        (line,) = [line for line in lines if line["message"] == "Exception while loading model"]
        assert "OSError: broken" in line["exc_info"]
        assert "fastserve" not in line["exc_info"].replace(str(tmp_path), "")


def test_what_was_loaded_is_no_work_for_the_collector_any_more(tmp_path: Path) -> None:
    source = """
import gc
class Model:
    def load(self):
        self.loaded = [[] for _ in range(100_000)]
    def predict(self, x):
        return [gc.get_freeze_count(), len(gc.get_objects())]
"""
    with serving(write_model(tmp_path, source)) as server:
        frozen, looked_at = server.predict(1)
    assert frozen > 100_000
    assert looked_at < 50_000


def test_works_as_pid_1(tmp_path: Path) -> None:
    if not may_make_pid_namespaces():
        pytest.skip("needs the right to make a PID namespace")
    directory = write_model(tmp_path, "class Model:\n    def predict(self, x): return __import__('os').getpid()\n")
    with serving_as_pid_1(directory) as (server, child):
        assert server.predict(None) == 1
        os.kill(child, signal.SIGTERM)
        assert server.wait() == 0


def test_a_port_in_use_is_one_clear_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        directory = write_model(tmp_path, "class Model:\n    def predict(self, x): pass\n")
        status, errors = run_to_end(directory, "--port", str(port))
    assert status == 2
    (line,) = errors.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line


def test_messages_are_plain_text_on_a_terminal(tmp_path: Path) -> None:
    """`script` gives the command a terminal of its own."""
    directory = write_model(tmp_path, "class Model:\n    def predict(self, x): pass\n", "model_class_name: Modell")
    done = subprocess.run(
        ["script", "-qec", " ".join(command(directory, "--port", "0")), "/dev/null"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    assert "listening on http://127.0.0.1:" in done.stdout
    assert "did you mean Model?" in done.stdout
    assert "{" not in done.stdout
    assert "Traceback" not in done.stdout


LEAVES_A_THREAD = """
import asyncio, threading
class Model:
    async def predict(self, x):
        threading.Thread(target=threading.Event().wait).start()
        self.kept = self.endless()
        return await anext(self.kept)
    async def endless(self):
        try:
            yield "left"
        finally:
            await asyncio.Event().wait()
"""


def test_threads_and_generators_that_user_code_left_do_not_keep_the_process(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, LEAVES_A_THREAD)) as server:
        assert server.predict(1) == "left"
        assert server.stop() == 0


def test_a_failed_load_exits_though_a_thread_of_the_model_runs(tmp_path: Path) -> None:
    source = "import threading\nthreading.Thread(target=threading.Event().wait).start()\nraise OSError('broken')\n"
    with serving(write_model(tmp_path, source), wait_ready=False) as server:
        assert server.wait() == 1


def test_a_task_of_the_model_that_exits_does_not_end_the_server(tmp_path: Path) -> None:
    source = """
import asyncio
class Model:
    async def predict(self, x):
        async def task(): raise SystemExit(5)
        self.task = asyncio.create_task(task())
        await asyncio.sleep(0.01)
        return x
"""
    with serving(write_model(tmp_path, source)) as server:
        assert server.predict(1) == 1
        assert server.predict(2) == 2
        assert server.stop() == 0
    assert "a task of the model raised SystemExit" in server.log


# fork, in a worker thread as torch's DataLoader does it, with a child that the model then ends.
FORKING = """
import multiprocessing, time
class Model:
    def predict(self, x):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join(20)
        return child.exitcode
"""


def test_a_signal_to_a_process_that_the_model_forks_is_that_process_s_own(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, FORKING)) as server:
        assert server.predict(None) == -signal.SIGTERM
        assert server.predict(None) == -signal.SIGTERM
        assert "draining" not in server.read_log()
        assert server.stop() == 0


@pytest.mark.parametrize(
    "mischief", ["asyncio.get_running_loop().stop()", "[task.cancel() for task in asyncio.all_tasks()]"]
)
def test_a_model_that_stops_the_loop_does_not_end_the_server(mischief: str, tmp_path: Path) -> None:
    source = f"import asyncio\nclass Model:\n    async def predict(self, x):\n        {mischief}\n        return x\n"
    with serving(write_model(tmp_path, source)) as server:
        assert [server.predict(1), server.predict(2)] == [1, 2]
        assert "the server goes on" in server.read_log()
        assert server.stop() == 0


# Its only coroutine never lets the loop go on.
HOLDING = """
import logging, threading
lock = threading.Lock()
class Locking(logging.Handler):
    def emit(self, record):
        with lock: pass
    def flush(self):
        with lock: pass
class Model:
    def load(self):
        logging.getLogger().addHandler(Locking())
    async def predict(self, x):
        logging.info("holding")
        {hold}
"""


@pytest.mark.parametrize("hold", ["while True: pass", "threading.Event().wait()", "lock.acquire(); lock.acquire()"])
def test_a_second_interrupt_ends_a_server_whose_loop_a_method_holds(tmp_path: Path, hold: str) -> None:
    with serving(write_model(tmp_path, HOLDING.format(hold=hold))) as server:
        client = Client(server, 1)
        server.wait_for_log("holding")
        while server.process.poll() is None:  # of two that are sent at once the process may see one
            server.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(0.1)
        assert server.wait() == 130
        assert "interrupted again" in server.log
        client.join()


HANDLING = """
import signal
class Model:
    async def load(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
    def predict(self, x): return x
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_handler_that_the_model_sets_is_called_beside_the_servers(tmp_path: Path, number: signal.Signals) -> None:
    with serving(write_model(tmp_path, HANDLING)) as server:
        assert server.stop(number) == 0
        assert f"{number.name}: draining" in server.log


CHILD_OF_ITS_OWN = """
import os, signal
class Model:
    def predict(self, x):
        told, telling = os.pipe()
        child = os.fork()
        if not child:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
            os.write(telling, b"goes on")
            os._exit(0)
        os.close(telling)
        with os.fdopen(told, "rb") as pipe:
            said = pipe.read().decode()
        os.waitpid(child, 0)
        return said
"""


def test_an_interrupt_does_not_end_what_the_model_has_forked(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, CHILD_OF_ITS_OWN)) as server:
        assert server.predict(0) == "goes on"
        assert server.stop() == 0
        assert "interrupted" not in server.log


# Ends itself at the moment at which the loop does not run.
ENDING = """
import asyncio, logging, signal
class Ending(logging.Handler):
    def emit(self, record):
        if "stopped the event loop" in record.getMessage():
            signal.raise_signal(signal.SIGTERM)
class Model:
    def load(self): logging.getLogger("fastserve").addHandler(Ending())
    async def predict(self, x):
        asyncio.get_running_loop().stop()
        return x
"""


def test_a_signal_while_the_loop_is_stopped_is_heard(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, ENDING)) as server:
        assert server.predict(1) == 1
        assert server.wait() == 0
    assert "SIGTERM: draining" in server.log


def test_the_port_is_told_whatever_the_log_level(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "class Model:\n    def predict(self, x): return x\n")
    with serving(directory, "--log-level", "error", wait_ready=False) as server:
        assert server.port
