"""Behind nginx and HAProxy: whatever clients do, each gets its own answer, and no kept connection loses step."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import json
import random
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.differential.corpus import inputs
from tests.differential.upstream import (
    FRONTS,
    MODEL,
    PREDICT,
    WHICH_CONNECTION,
    Front,
    head,
    in_front_of,
    post,
    post_chunked,
    receive_all,
    receive_answer,
    receive_until,
    send_until_answered,
)
from tests.support.answers import Answer, read_answers
from tests.support.process import Server, serving, write_model

CLOSE = "Connection: close\r\n"
MEGABYTE = 2**20
_marks = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = write_model(tmp_path_factory.mktemp("upstream"), MODEL)
    # Room for a stream that nobody reads beside all others.
    with serving(directory, "--max-request-size", str(4 * MEGABYTE), "--concurrency", "100") as running:
        yield running


@pytest.fixture(scope="module", params=FRONTS)
def running(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with in_front_of(server, request.param, tmp_path_factory.mktemp("front")) as front:
        yield front


@pytest.fixture
def front(running: Front) -> Iterator[Front]:
    """Afterwards every kept connection is in step, and nothing was wrong with any answer."""
    yield running
    check_step(running)
    assert running.complaints() == []


def mark() -> str:
    """What no other request has."""
    return f"mark-{next(_marks)}"


def check_own(answer: Answer, payload: Any) -> None:
    """`answer` must be that to `payload`."""
    assert (answer.status, answer.is_complete) == (200, True), answer
    assert json.loads(answer.content) == payload


def check_step(front: Front) -> None:
    """More requests at a time than connections are kept, so that each of those has its turn."""
    payloads = [{"mark": mark()} for _ in range(12)]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        answers = threads.map(lambda payload: front.exchange(post(payload, fields=CLOSE)), payloads)
        for payload, (answer,) in zip(payloads, answers, strict=True):
            check_own(answer, payload)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def close(peer: socket.socket) -> None:
    peer.close()


LEAVING = [close, reset]


def test_connections_are_kept_and_each_answer_is_its_own(front: Front) -> None:
    payloads = [{"mark": mark()} for _ in range(50)]
    raw = b"".join(post(payload) + post(payload, path=WHICH_CONNECTION) for payload in payloads)
    answers = front.exchange(raw + head("/livez", CLOSE, "GET"), [b"POST"] * 100 + [b"GET"])
    for answer, payload in zip(answers[:100:2], payloads, strict=True):
        check_own(answer, payload)
    assert len({answer.content for answer in answers[1:100:2]}) <= 2


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_chunked_content_arrives_whole(front: Front, size: int) -> None:
    payloads = [{"mark": mark(), "text": "x" * length} for length in (0, 100, 20_000 if size > 1 else 2000)]
    for payload in payloads:
        (answer,) = front.exchange(post_chunked(payload, size, fields=CLOSE))
        check_own(answer, payload)


def test_kinds_of_requests_in_one_pipeline(front: Front) -> None:
    payloads = [{"mark": mark()} for _ in range(3)]
    raw = (
        head("/livez", "", "HEAD")
        + post(payloads[0])
        + head("/nowhere", "", "GET")
        + post_chunked(payloads[1])
        + head("/livez", "Content-Length: 3\r\n", "GET")
        + b"abc"
        + head(PREDICT, "", "DELETE")
        + head(PREDICT, "", "OPTIONS")
        + head(PREDICT, "", "HEAD")
        + post({"mark": "not there"}, path="/nowhere")
        + post(payloads[2], fields=CLOSE)
    )
    methods = [b"HEAD", b"POST", b"GET", b"POST", b"GET", b"DELETE", b"OPTIONS", b"HEAD", b"POST", b"POST"]
    answers = front.exchange(raw, methods)
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 200, 405, 204, 200, 404, 200]
    for answer, payload in zip((answers[1], answers[3], answers[9]), payloads, strict=True):
        check_own(answer, payload)
    assert [answers[at].content for at in (0, 4, 7)] == [b"", b"true", b""]


@pytest.mark.parametrize("write", [post, post_chunked])
def test_content_that_waits_for_100_continue(front: Front, write: Callable[..., bytes]) -> None:
    for _ in range(5):
        payload = {"mark": mark()}
        section, _, content = write(payload, fields=f"Expect: 100-continue\r\n{CLOSE}").partition(b"\r\n\r\n")
        with front.connect() as peer:
            peer.sendall(section + b"\r\n\r\n")
            interim = receive_until(peer, b"\r\n\r\n")
            assert interim.startswith(b"HTTP/1.1 100 ")
            peer.sendall(content)
            check_own(receive_answer(peer), payload)


@pytest.mark.parametrize("write", [post, post_chunked])
def test_content_that_waits_for_a_refusal(front: Front, write: Callable[..., bytes]) -> None:
    """A front end that says 100 itself gets the content, all others the status at once."""
    for _ in range(5):
        raw = write({"mark": mark()}, fields=f"Expect: 100-continue\r\n{CLOSE}", path="/nowhere")
        section, _, content = raw.partition(b"\r\n\r\n")
        with front.connect() as peer:
            peer.sendall(section + b"\r\n\r\n")
            received = receive_until(peer, b"\r\n\r\n")
            if received.startswith(b"HTTP/1.1 100 "):
                peer.sendall(content)
                received = b""
            assert receive_answer(peer, received).status == 404


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("size", [100, MEGABYTE])
@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_a_client_that_leaves_in_its_content_runs_nothing(
    front: Front, framing: str, size: int, leave: Callable[[socket.socket], None]
) -> None:
    name = mark()
    begun = json.dumps({"mark": name}).encode().ljust(size)  # a payload by itself
    raw = head(PREDICT, f"Content-Length: {size + 1}\r\n") + begun
    if framing == "chunked":
        raw = head(PREDICT, "Transfer-Encoding: chunked\r\n") + b"%x\r\n%b\r\n" % (size, begun)
    for _ in range(5):
        peer = front.connect()
        peer.sendall(raw)
        leave(peer)
        check_step(front)
    (answer,) = front.exchange(post({"ask": "ran"}, fields=CLOSE))
    assert name not in json.loads(answer.content)


@pytest.mark.parametrize("leave", LEAVING)
def test_a_client_that_leaves_in_its_answer_ends_the_stream(
    front: Front, leave: Callable[[socket.socket], None]
) -> None:
    for _ in range(3):
        payload = {"mark": mark(), "pieces": 1_000_000, "size": 10_000}
        peer = front.connect()
        peer.sendall(post(payload))
        receive_until(peer, f"{payload['mark']} 2;".encode())
        leave(peer)
        front.server.wait_for_log(f"{payload['mark']} ended at")
        check_step(front)


def test_a_stream_comes_whole_to_a_client_that_reads_slowly(front: Front) -> None:
    """It reads a little, then others are served, and so on; most of the stream waits in the server meanwhile."""
    payload = {"mark": mark(), "pieces": 100, "size": 50_000}
    with front.connect() as peer:
        peer.sendall(post(payload, fields=CLOSE))
        received = b""
        for _ in range(5):
            received += peer.recv(1000)
            check_step(front)
        received += receive_all(peer)
    (answer,) = read_answers(received, [b"POST"], is_closed=True)
    assert answer.is_complete
    assert answer.content.decode() == "".join(f"{payload['mark']} {n};{'.' * 50_000}" for n in range(100))


def test_clients_that_send_slowly_hold_up_nobody(front: Front) -> None:
    """One byte of each at a time, and others in between."""
    payloads = [{"mark": mark()} for _ in range(10)]
    raws = [(post, post_chunked)[at % 2](payload, fields=CLOSE) for at, payload in enumerate(payloads)]
    peers = [front.connect() for _ in raws]
    for at in range(max(map(len, raws))):
        for peer, raw in zip(peers, raws, strict=True):
            peer.sendall(raw[at : at + 1])
        if at % 30 == 0:
            check_step(front)
    for peer, payload in zip(peers, payloads, strict=True):
        check_own(receive_answer(peer), payload)
        peer.close()


@pytest.mark.parametrize("write", [post, functools.partial(post_chunked, size=60_000)], ids=["sized", "chunked"])
@pytest.mark.parametrize(
    ("size", "path", "fields", "statuses"),
    [
        (100, "/nowhere", "", {404}),
        (MEGABYTE, "/nowhere", "", {404}),
        (MEGABYTE, "/livez", "", {405}),
        (3 * MEGABYTE, "/nowhere", "", {404}),
        (6 * MEGABYTE, PREDICT, "", {413}),
        (6 * MEGABYTE, "/nowhere", "", {404, 413}),
        (100, PREDICT, "Content-Encoding: gzip\r\n", {415}),
        (MEGABYTE, PREDICT, "Content-Encoding: gzip\r\n", {415}),
        (MEGABYTE, PREDICT, "Content-Type: application/json; charset=latin-1\r\n", {415}),
        (100, f"{PREDICT}%", "", {400}),
        (MEGABYTE, f"{PREDICT}%zz", "", {400}),
    ],
)
def test_a_refusal_reaches_the_client_whatever_content_is_unread(
    front: Front, write: Callable[..., bytes], size: int, path: str, fields: str, statuses: set[int]
) -> None:
    raw = write({"text": "x" * size}, path=path, fields=fields + CLOSE)
    for _ in range(3):
        with front.connect() as peer:
            assert send_until_answered(peer, raw).status in statuses


def test_bad_json_leaves_the_connection_in_step(front: Front) -> None:
    payload = {"mark": mark()}
    bad = head(PREDICT, "Content-Length: 9\r\n") + b"{not JSON"
    answers = front.exchange(bad * 5 + post(payload, fields=CLOSE), [b"POST"] * 6)
    assert [answer.status for answer in answers] == [400] * 5 + [200]
    check_own(answers[5], payload)


def test_clients_at_the_same_time_get_their_own_answers(front: Front) -> None:
    writers: list[Callable[..., bytes]] = [post, functools.partial(post_chunked, size=3000)]

    def call(number: int) -> None:
        draw = random.Random(number)
        with front.connect() as peer:
            for _ in range(15):
                payload = {"mark": mark(), "text": "x" * int(200_000 ** draw.random())}
                peer.sendall(draw.choice(writers)(payload))
                check_own(receive_answer(peer), payload)

    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        list(threads.map(call, range(12)))


def test_no_input_of_the_corpus_puts_a_connection_out_of_step(front: Front) -> None:
    """All on the few connections that are kept; behind each a request that knows its answer."""
    with front.connect() as beside:
        for name, raw in inputs().items():
            if "~" in name:
                continue
            received = b""
            with front.connect() as peer, contextlib.suppress(OSError):  # a refusal can come with a reset
                peer.sendall(raw)
                peer.shutdown(socket.SHUT_WR)
                received = receive_all(peer)
            assert b"HTTP/1.1 502" not in received, name
            payload = {"mark": mark()}
            beside.sendall(post(payload))
            check_own(receive_answer(beside), payload)
