"""The real command over real sockets: every kind of model, every kind of client."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.answers import read_answers
from tests.support.process import Server, command, ending, environment, serving, write_model

ECHO = """
class Model:
    def predict(self, model_input):
        return {"echo": model_input}
"""

# What goes in is a number, what comes out says which way it went. (All combinations: tests/model/test_runtime.py.)
PRE = {
    "none": "",
    "sync": "    def preprocess(self, x): return x + 1\n",
    "coroutine": "    async def preprocess(self, x): return x + 1\n",
    "no argument": "    def preprocess(self): return 7\n",
}
PREDICT = {
    "sync": "    def predict(self, x): return [x]\n",
    "coroutine": "    async def predict(self, x): return [x]\n",
}
ASYNC_GENERATOR = "        async def f():\n            yield f'{x}!'\n        return f()\n"
STREAMS = {
    "generator": "    def predict(self, x):\n        yield str(x)\n        yield b'!'\n",
    "async generator": "    async def predict(self, x):\n        yield str(x)\n        yield b'!'\n",
    "returned generator": "    def predict(self, x): return (c for c in (str(x), b'!'))\n",
    "generator from a coroutine": "    async def predict(self, x): return (c for c in (str(x), b'!'))\n",
    "async generator from a function": "    def predict(self, x):\n" + ASYNC_GENERATOR,
    "async generator from a coroutine": "    async def predict(self, x):\n" + ASYNC_GENERATOR,
}
POST = {
    "none": "",
    "sync": "    def postprocess(self, x): return x + ['post']\n",
    "coroutine": "    async def postprocess(self, x): return x + ['post']\n",
}


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("echo"), ECHO)) as server:
        yield server


def exchange(server: Server, *pieces: bytes) -> bytes:
    """Send the pieces, half-close, and return all that comes back until the server closes."""
    with server.connect() as peer:
        for piece in pieces:
            peer.sendall(piece)
        peer.shutdown(socket.SHUT_WR)
        received = b""
        while read := peer.recv(65536):
            received += read
        return received


@pytest.mark.parametrize(
    ("pre", "predict", "post", "answer"),
    [
        ("none", "coroutine", "none", [5]),
        ("sync", "sync", "sync", [6, "post"]),
        ("sync", "coroutine", "sync", [6, "post"]),
        ("coroutine", "sync", "coroutine", [6, "post"]),
        ("no argument", "coroutine", "coroutine", [7, "post"]),
    ],
)
def test_methods_of_any_kind_go_together(
    pre: str, predict: str, post: str, answer: list[object], tmp_path: Path
) -> None:
    with serving(write_model(tmp_path, f"class Model:\n{PRE[pre]}{PREDICT[predict]}{POST[post]}")) as server:
        assert server.predict(5) == answer


@pytest.mark.parametrize("kind", STREAMS)
def test_every_kind_of_stream_is_chunked_and_whole(kind: str, tmp_path: Path) -> None:
    with serving(write_model(tmp_path, "class Model:\n" + STREAMS[kind])) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for number in (1, 2):  # twice on one connection
            connection.request("POST", "/predict", str(number))
            response = connection.getresponse()
            assert response.getheader("Transfer-Encoding") == "chunked"
            assert response.getheader("Content-Type") == "application/octet-stream"
            assert response.read() == f"{number}!".encode()
        connection.close()
        assert server.request("POST", "/predict", b"3", {"Accept": "application/json"}) == (200, b'"3!"')


def test_keep_alive_and_the_predict_routes(echo: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", echo.port, timeout=10)
    connection.connect()
    socket_used = connection.sock
    for path in (
        "/v1/models/model:predict",
        "/v1/models/x:predict",
        "/v1/models/x:predict_binary",
        "/predict",
        "/invocations",
    ):
        connection.request("POST", path, b'{"a": [1, null, "\xc3\xa9"]}')
        response = connection.getresponse()
        assert json.load(response) == {"echo": {"a": [1, None, "é"]}}
        assert response.getheader("Content-Type") == "application/json"
        assert connection.sock is socket_used
    connection.close()


def test_pipelined_requests_are_answered_in_order(echo: Server) -> None:
    one = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%d"
    raw = b"".join(one % (len(str(n)), n) for n in range(500)) + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = read_answers(exchange(echo, raw), [b"POST"] * 500 + [b"GET"], is_closed=True)
    assert [json.loads(a.content) for a in answers] == [{"echo": n} for n in range(500)] + [True]


def test_chunked_and_sized_content_of_any_size_is_echoed(echo: Server) -> None:
    for size in (0, 1, 70_000, 300_000, 5_000_000):
        text = json.dumps("x" * size).encode()
        pieces = [
            b"%x\r\n%b\r\n" % (len(text[i : i + 65536]), text[i : i + 65536]) for i in range(0, len(text), 65536)
        ]
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        for received in (
            exchange(echo, head + b"Content-Length: %d\r\n\r\n" % len(text), text),
            exchange(echo, head + b"Transfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n"),
        ):
            (answer,) = read_answers(received, [b"POST"], is_closed=True)
            assert answer.content == b'{"echo":' + text + b"}"


def test_curl_expects_100_continue_and_uploads(echo: Server, tmp_path: Path) -> None:
    (tmp_path / "big.json").write_text(json.dumps("x" * 3_000_000))
    url = f"http://127.0.0.1:{echo.port}/predict"
    command = ["curl", "-sS", "-v", "-H", "Expect: 100-continue", "--data-binary", f"@{tmp_path / 'big.json'}", url]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert b"100 Continue" in done.stderr
    assert len(done.stdout) == 3_000_000 + len('{"echo":""}')


def test_many_clients_at_once_each_get_their_own_answer(echo: Server) -> None:
    def client(number: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", echo.port, timeout=30)
        for turn in range(50):
            payload = {"client": number, "turn": turn, "fill": "x" * (turn * number)}
            connection.request("POST", "/predict", json.dumps(payload))
            assert json.load(connection.getresponse()) == {"echo": payload}
        connection.close()
        return number

    with ThreadPoolExecutor(64) as pool:
        assert sorted(pool.map(client, range(64))) == list(range(64))


@pytest.mark.parametrize(
    ("request_line", "status", "words"),
    [
        ("POST /nope", 404, "Not Found"),
        ("PUT /predict", 405, "Method Not Allowed"),
        ("POST /predict", 400, "Invalid JSON payload"),
    ],
)
def test_errors_are_json_with_trusss_fields(echo: Server, request_line: str, status: int, words: str) -> None:
    raw = f"{request_line} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{{bad".encode()
    (answer,) = read_answers(exchange(echo, raw), [b"POST"], is_closed=True)
    assert answer.status == status
    assert words in json.loads(answer.content)["error"]
    assert (answer.fields["x-baseten-error-source"], answer.fields["x-baseten-error-code"]) == ("04", "700")


def test_a_model_that_raises_is_500_and_its_traceback_is_the_users_own(tmp_path: Path) -> None:
    source = """
