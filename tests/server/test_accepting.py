"""Connections are accepted while there is room, wait while there is none, and are served when there is again."""

from __future__ import annotations

import select
import socket
import subprocess
from pathlib import Path

from tests.support.process import Server, command, ending, environment, serving, write_model

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"

HOG = """
import os
class Model:
    held = []
    def predict(self, limit):
        while self.held and self.held[-1] > limit:
            os.close(self.held.pop())
        while (descriptor := os.open("/dev/null", os.O_RDONLY)) <= limit:
            self.held.append(descriptor)
        os.close(descriptor)
"""


def ask(connection: socket.socket) -> bytes:
    connection.sendall(GET)
    return connection.recv(65536)


def is_answered(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def full(server: Server, count: int) -> list[socket.socket]:
    """`count` connections, each of which has been served."""
    connections = [server.connect() for _ in range(count)]
    for connection in connections:
        assert ask(connection).startswith(b"HTTP/1.1 200")
    return connections


def test_connections_over_the_limit_wait_until_one_closes(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "class Model:\n    def predict(self, x): return x")
    with serving(directory, "--max-connections", "3") as server:
        connections = full(server, 3)
        server.wait_for_log("3 connections, as many as --max-connections allows")
        waiting = [server.connect(), server.connect()]
        for connection in waiting:
            connection.sendall(GET)
        for connection in connections:  # those that are there are served all the while
            assert ask(connection).startswith(b"HTTP/1.1 200")
        assert not any(map(is_answered, waiting))
        connections[1].close()
        assert waiting[0].recv(65536).startswith(b"HTTP/1.1 200")  # in the order in which they came
        assert not is_answered(waiting[1])
        waiting[0].close()
        assert waiting[1].recv(65536).startswith(b"HTTP/1.1 200")
        assert server.stop() == 0
        assert server.log.count("as many as --max-connections allows") == 1
        for connection in (*connections, *waiting):
            connection.close()


def test_a_server_that_is_full_still_drains(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "class Model:\n    def predict(self, x): return x")
    with serving(directory, "--max-connections", "1") as server:
        (connection,) = full(server, 1)
        with server.connect() as waiting:
            waiting.sendall(GET)
            assert server.stop() == 0
            assert connection.recv(1) == b""
        connection.close()


def test_when_descriptors_run_short_connections_wait_until_there_are_some(tmp_path: Path) -> None:
    limited = ["bash", "-c", 'ulimit -n 160; exec "$@"', "bash"]
    directory = write_model(tmp_path, HOG)
    process = subprocess.Popen(
        [*limited, *command(directory, "--port", "0")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with ending(process) as server:
        server.wait_for_log("ready; the model loaded")
        with server.connect() as steady:
            predict = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
            steady.sendall(predict % (3, b"150"))  # the model takes all descriptors up to this
            assert steady.recv(65536).endswith(b"null")
            with server.connect() as last, server.connect() as waiting:
                assert ask(last).startswith(b"HTTP/1.1 200")
                server.wait_for_log(r"file descriptors are nearly used up \(ulimit -n\)")
                waiting.sendall(GET)
                assert ask(steady).startswith(b"HTTP/1.1 200")
                assert not is_answered(waiting)
                steady.sendall(predict % (2, b"60"))  # and gives them back
                assert steady.recv(65536).endswith(b"null")
                assert waiting.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.stop() == 0


def test_the_soft_limit_of_descriptors_is_raised_for_the_connections_that_may_come(tmp_path: Path) -> None:
    source = """
import resource
class Model:
    def predict(self, x): return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
"""
    limited = ["bash", "-c", 'ulimit -S -n 200; exec "$@"', "bash"]
    process = subprocess.Popen(
        [*limited, *command(write_model(tmp_path, source), "--port", "0", "--max-connections", "300")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with ending(process) as server:
        server.wait_for_log("ready; the model loaded")
        assert server.predict(1) == 428
        assert server.stop() == 0


def test_a_client_has_no_more_than_its_connections_and_others_have_theirs(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "class Model:\n    def predict(self, x): return x")
    with serving(directory, "--max-connections-per-client", "2") as server:
        connections = full(server, 2)
        with server.connect() as refused:
            assert refused.recv(1) == b""
        server.wait_for_log("127.0.0.1 has 2 connections, as many as --max-connections-per-client allows")
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, 30.0, source_address=("127.0.0.2", 0)) as other:
            assert ask(other).startswith(b"HTTP/1.1 200")
        connections.pop().close()
        while not (answer := try_to_ask(server)):  # until the server has seen that one has gone
            pass
        assert answer.startswith(b"HTTP/1.1 200")
        for connection in connections:
            assert ask(connection).startswith(b"HTTP/1.1 200")
            connection.close()


def try_to_ask(server: Server) -> bytes:
    try:
        with server.connect() as connection:
            return ask(connection)
    except ConnectionError:
        return b""
