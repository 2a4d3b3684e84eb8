"""Clients that leave: methods that take the request find out, the others' work stops where the option says so."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.process import Server, serving, write_model

MODELS = Path(__file__).parent.parent / "models"
LEAVING = (MODELS / "request_leaving/model/model.py").read_text()
PREDICT = "/v1/models/model:predict"
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
PATIENCE_S = 30.0
# Two ticks of half a second, one for each thing that is sent to find out; and some time for a busy machine.
FOUND_OUT_S = 1.5 + 1.0


@pytest.fixture(scope="module", params=["starlette", "fastserve"])
def leaving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    source = LEAVING.replace("from starlette.requests import", f"from {request.param} import")
    if request.param == "starlette":
        source = LEAVING
    with serving(write_model(tmp_path_factory.mktemp("leaving"), source)) as server:
        yield server


def release(server: Server, *, is_released: bool = True) -> None:
    """Let the methods go on. What has left before this has been noticed: it comes first in the kernel's queue."""
    server.request("POST", MESSAGES, b"true" if is_released else b"false")


@contextlib.contextmanager
def asking(server: Server, path: str, content: str = "[]", begun: str = "begun") -> Iterator[socket.socket]:
    """A request whose method has begun."""
    server.log = ""
    release(server, is_released=False)
    with server.connect() as peer:
        send(peer, path, content)
        server.wait_for_log(begun)
        yield peer


def send(peer: socket.socket, path: str, content: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    peer.sendall((head + content).encode())


_names = itertools.count()


def next_name() -> str:
    """For one request alone: what the log says of an earlier one may still come."""
    return f"request-{next(_names)}."


def close(peer: socket.socket) -> None:
    """As a client that gives up does: FIN, and a reset only for what is sent to it afterwards."""
    peer.close()


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def receive_until(peer: socket.socket, enough: Callable[[bytes], object]) -> bytes:
    received = b""
    while not enough(received):
        piece = peer.recv(65536)
        assert piece, received
        received += piece
    return received


@pytest.mark.parametrize("leave", [close, reset])
@pytest.mark.parametrize(
    ("path", "content"),
    [(PREDICT, "[]"), (CHAT, "[]"), (COMPLETIONS, "[]"), (COMPLETIONS, '["first"]'), (EMBEDDINGS, '["first"]')],
)
def test_a_method_finds_out_that_its_client_has_left(
    leaving: Server, path: str, content: str, leave: Callable[[socket.socket], None]
) -> None:
    with asking(leaving, path, content) as peer:
        if content != "[]":
            receive_until(peer, lambda received: b"first" in received)
        leave(peer)
        began = time.monotonic()
        leaving.wait_for_log("left")
        assert time.monotonic() - began < FOUND_OUT_S
    if path in (COMPLETIONS, EMBEDDINGS):
        leaving.wait_for_log("ended")  # it looks after itself, so nobody closes it
        assert "closed" not in leaving.log


@pytest.mark.parametrize("path", [PREDICT, CHAT])
def test_a_client_that_has_only_half_closed_gets_its_answer(leaving: Server, path: str) -> None:
    with asking(leaving, path) as peer:
        peer.shutdown(socket.SHUT_WR)
        interim = receive_until(peer, lambda received: received.count(b"100 Continue\r\n\r\n") > 2)
        release(leaving)
        received = receive_until(peer, lambda received: b'"answer"' in received)
        assert peer.recv(1) == b""
    assert interim.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"") == b""
    assert b"HTTP/1.1 200 OK\r\n" in received
    leaving.wait_for_log("released")
    assert "left" not in leaving.log


@pytest.mark.parametrize("path", [COMPLETIONS, EMBEDDINGS])
def test_a_client_that_has_only_half_closed_gets_its_stream(leaving: Server, path: str) -> None:
    with asking(leaving, path, '["first"]') as peer:
        peer.shutdown(socket.SHUT_WR)
        # The beginning of the next chunk's size, zeros that do not change it, is all that can be sent in between.
        received = receive_until(peer, lambda received: received.endswith(b"first\r\n00"))
        release(leaving)
        received += receive_until(peer, lambda received: received.endswith(b"\r\n0\r\n\r\n"))
        assert peer.recv(1) == b""
    assert re.search(rb"\r\n\r\n5\r\nfirst\r\n006\r\nanswer\r\n0\r\n\r\n$", received), received
    assert "left" not in leaving.log


def test_asgi_s_receive_tells_of_the_disconnect(tmp_path: Path) -> None:
    with serving(MODELS / "request_leaving") as server:
        with asking(server, RESPONSES) as peer:
            reset(peer)
        server.wait_for_log("http.disconnect")


# --- methods that do not look ---


