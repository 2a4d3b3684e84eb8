"""API keys end to end: what is open, what is not, SIGHUP, and that no key is ever shown by a server under attack."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.process import PATIENCE_S, Server, command, ending, environment, run_to_end, serving, write_model
from tests.support.websockets import handshake

FILE_KEY, SAID_KEY, NEW_KEY = "file-3f9a7c51", "said-91bd02e8", "new-77ac1fd0"
KEYS = (FILE_KEY, SAID_KEY, NEW_KEY)
MODEL = """
import logging, os
import fastserve
class Model:
    def predict(self, x, request: fastserve.Request):
        if x == "environment":
            return [name for name in os.environ if name.startswith("FASTSERVE_")]
        if x == "fail":
            logging.info("asked: %s", request.headers)
            raise ValueError(f"{request.headers} {request!r} {vars(request.state)}")
        return x
    def chat_completions(self, x):
        yield "data: 1\\n\\n"
        raise ValueError("midway")
"""


class Guarded:
    """A server with keys, all of whose output is kept. file: that with its keys."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.server = server
        self.file = directory / "keys"
        self._stdout = directory / "stdout"

    def ask(self, method: str, path: str, key: str | None = None, content: bytes | None = None) -> tuple[int, bytes]:
        return self.server.request(method, path, content, {} if key is None else {"X-API-Key": key})

    def output(self) -> str:
        """Both streams, once the process has ended."""
        return self.server.log + self._stdout.read_text()


@contextlib.contextmanager
def guarded(directory: Path, *flags: str) -> Iterator[Guarded]:
    model = write_model(directory / "m", MODEL)
    (directory / "keys").write_text(f"# ours\n{FILE_KEY}  # alice\n")
    with (directory / "stdout").open("wb") as stdout:
        process = subprocess.Popen(
            command(model, "--port", "0", "--api-key-file", str(directory / "keys"), *flags),
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment({"FASTSERVE_API_KEYS": SAID_KEY}),
        )
        with ending(process) as server:
            server.wait_for_log(r"ready; the model loaded")
            yield Guarded(directory, server)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/livez", "/healthz", "/v2/health/live"),
        *("/ping", "/health", "/readyz", "/ready", "/v1/models/model", "/v1/models/model/loaded"),
        "/v1/models/model:predict",  # GET is readiness there
    ],
)
def test_probes_are_open(path: str, shared: Guarded) -> None:
    assert shared.ask("GET", path)[0] == 200
    assert shared.ask("GET", path, "wrong")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/predict", 200),
        ("POST", "/v1/models/model:predict", 200),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/v1/models/model/schema", 404),
        ("GET", "/v1/websocket", 426),
        ("GET", "/nowhere", 404),
        ("DELETE", "/livez", 405),
        ("OPTIONS", "/predict", 204),
    ],
)
def test_all_else_takes_a_key_and_nobody_is_told_what_there_is(
    method: str, path: str, status: int, shared: Guarded
) -> None:
    content = b"1" if method == "POST" else None
    refused = shared.ask(method, path, content=content)
    assert refused[0] == 401
    assert shared.ask(method, path, "wrong", content) == refused
    for key in (FILE_KEY, SAID_KEY):
        assert shared.ask(method, path, key, content)[0] == status


def test_a_refusal_says_what_is_wanted_and_keeps_the_connection(shared: Guarded) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared.server.port, timeout=PATIENCE_S)
    for fields, status in (({}, 401), ({"Authorization": f"Bearer {SAID_KEY}"}, 200), ({"X-API-Key": "x"}, 401)):
        connection.request("POST", "/predict", b"[1]", fields)
        response = connection.getresponse()
        content = json.loads(response.read())
        assert response.status == status
        if status == 401:
            assert response.getheader("WWW-Authenticate") == 'Bearer realm="fastserve"'
            assert "X-API-Key" in content["error"]
    connection.close()


def test_a_websocket_takes_a_key_with_its_handshake(shared: Guarded) -> None:
    for key, status in ((None, b"401"), (FILE_KEY, b"101")):
        with shared.server.connect() as peer:
            peer.sendall(handshake(X_API_Key=key))
            assert peer.recv(65536).startswith(b"HTTP/1.1 " + status)


def test_the_model_does_not_see_the_keys_in_its_environment(shared: Guarded) -> None:
    status, content = shared.ask("POST", "/predict", FILE_KEY, b'"environment"')
    assert (status, json.loads(content)) == (200, [])


def test_keys_change_with_sighup_on_connections_that_are_there_too(tmp_path: Path) -> None:
    with guarded(tmp_path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server.port, timeout=PATIENCE_S)

        def ask(key: str) -> int:
            connection.request("POST", "/predict", b"1", {"X-API-Key": key})
            response = connection.getresponse()
            response.read()
            return response.status

        assert [ask(FILE_KEY) for _ in range(3)] == [200] * 3
        server.file.write_text(f"{NEW_KEY}\n")
        server.server.process.send_signal(signal.SIGHUP)
        server.server.wait_for_log("API keys are read anew: 2")
        assert [ask(key) for key in (FILE_KEY, NEW_KEY, SAID_KEY)] == [401, 200, 200]
        server.file.write_text(f"{FILE_KEY}\nno good {FILE_KEY}\n")
        server.server.process.send_signal(signal.SIGHUP)
        server.server.wait_for_log("line 2: an API key has .*; the API keys from before stay")
        assert [ask(key) for key in (FILE_KEY, NEW_KEY, SAID_KEY)] == [401, 200, 200]
        connection.close()
        assert server.server.stop() == 0
        assert not [key for key in KEYS if key in server.output()]


