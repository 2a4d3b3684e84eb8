"""Responses that a model streams itself, starlette's and ours: pieces, failures, slots, readers slow and leaving."""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from tests.support.making import (
    CHAT,
    FAILED,
    MODELS,
    PREDICT,
    asking,
    error_fields,
    exchange,
    make,
    release,
    stream,
    whole,
)
from tests.support.process import Server, serving

SYNC_AND_ASYNC = pytest.mark.parametrize("path", [PREDICT, CHAT])
SOURCES = pytest.mark.parametrize("source", ["sync", "async"])
MIB = 1024 * 1024


@SYNC_AND_ASYNC
@pytest.mark.parametrize("source", ["sync", "async", "list"])
def test_a_stream_is_sent_as_it_comes_with_status_type_and_fields(either: Server, path: str, source: str) -> None:
    chunks = ["data: 0\n\n", "", "data: \xe9\n\n"]
    given = {"status_code": 202, "media_type": "text/event-stream", "headers": {"X-Name": "value"}}
    answer = make(either, stream(source, *chunks, **given), path)
    assert (answer.status, answer.content) == (202, "data: 0\n\ndata: \xe9\n\n".encode())
    assert answer.fields["content-type"].startswith("text/event-stream")  # starlette adds a charset
    assert answer.fields["transfer-encoding"] == "chunked"
    assert answer.fields["x-name"] == "value"
    assert error_fields(answer) == [None, None]


@SYNC_AND_ASYNC
@pytest.mark.parametrize("source", ["sync", "async", "list"])
def test_an_empty_stream_is_an_empty_answer(either: Server, path: str, source: str) -> None:
    assert make(either, stream(source), path).content == b""


@SOURCES
def test_a_stream_has_the_type_of_bytes_if_the_model_names_none(ours: Server, source: str) -> None:
    assert make(ours, stream(source, "a")).fields["content-type"] == "application/octet-stream"


@SOURCES
@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_stream_whose_status_has_no_content_sends_none(either: Server, source: str, status: int) -> None:
    answer = make(either, stream(source, *["a"] * 10, status_code=status))
    assert (answer.status, answer.content) == (status, b"")


def test_a_stream_of_an_error_status_is_marked(either: Server) -> None:
    answer = make(either, stream("sync", "no", status_code=429))
    assert (answer.status, answer.content, error_fields(answer)) == (429, b"no", ["04", "700"])


def test_a_response_is_never_gathered_to_json(either: Server) -> None:
    answers, _ = exchange(either, stream("sync", "a", "b"), fields="Accept: application/json\r\n")
    assert answers[0].content == b"ab"