class Model:
    def predict(self, x):
        return self.helper(x)
    def helper(self, x):
        raise KeyError("hidden")
"""
    with serving(write_model(tmp_path, source)) as server:
        status, content = server.request("POST", "/predict", b"1")
        assert (status, json.loads(content)) == (500, {"error": "Internal Server Error (in model/chainlet)."})
        server.stop()
        lines = [json.loads(line) for line in server.log.splitlines()]
        (line,) = [line for line in lines if line["levelname"] == "ERROR"]
        assert "KeyError: 'hidden'" in line["exc_info"]
        assert line["exc_info"].count("File ") == 2
        assert "fastserve" not in line["exc_info"]


@pytest.mark.parametrize(
    "raised", ["SystemExit(3)", "KeyboardInterrupt()", "StopIteration()", "GeneratorExit()", "BaseException()"]
)
@pytest.mark.parametrize("prefix", ["", "async "])
def test_nothing_that_user_code_raises_ends_the_server(raised: str, prefix: str, tmp_path: Path) -> None:
    source = (
        f"class Model:\n    {prefix}def predict(self, x):\n        if x: raise {raised}\n        return 'alive'\n"
    )
    with serving(write_model(tmp_path, source)) as server:
        assert server.request("POST", "/predict", b"1")[0] == 500
        assert server.predict(0) == "alive"


def test_probes_answer_while_predict_never_lets_go_of_the_gil(tmp_path: Path) -> None:
    source = """
class Model:
    def predict(self, x):
        n = 0
        while n < x["until"]:
            n += 1
        return n