def test_a_file_that_cannot_be_read_for_now_holds_nobody(tmp_path: Path) -> None:
    with guarded(tmp_path) as server:
        server.file.unlink()
        os.mkfifo(server.file)  # reading it waits for a writer, as a file system that hangs does
        server.server.process.send_signal(signal.SIGHUP)
        with server.file.open("w") as writer:  # it is being read
            tasks = Path(f"/proc/{server.server.process.pid}/task")
            threads = len(list(tasks.iterdir()))
            for _ in range(10):
                server.server.process.send_signal(signal.SIGHUP)
                assert server.server.request("GET", "/livez") == (200, b"true")
            assert len(list(tasks.iterdir())) == threads
            writer.write(f"{NEW_KEY}\n")
        server.server.wait_for_log("API keys are read anew: 2")
        assert server.server.stop() == 0  # although it is being read again


def attacks() -> Iterator[bytes]:
    """Keys where they belong and where they do not, in messages that are refused at every stage."""
    for key in (FILE_KEY, SAID_KEY, NEW_KEY):
        for name in ("X-API-Key", "Authorization"):
            field = f"{name}: {'Bearer ' if name == 'Authorization' else ''}{key}"
            for raw in (
                f'POST /predict HTTP/1.1\r\nHost: x\r\n{field}\r\nContent-Length: 6\r\n\r\n"fail"',
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field}\r\nContent-Length: 3\r\n\r\n{{x]",
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{field}\r\nContent-Length: 2\r\n\r\n{{}}",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field}\r\n{field}\r\nContent-Length: 1\r\n\r\n1",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field}x\r\nContent-Length: 1\r\n\r\n1",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field[:-1]}\r\nContent-Length: 1\r\n\r\n1",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field.replace(':', ' :')}\r\n\r\n",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field}\0\r\n\r\n",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field}\n\r\n",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n {field}\r\n\r\n",
                f"POST /predict HTTP/1.1\r\nHost: {key}\r\n{field * 3000}\r\n\r\n",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field}\r\nTransfer-Encoding: {key}\r\n\r\n",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field}\r\nExpect: {key}\r\n\r\n",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field}\r\nContent-Length: {key}\r\n\r\n",
                f"POST /predict HTTP/1.1\r\nHost: x\r\n{field}\r\nTransfer-Encoding: chunked\r\n\r\n{key}\r\n",
                f"{key} /predict HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n",
                f"GET /metrics HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n",
                f"GET /openapi.json HTTP/1.0\r\n{field}\r\n\r\n",
                f"GET /v1/websocket HTTP/1.1\r\nHost: x\r\n{field}\r\nUpgrade: {key}\r\nConnection: upgrade\r\n\r\n",
            ):
                yield raw.encode()


def test_no_key_is_ever_shown(tmp_path: Path) -> None:
    flags = ("--log-level", "debug", "--access-log", "--request-ids", "all", "--cors-origin", "https://a.example")
    with guarded(tmp_path, *flags) as server:
        answered = b""
        statuses = set()
        for raw in attacks():
            with server.server.connect() as peer:
                peer.sendall(raw)
                peer.shutdown(1)
                received = b""
                while piece := peer.recv(65536):
                    received += piece
            answered += received
            statuses |= set(re.findall(rb"HTTP/1.1 (\d+)", received))
        server.file.write_text(f"{FILE_KEY} {SAID_KEY}\n")
        server.server.process.send_signal(signal.SIGHUP)
        server.server.wait_for_log("the API keys from before stay")
        assert server.server.stop() == 0
        shown = server.output() + answered.decode("latin-1")
    assert {b"200", b"400", b"401", b"417", b"426", b"431", b"500", b"501"} <= statuses
    assert "Handled request: POST /predict HTTP/1.1 401" in shown
    assert "ValueError" in shown
    assert not [key for key in KEYS if key[:-1] in shown]


@pytest.mark.parametrize(
    ("content", "env", "words"),
    [
        (f"{FILE_KEY} {SAID_KEY}", {}, "line 1: an API key has visible ASCII characters alone"),
        ("# none yet", {}, "holds no API key"),
        (None, {}, "cannot read --api-key-file"),
        (FILE_KEY, {"FASTSERVE_API_KEYS": f"{SAID_KEY} {FILE_KEY}"}, "FASTSERVE_API_KEYS, number 1"),
        (FILE_KEY, {"FASTSERVE_API_KEYS": " , "}, "FASTSERVE_API_KEYS holds no API key"),
        (FILE_KEY, {"FASTSERVE_API_KEYS": ""}, "FASTSERVE_API_KEYS is set and empty"),
        (FILE_KEY, {"FASTSERVE_API_KEY_FILE": ""}, "FASTSERVE_API_KEY_FILE is set and empty"),
        (FILE_KEY, {"FASTSERVE_API_KEY": SAID_KEY}, "did you mean FASTSERVE_API_KEYS"),
    ],
)
def test_keys_that_are_none_are_one_message_that_shows_none(
    content: str | None, env: Mapping[str, str], words: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    model = write_model(tmp_path / "m", MODEL)
    status, errors = run_to_end(model, "--port", "0", "--api-key-file", str(file), env=env)
    assert status == 2
    (line,) = errors.splitlines()
    assert words in line
    assert not [key for key in KEYS if key in line]


@pytest.fixture
def hangups() -> Iterator[None]:
    """Processes that are started have the signal's default, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups")
def test_without_files_to_read_anew_sighup_ends_the_process_as_ever(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, MODEL), env={"FASTSERVE_API_KEYS": SAID_KEY}) as server:
        assert server.request("POST", "/predict", b"1")[0] == 401
        assert server.request("POST", "/predict", b"1", {"X-API-Key": SAID_KEY}) == (200, b"1")
        assert server.stop(signal.SIGHUP) == -signal.SIGHUP