@SYNC_AND_ASYNC
@SOURCES
def test_the_head_of_a_slow_stream_goes_out_before_its_first_piece(either: Server, path: str, source: str) -> None:
    with asking(either, stream(source, "wait", "last", media_type="text/event-stream"), path) as peer:
        head = receive_until(peer, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Type: text/event-stream" in head
        release(either)
        assert receive_until(peer, LAST_CHUNK) == b"4\r\nlast" + LAST_CHUNK


# --- failures ---


@SYNC_AND_ASYNC
@SOURCES
def test_a_stream_that_fails_at_once_is_500(either: Server, path: str, source: str) -> None:
    either.log = ""
    answer = make(either, stream(source, "fail"), path)
    assert (answer.status, json.loads(answer.content)) == (500, FAILED)
    either.wait_for_log("ValueError: failed midway")


@SYNC_AND_ASYNC
@SOURCES
@pytest.mark.parametrize("media_type", ["text/event-stream", "text/plain"])
def test_a_stream_that_fails_midway_is_cut_and_an_event_source_is_told(
    either: Server, path: str, source: str, media_type: str
) -> None:
    payload = stream(source, "data: 0\n\n", "data: part", "fail", media_type=media_type)
    url = f"http://127.0.0.1:{either.port}{path}"
    curl = subprocess.run(["curl", "-sN", "-d", json.dumps(payload), url], capture_output=True, timeout=30)
    assert curl.returncode == 18  # CURLE_PARTIAL_FILE
    told = b"\n\nevent: error\ndata: %b\n\n" % json.dumps(FAILED, separators=(",", ":")).encode()
    assert curl.stdout == b"data: 0\n\ndata: part" + (told if "event" in media_type else b"")
    answers, _ = exchange(either, payload, path)
    assert [answer.is_complete for answer in answers] == [False]


@pytest.mark.parametrize("content", [5, None])
def test_what_cannot_be_iterated_is_no_stream(either: Server, content: object) -> None:
    payload = {"class": "StreamingResponse", "arguments": {"content": content}}
    assert make(either, payload).status == 500


@SOURCES
def test_a_stream_yields_text_or_bytes_alone(ours: Server, source: str) -> None:
    answer = make(ours, stream(source, ["a list"]))
    error = "Unhandled exception: a generator must yield text or bytes, not list"
    assert (answer.status, json.loads(answer.content)) == (500, {"error": error})


# --- slots ---


def receive_until(peer: socket.socket, end: bytes) -> bytes:
    received = bytearray()
    while end not in received[-65536 - len(end) :]:
        piece = peer.recv(65536)
        assert piece, received[-200:]
        received += piece
    return bytes(received)


LAST_CHUNK = b"\r\n0\r\n\r\n"


@SOURCES
def test_a_stream_holds_the_predict_slot_until_it_is_produced(either: Server, source: str) -> None:
    with asking(either, stream(source, "first", "wait", "last")) as streaming:
        receive_until(streaming, b"first")
        either.wait_for_log("stream waits")
        with either.connect() as other:
            content = json.dumps(whole(content="other"))
            other.sendall(
                f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n{content}".encode()
            )
            for _ in range(10):
                assert either.request("POST", CHAT, json.dumps(whole(content="chat")).encode()) == (200, b"chat")
            assert not select.select([other], [], [], 0)[0]
            release(either)
            receive_until(other, b"other")
        receive_until(streaming, LAST_CHUNK)


@SOURCES
def test_a_stream_that_is_produced_frees_the_slot_whether_it_is_read_or_not(either: Server, source: str) -> None:
    with asking(either, stream(source, *[MIB] * 20)) as streaming:  # more than the kernel's buffers hold
        either.wait_for_log("stream over")
        assert make(either, whole(content="next")).content == b"next"
        assert receive_until(streaming, LAST_CHUNK).count(b"x" * 65536) > 200


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_what_comes_behind_the_content_does_not_hold_the_slot(starlette: Server, kind: str) -> None:
    payload = {**(whole(content="abc") if kind == "whole" else stream("sync", "abc")), "task": "wait"}
    with asking(starlette, payload) as peer:
        starlette.wait_for_log("task waits")
        assert make(starlette, whole(content="next")).content == b"next"
        receive_until(peer, b"abc")
        release(starlette)
        starlette.wait_for_log("async task wait")


# --- readers ---


def memory_of(server: Server) -> int:
    """The most bytes that it has had in memory so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert match
    return int(match[1]) * 1024


@pytest.mark.parametrize("name", ["response_starlette", "response_fastserve"])
@SOURCES
def test_a_reader_that_does_not_read_makes_the_producer_wait(name: str, source: str) -> None:
    with serving(MODELS / name, "--stream-buffer", "1MiB") as server:
        make(server, stream(source, "first"))
        before = memory_of(server)
        with asking(server, stream(source, *[100_000] * 1000)) as peer:
            receive_until(peer, b"x" * 1000)
            for _ in range(20):
                server.request("GET", "/")
            assert "stream over" not in server.log
            received = receive_until(peer, LAST_CHUNK)
            server.wait_for_log("stream over")
        assert received.count(b"\r\n186a0\r\n") == 1000 or len(received) > 99_000_000
        assert memory_of(server) - before < 30 * MIB  # of 95 that went through
        assert make(server, whole(content="next")).content == b"next"


@SYNC_AND_ASYNC
@SOURCES
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_stream_ends_when_its_reader_has_left(either: Server, path: str, source: str, leave: str) -> None:
    with asking(either, stream(source, "first", "endless"), path) as peer:
        receive_until(peer, b"first")
        if leave == "reset":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        either.wait_for_log("stream over")
        assert make(either, whole(content="next")).content == b"next"
    assert "ERROR" not in either.log


@SOURCES
def test_a_stream_whose_head_went_out_without_content_does_not_wait_for_a_reader(either: Server, source: str) -> None:
    """The head of a slow 204 goes out before its first chunk; then there is nothing that could be sent."""
    with asking(either, stream(source, "wait", *[MIB] * 40, status_code=204)) as peer:  # over the stream buffer
        assert b" 204 " in receive_until(peer, b"\r\n\r\n")
        release(either)
        assert make(either, whole(content="next")).content == b"next"