@pytest.fixture(scope="module", params=["streams", "all", "none"])
def left_alone(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    """The policy, and a server that has it."""
    flags = ("--cancel-on-disconnect", request.param, "--stream-buffer", "128KiB")
    with serving(MODELS / "left_alone", *flags) as server:
        yield request.param, server


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        (PREDICT, {"streams": "done", "all": "done", "none": "done"}),
        (CHAT, {"streams": "done", "all": "cancelled", "none": "done"}),
        (RESPONSES, {"streams": "done", "all": "done", "none": "done"}),  # takes the request
        (COMPLETIONS, {"streams": "closed", "all": "closed", "none": "done"}),
        # Cancelled where it waits for something of its own, closed where it waits for its turn.
        (EMBEDDINGS, {"streams": "closed", "all": "(cancelled|closed)", "none": "done"}),
    ],
)
def test_what_ends_when_a_client_leaves_is_what_the_option_says(
    left_alone: tuple[str, Server], path: str, ends: dict[str, str]
) -> None:
    policy, server = left_alone
    name, is_stream = next_name(), path in (COMPLETIONS, EMBEDDINGS)
    with asking(server, path, f'["{name}", 1]' if is_stream else f'"{name}"', f"begun {name}") as peer:
        if is_stream:
            receive_until(peer, lambda received: b"x" in received)
        reset(peer)
    if ends[policy] != "done":
        server.wait_for_log(f"{ends[policy]} {name}")
    for _ in range(10):  # time enough for what might be closed or cancelled
        server.request("GET", "/")
    release(server)
    server.wait_for_log(f"{ends[policy]} {name}")
    assert "ERROR" not in server.log


def test_a_queued_request_whose_client_left_is_dropped_unless_the_option_is_none(
    left_alone: tuple[str, Server],
) -> None:
    policy, server = left_alone
    with asking(server, PREDICT, '"first"'):
        with server.connect() as peer:
            peer.sendall(b'POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n"queued"' % PREDICT.encode())
            server.request("GET", "/")  # has been read by now
            reset(peer)
        release(server)
        server.request("POST", PREDICT, b'"last"')
    server.wait_for_log("done last")
    assert ("begun queued" in server.log) == (policy == "none")


@pytest.mark.parametrize("path", [COMPLETIONS, EMBEDDINGS])
def test_a_stream_that_nobody_reads_does_not_fill_its_buffer(left_alone: tuple[str, Server], path: str) -> None:
    _, server = left_alone
    name = next_name()
    with asking(server, path, f'["{name}", 100000]', f"begun {name}") as peer:
        reset(peer)
    for _ in range(10):  # it yields more than the buffer holds meanwhile
        server.request("GET", "/")
    release(server)
    server.wait_for_log(f"(done|closed|cancelled) {name}")


# --- the count of those that have left ---

# The payload says where a request stays until `messages` opens the gate.
STAGES = """
import {library}, logging
class Model:
    def __init__(self):
        self.gate = {library}.Event()
    {async_}def stay(self, stage, x):
        if x == stage:
            logging.info("staying in %s.", stage)
            {await_}self.gate.wait()
        return x
    {async_}def preprocess(self, x):
        return {await_}self.stay("preprocess", x)
    {async_}def predict(self, x):
        return {await_}self.stay("predict", x)
    {async_}def postprocess(self, x):
        return {await_}self.stay("postprocess", x)
    {async_}def messages(self, x):
        self.gate.set()
"""
# A stream without end, or a response that is too large for what TCP holds.
SENDING = """
class Model:
    {async_}def predict(self, x):
        if x == "response":
            return b"x" * 50_000_000
        return self.stream() if x == "stream" else x
    {async_}def stream(self):
        while True:
            yield b"x" * 65536
"""
sync_and_async = pytest.mark.parametrize(
    "words",
    [
        {"library": "threading", "async_": "", "await_": ""},
        {"library": "asyncio", "async_": "async ", "await_": "await "},
    ],
    ids=["sync", "async"],
)


def counted(server: Server, name: str) -> dict[str, int]:
    """A counter, by its only label, or by "" if it has none."""
    _, page = server.request("GET", "/metrics")
    found = re.findall(rf'^fastserve_{name}(?:{{\w+="(\w+)"}})? (\d+)', page.decode(), re.MULTILINE)
    return {label: int(value) for label, value in found}


def wait_for_count(server: Server, name: str, label: str = "") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while counted(server, name)[label] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@sync_and_async
def test_they_are_counted_by_the_method_that_was_at_work(tmp_path: Path, words: dict[str, str]) -> None:
    with serving(write_model(tmp_path, STAGES.format(**words)), "--concurrency", "2") as server:
        stages = ("preprocess", "predict", "postprocess")
        for stage in stages:
            with server.connect() as peer:
                send(peer, PREDICT, f'"{stage}"')
                server.wait_for_log(f"staying in {stage}")
                reset(peer)
            wait_for_count(server, "cancelled_total", stage)
        server.request("POST", MESSAGES, b"0")
        assert server.predict("free") == "free"
        assert sum(counted(server, "cancelled_total").values()) == len(stages)


@sync_and_async
def test_they_are_counted_while_something_is_sent_to_them(tmp_path: Path, words: dict[str, str]) -> None:
    with serving(write_model(tmp_path, SENDING.format(**words))) as server:
        for stage in ("stream", "response"):
            with server.connect() as peer:
                send(peer, PREDICT, f'"{stage}"')
                receive_until(peer, lambda received: len(received) > 1000)
                reset(peer)
            wait_for_count(server, "cancelled_total", stage)
        assert server.predict("free") == "free"
        assert sum(counted(server, "cancelled_total").values()) == 2
        assert counted(server, "stream_aborted_total") == {"": 0}


@sync_and_async
def test_one_that_takes_nothing_is_cut_off_and_counted_as_a_stream_that_was_cut(
    tmp_path: Path, words: dict[str, str]
) -> None:
    with serving(write_model(tmp_path, SENDING.format(**words)), "--timeout-stall", "1") as server:
        with server.connect() as peer:
            send(peer, PREDICT, '"stream"')
            wait_for_count(server, "stream_aborted_total")
        assert server.predict("free") == "free"  # its slot is given back
