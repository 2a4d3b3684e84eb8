"""Starlette's files and background tasks: for those who read them and those who leave; what a drain waits for."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.support.making import CHAT, MODELS, PREDICT, asking, exchange, make, release, stream, whole
from tests.support.process import Server, serving

SYNC_AND_ASYNC = pytest.mark.parametrize("path", [PREDICT, CHAT])
SIZE = 10_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(os.urandom(SIZE - 7) + b"the end")
    return path


# --- files ---


@SYNC_AND_ASYNC
def test_a_large_file_is_sent(starlette: Server, path: str, file: Path) -> None:
    answer = make(starlette, whole("FileResponse", path=str(file), filename="name.bin", media_type="video/mp4"), path)
    assert answer.status == 200
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(file.read_bytes()).digest()
    assert answer.fields["content-length"] == str(SIZE)
    assert answer.fields["content-type"] == "video/mp4"
    assert answer.fields["content-disposition"] == 'attachment; filename="name.bin"'
    assert {"etag", "last-modified", "accept-ranges"} <= answer.fields.keys()
    assert "transfer-encoding" not in answer.fields


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537])
def test_files_of_any_size_are_sent(starlette: Server, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"x" * size)
    answer = make(starlette, whole("FileResponse", path=str(path)))
    assert (answer.status, answer.content) == (200, b"x" * size)


def test_a_range_of_a_file_is_whatever_starlette_makes_of_it(starlette: Server, file: Path) -> None:
    """Ranges are for GET (RFC 9110 section 14.2). Starlette minds that from some version on; earlier ones answer."""
    payload = whole("FileResponse", path=str(file))
    answers, _ = exchange(starlette, payload, fields="Range: bytes=100-199\r\n")
    assert [answer.is_complete for answer in answers] == [True, True]
    expected = {206: file.read_bytes()[100:200], 200: file.read_bytes()}
    assert answers[0].content == expected[answers[0].status]


@SYNC_AND_ASYNC
def test_a_file_that_is_not_there_is_500(starlette: Server, path: str, tmp_path: Path) -> None:
    starlette.log = ""
    for missing in (tmp_path / "missing", tmp_path):
        assert make(starlette, whole("FileResponse", path=str(missing)), path).status == 500
    starlette.wait_for_log("RuntimeError: File at path .* does not exist")
    starlette.wait_for_log("RuntimeError: File at path .* is not a file")


def test_a_file_that_is_not_read_does_not_hold_the_slot(starlette: Server, file: Path) -> None:
    with asking(starlette, whole("FileResponse", path=str(file))) as peer:
        assert make(starlette, whole(content="next")).content == b"next"
        received = bytearray()
        while not received.endswith(b"the end"):
            received += peer.recv(65536)
        assert received.endswith(file.read_bytes())


# --- background tasks ---

RESPONSES = pytest.mark.parametrize(
    "payload",
    [whole(content="abc"), stream("sync", "abc"), stream("async", "abc"), whole("PlainTextResponse", content="abc")],
)


@SYNC_AND_ASYNC
@RESPONSES
def test_background_tasks_run_after_the_answer_and_may_fail(
    starlette: Server, path: str, payload: dict[str, Any]
) -> None:
    for task in ("works", "fail"):
        starlette.log = ""
        answer = make(starlette, {**payload, "task": task}, path)
        assert (answer.status, answer.content) == (200, b"abc")
        starlette.wait_for_log(f"sync task {task}")
        starlette.wait_for_log(f"async task {task}")
    starlette.wait_for_log("Exception after the response was complete.*failed in the background")


@RESPONSES
def test_the_answer_is_there_before_the_background_task_is_over(starlette: Server, payload: dict[str, Any]) -> None:
    with asking(starlette, {**payload, "task": "wait"}):
        starlette.wait_for_log("task waits")
        assert make(starlette, {**payload, "task": "another"}).content == b"abc"
        assert "async task wait" not in starlette.log
        release(starlette)
        starlette.wait_for_log("async task wait")


@SYNC_AND_ASYNC
def test_a_background_task_logs_the_id_of_its_own_request(path: str) -> None:
    with serving(MODELS / "response_starlette", "--request-ids", "all") as server:
        for payload in (whole(content="abc"), stream("async", "abc")):
            server.log = ""
            answer = make(server, {**payload, "task": "named"}, path)  # with another request right behind it
            for task in ("sync", "async"):
                line = server.wait_for_log(f'"{task} task named".*\n').group()
                assert f'"request_id": "{answer.fields["x-request-id"]}"' in line


def test_a_drain_waits_for_background_tasks() -> None:
    with serving(MODELS / "response_starlette") as server:
        make(server, {**whole(content="abc"), "task": "sleep"})
        assert server.stop(signal.SIGTERM) == 0
        assert "async task sleep" in server.log


# --- clients that leave ---


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def removing(file: Path, **payload: Any) -> dict[str, Any]:
    """A file that a background task removes when it has been sent."""
    return {**whole("FileResponse", path=str(file)), "remove": str(file), **payload}


def wait_until_removed(server: Server, file: Path) -> None:
    for _ in range(1000):
        if not file.exists():
            return
        server.request("GET", "/")
    assert not file.exists()


def test_a_file_is_removed_once_it_has_been_sent(starlette: Server, file: Path) -> None:
    assert len(make(starlette, removing(file)).content) == SIZE
    wait_until_removed(starlette, file)


def test_a_file_is_removed_too_when_its_client_leaves_in_the_middle(starlette: Server, file: Path) -> None:
    file.write_bytes(bytes(80_000_000))  # over the stream buffer, so that it waits to be read
    with asking(starlette, removing(file)) as peer:
        peer.recv(1000)
        assert file.exists()
        reset(peer)
    wait_until_removed(starlette, file)
    assert "ERROR" not in starlette.log


@pytest.mark.parametrize("policy", ["streams", "all", "none"])
def test_a_file_is_removed_too_when_its_client_left_before_it_was_there(policy: str, file: Path) -> None:
    with serving(MODELS / "response_starlette", "--cancel-on-disconnect", policy) as server:
        with asking(server, removing(file, waits=True)) as peer:
            server.wait_for_log("predict waits")
            reset(peer)
        release(server)
        wait_until_removed(server, file)
        assert make(server, whole(content="next")).content == b"next"
        assert server.stop() == 0
        assert "ERROR" not in server.log
