"""Thousands of clients that leave at every stage, hundreds that do not read: nothing is left, others are served."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve.options import KIB, MIB
from tests.support.footprint import footprint_of, settled
from tests.support.process import Server, serving, write_model

PATIENCE_S = 60.0
CLIENTS = 5000
WAVE = 250  # at once: below what `ulimit -n` is on an ordinary machine
RESET = struct.pack("ii", 1, 0)

STAGES = """
import asyncio, time
class Model:
    {async_}def preprocess(self, x):
        {pause}
        return x
    {async_}def predict(self, x):
        {pause}
        if x % 3 == 0:
            return self.stream()
        return x
    {async_}def stream(self):
        for _ in range(20):
            yield "x" * 1000
            {pause}
"""
SYNC = STAGES.format(async_="", pause="time.sleep(0.0005)")
COROUTINE = STAGES.format(async_="async ", pause="await asyncio.sleep(0.0005)")

ENDLESS = """
class Model:
    {async_}def predict(self, x):
        if x:
            return x
        return self.stream()
    {async_}def stream(self):
        while True:
            yield b"x" * 65536
"""


def metrics(server: Server) -> dict[str, float]:
    _, page = server.request("GET", "/metrics")
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:{.*})?) (\S+)$", page.decode(), re.MULTILINE)}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("source", [SYNC, COROUTINE], ids=["sync", "coroutine"])
def test_a_storm_of_clients_that_leave_leaves_nothing_behind(tmp_path: Path, source: str) -> None:
    with serving(write_model(tmp_path, source), "--concurrency", "4") as server:
        server.predict(1)
        before = metrics(server)
        dice = random.Random(7)
        asked = 0
        for _ in range(CLIENTS // WAVE):
            with contextlib.ExitStack() as wave:
                peers = [wave.enter_context(server.connect()) for _ in range(WAVE)]
                for peer in peers:
                    content = str(dice.randrange(100)).encode()
                    message = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
                        len(content),
                        content,
                    )
                    cut = len(message) if dice.random() < 0.8 else dice.randrange(len(message))
                    asked += cut == len(message)
                    peer.sendall(message[:cut])
                for peer in peers:
                    if dice.random() < 0.5:
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert asked > CLIENTS / 2
        wait_until(lambda: metrics(server)["fastserve_inflight_requests"] == 0)
        wait_until(lambda: metrics(server)["process_open_fds"] <= before["process_open_fds"])
        after = metrics(server)
        assert after["fastserve_queue_depth"] == 0
        assert after["process_threads"] <= before["process_threads"] + 1  # the one that scrapes
        assert after["process_resident_memory_bytes"] < before["process_resident_memory_bytes"] + 16e6
        # Whoever asked was answered, or had left.
        answered = 'fastserve_requests_total{endpoint="predict",code="200"}'
        left = sum(value for name, value in after.items() if name.startswith("fastserve_cancelled_total"))
        assert left > 0
        assert after[answered] - before[answered] + left >= asked
        assert server.predict(1) == 1
        assert "bug of fastserve" not in server.read_log()


def probe(server: Server, count: int) -> None:
    """Each on a connection of its own, as orchestrators ask."""
    for path in (b"/livez", b"/readyz") * (count // 2):
        with server.connect() as peer:
            peer.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
            answer = b""
            while piece := peer.recv(4096):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_probes_leave_nothing_behind(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, COROUTINE)) as server:
        probe(server, 500)
        before = footprint_of(server.process.pid)
        probe(server, 4000)
        after = settled(server.process.pid, before)
        assert after.descriptors <= before.descriptors
        assert after.threads <= before.threads
        assert after.memory_kb < before.memory_kb + 1024  # 256 bytes of each would be as much


def test_large_content_leaves_nothing_behind(tmp_path: Path) -> None:
    content = b'"%b"' % (b"x" * 10_000_000)
    source = "class Model:\n    def predict(self, x): return len(x)\n"
    with serving(write_model(tmp_path, source)) as server:

        def upload(count: int) -> None:
            for _ in range(count):
                assert server.request("POST", "/predict", content) == (200, b"10000000")

        upload(5)
        before = footprint_of(server.process.pid)
        upload(25)
        after = footprint_of(server.process.pid)
        assert after.memory_kb < before.memory_kb + 10_000  # not even one more is held


# in_hand: what a generator on a thread has made while it waits for room.
@pytest.mark.parametrize(("async_", "in_hand"), [("", 64), ("async ", 0)], ids=["sync", "coroutine"])
def test_hundreds_who_do_not_read_stop_nobody_and_hold_what_they_may(
    tmp_path: Path, async_: str, in_hand: int
) -> None:
    flags = ("--concurrency", "501", "--stream-buffer", "1M", "--stream-buffers", "32M")
    with (
        serving(write_model(tmp_path, ENDLESS.format(async_=async_)), *flags) as server,
        contextlib.ExitStack() as stack,
    ):
        server.predict(1)
        before = metrics(server)["process_resident_memory_bytes"]
        for _ in range(500):
            peer = socket.socket()
            stack.enter_context(peer)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect(("127.0.0.1", server.port))
            peer.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n0")
        wait_until(lambda: metrics(server)["fastserve_inflight_requests"] == 500)
        for number in range(1, 50):
            assert server.predict(number) == number
        held = metrics(server)["process_resident_memory_bytes"] - before
        # 32 MiB together, 64 KiB each whatever the others hold, what one write may leave in each transport, and the
        # thread of each; the rest is Python's own.
        assert held < 32 * MIB + 500 * (64 + 128 + 64 + in_hand) * KIB + 16 * MIB, held
    assert "bug of fastserve" not in server.log