"""
    with serving(write_model(tmp_path, source)) as server:
        busy = threading.Thread(target=server.predict, args=({"until": 20_000_000},))
        busy.start()
        answered = 0
        while busy.is_alive() and answered < 20:
            assert server.request("GET", "/livez") == (200, b"true")
            answered += 1
        busy.join()
        assert answered > 5


def test_the_address_is_loopback_unless_opened_and_the_port_is_printed(echo: Server) -> None:
    assert f"listening on http://127.0.0.1:{echo.port}" in echo.log
    assert echo.port != 8080


def test_access_lines_go_to_stdout_with_the_request_s_id(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "class Model:\n    def predict(self, model_input): return model_input\n")
    process = subprocess.Popen(
        command(directory, "--port", "0", "--access-log", "--log-level", "error"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with ending(process) as server:
        while server.request("GET", "/ping")[0] != 200:  # logged, too: the loading model's 503
            pass
        server.request("POST", "/v1/models/model:predict", b"1", {"X-Request-ID": "mine"})
        server.request("GET", "/")
        assert server.stop() == 0
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout.read().splitlines()]
        process.stdout.close()
    assert lines[-1]["message"] == "Handled request: POST /v1/models/model:predict HTTP/1.1 200"
    assert lines[-1]["request_id"] == "mine"
    assert all("GET /ping" in line["message"] for line in lines[:-1])


def test_access_lines_that_nobody_reads_keep_no_request_and_no_end_waiting(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "class Model:\n    def predict(self, model_input): return model_input\n")
    process = subprocess.Popen(
        command(directory, "--port", "0", "--access-log"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with ending(process) as server:
        server.wait_for_log("ready")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for _ in range(1500):  # a pipe holds 64 KiB
            connection.request("POST", "/predict", b"1")
            assert connection.getresponse().read() == b"1"
        connection.close()
        assert server.request("GET", "/livez") == (200, b"true")
        assert server.stop() == 0
        assert process.stdout is not None
        process.stdout.close()


def test_with_stdout_closed_access_lines_go_nowhere_and_into_no_connection(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "class Model:\n    def predict(self, model_input): return model_input\n")
    words = command(directory, "--port", "0", "--access-log")
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" >&-', "sh", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with ending(process) as server:
        server.wait_for_log("ready")
        for number in range(20):
            assert server.predict(number) == number
        assert server.stop() == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
        process.stdout.close()


def ids_of(server: Server, headers: dict[str, str], content: bytes = b"1") -> tuple[int, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/predict", content, headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.getheader("X-Request-ID")


LOGS = """
import asyncio, logging
class Model:
    def preprocess(self, model_input):
        logging.info("seen by %s", model_input)
        return model_input
    async def predict(self, model_input):
        await asyncio.sleep(0)
        logging.info("seen by %s", model_input)
        return 1 / model_input
"""


def test_a_request_s_own_id_is_in_its_answer_and_in_the_log_lines_of_every_thread(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, LOGS)) as server:
        assert ids_of(server, {"X-Request-ID": "mine"}) == (200, "mine")
        server.wait_for_log('(?s)"seen by 1", "request_id": "mine".*"seen by 1", "request_id": "mine"')
        assert ids_of(server, {"x-baseten-request-id": "b", "x-baseten-chain-request-id": "c"}, b"2") == (200, "b")
        server.wait_for_log('"seen by 2", "request_id": "b", "chain_request_id": "c"')
        assert ids_of(server, {}, b"3") == (200, None)
        server.wait_for_log('"seen by 3"}')
        assert ids_of(server, {"X-Request-ID": "not one"}, b"4") == (200, None)  # a space cannot stand in a log line


def test_requests_of_one_id_at_the_same_time_are_each_their_own(tmp_path: Path) -> None:
    source = "class Model:\n    def preprocess(self, x): return x\n    async def predict(self, x): return x\n"
    with serving(write_model(tmp_path, source)) as server, ThreadPoolExecutor(16) as clients:

        def ask(number: int) -> tuple[int, bytes]:
            return server.request("POST", "/predict", b"%d" % number, {"X-Request-ID": "same"})

        assert list(clients.map(ask, range(200))) == [(200, b"%d" % number) for number in range(200)]


def test_what_goes_wrong_gets_an_id_that_its_log_line_has_too(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, LOGS)) as server:
        status, name = ids_of(server, {}, b"0")
        assert status == 500
        assert name is not None
        server.wait_for_log(rf'ZeroDivisionError.*"request_id": "{name}"')


def test_every_request_can_have_an_id(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, LOGS), "--request-ids", "all") as server:
        names = [ids_of(server, {})[1] for _ in range(3)]
        assert len(set(names)) == 3
        server.wait_for_log(f'"seen by 1", "request_id": "{names[2]}"')
