"""Streams over real sockets: each yield at once, cut streams that look cut, readers that leave or do not read."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.process import Server, serving, write_model

# Between its first and second chunk the generator waits until the test has opened and closed a FIFO.
STEPPED = """
class Model:
    def predict(self, model_input):
        yield "first"
        open(model_input["fifo"]).read()
        if model_input.get("fail"):
            raise ValueError("boom")
        yield "second"
"""
STEPPED_ASYNC = """
import asyncio
class Model:
    async def predict(self, model_input):
        yield "first"
        await asyncio.to_thread(lambda: open(model_input["fifo"]).read())
        if model_input.get("fail"):
            raise ValueError("boom")
        yield "second"
"""
# An endless generator that leaves a mark when it is closed.
ENDLESS = """
import pathlib
class Model:
    def predict(self, model_input):
        if model_input == "ping":
            return "pong"
        return self.chunks(model_input)
    def chunks(self, mark):
        try:
            while True:
                yield b"x" * 65536
        finally:
            pathlib.Path(mark).touch()
"""
ENDLESS_ASYNC = """
import asyncio, pathlib
class Model:
    async def predict(self, model_input):
        if model_input == "ping":
            return "pong"
        return self.chunks(model_input)
    async def chunks(self, mark):
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            pathlib.Path(mark).touch()
"""


def release(fifo: Path) -> None:
    with fifo.open("w"):
        pass


@pytest.mark.parametrize("source", [STEPPED, STEPPED_ASYNC])
def test_a_chunk_is_on_the_wire_before_the_next_is_made(source: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with serving(write_model(tmp_path / "m", source)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("POST", "/predict", f'{{"fifo": "{fifo}"}}')
        response = connection.getresponse()
        assert response.read1() == b"first"
        release(fifo)
        assert response.read() == b"second"
        connection.close()


@pytest.mark.parametrize("source", [STEPPED, STEPPED_ASYNC])
def test_a_stream_that_fails_midway_is_cut_and_every_client_can_tell(source: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with serving(write_model(tmp_path / "m", source)) as server:
        url = f"http://127.0.0.1:{server.port}/predict"
        payload = f'{{"fifo": "{fifo}", "fail": true}}'
        curl = subprocess.Popen(["curl", "-sN", "-d", payload, url], stdout=subprocess.PIPE)
        release(fifo)
        assert curl.communicate(timeout=10)[0] == b"first"
        assert curl.returncode == 18  # CURLE_PARTIAL_FILE
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("POST", "/predict", payload)
        release(fifo)
        with pytest.raises(http.client.IncompleteRead):
            connection.getresponse().read()
        connection.close()
        # HTTP/1.0 has no chunks: only a reset tells that content ended by the close is not whole.
        with server.connect() as peer:
            content = payload.encode()
            peer.sendall(b"POST /predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))
            assert b"200 OK" in peer.recv(65536)
            release(fifo)
            with pytest.raises(ConnectionResetError):
                while peer.recv(65536):
                    pass


def test_on_stream_error_end_is_trusss_way(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with serving(write_model(tmp_path / "m", STEPPED, "runtime: {on_stream_error: end}")) as server:
        url = f"http://127.0.0.1:{server.port}/predict"
        curl = subprocess.Popen(
            ["curl", "-sN", "-d", f'{{"fifo": "{fifo}", "fail": true}}', url], stdout=subprocess.PIPE
        )
        release(fifo)
        assert curl.communicate(timeout=10)[0] == b"first"
        assert curl.returncode == 0


def test_a_generator_that_fails_at_once_is_a_500(tmp_path: Path) -> None:
    source = "class Model:\n    def predict(self, x):\n        raise ValueError('boom')\n        yield\n"
    with serving(write_model(tmp_path, source)) as server:
        assert server.request("POST", "/predict", b"1")[0] == 500


def wait_for(mark: Path, server: Server) -> None:
    """Until the generator has left its mark; other requests are answered meanwhile."""
    for _ in range(2000):
        if mark.exists():
            return
        assert server.predict("ping") == "pong"
    raise AssertionError("the generator was not closed")


def start_stream(server: Server, mark: Path) -> socket.socket:
    peer = server.connect()
    content = f'"{mark}"'.encode()
    peer.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))
    assert b"200 OK" in peer.recv(100)
    return peer


@pytest.mark.parametrize("source", [ENDLESS, ENDLESS_ASYNC])
def test_a_generator_is_closed_when_its_client_leaves(source: str, tmp_path: Path) -> None:
    mark = tmp_path / "closed"
    with serving(write_model(tmp_path / "m", source), "--concurrency", "2") as server:
        start_stream(server, mark).close()
        wait_for(mark, server)


@pytest.mark.parametrize("source", [ENDLESS, ENDLESS_ASYNC])
def test_a_reader_that_stops_is_cut_off_and_holds_no_more_than_its_buffer(source: str, tmp_path: Path) -> None:
    mark = tmp_path / "closed"
    flags = ("--concurrency", "2", "--stream-buffer", "4M", "--timeout-stall", "1")
    with serving(write_model(tmp_path / "m", source), *flags) as server:
        before = resident_bytes(server)
        peak = before
        with start_stream(server, mark):
            for _ in range(5000):
                if mark.exists():
                    break
                assert server.predict("ping") == "pong"
                peak = max(peak, resident_bytes(server))
            assert mark.exists()
        assert peak - before < 16 << 20


def resident_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def test_a_gap_longer_than_streaming_read_timeout_cuts_the_stream(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with serving(write_model(tmp_path / "m", STEPPED, "runtime: {streaming_read_timeout: 1}")) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("POST", "/predict", f'{{"fifo": "{fifo}"}}')
        with pytest.raises(http.client.IncompleteRead):
            connection.getresponse().read()
        connection.close()
        release(fifo)
