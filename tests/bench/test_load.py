"""The loads' own clients, against sockets that answer in ways that are known."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from bench.load.closed import Closed
from bench.load.exchanges import exchange, is_whole, receive_small
from bench.load.idle import is_open
from bench.load.open_loop import run_schedule
from bench.load.paced import latencies_of
from bench.load.quantiles import in_us, quantile
from bench.server import ContestantError, TooSlowError

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


@contextlib.contextmanager
def peer(answer: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """A client whose peer is `answer`, called in a thread with the other end."""
    client, other = socket.socketpair()
    client.settimeout(5)

    def run() -> None:
        with other:
            answer(other)

    thread = threading.Thread(target=run)
    thread.start()
    with client:
        yield client
    thread.join()


@pytest.mark.parametrize(
    "answer, content",
    [
        ([ANSWER], b"ok"),
        ([ANSWER[:20], ANSWER[20:-1], ANSWER[-1:]], b"ok"),
        ([CHUNKED], b"onetwo"),
        ([CHUNKED[:-3], CHUNKED[-3:]], b"onetwo"),
    ],
)
def test_an_answer_is_read_to_its_end_however_it_arrives(answer: list[bytes], content: bytes) -> None:
    def respond(other: socket.socket) -> None:
        other.recv(100)
        for piece in answer:
            other.sendall(piece)
        other.recv(100)  # until the client leaves: it must find the end by itself

    with peer(respond) as client:
        received = exchange(client, b"POST / HTTP/1.1\r\n\r\n")
        assert (received.status, bytes(received.content)) == (200, content)
        assert 0 < received.first_s <= received.last_s


@pytest.mark.parametrize("cut", [ANSWER[:-1], ANSWER[:10], CHUNKED[:-5], b"HTTP/1.1 200 OK\r\n\r\nno framing"])
def test_an_answer_that_is_cut_or_has_no_end_is_no_answer(cut: bytes) -> None:
    def respond(other: socket.socket) -> None:
        other.recv(100)
        other.sendall(cut)

    with peer(respond) as client, pytest.raises(ContestantError):
        exchange(client, b"POST / HTTP/1.1\r\n\r\n")


def test_a_small_answer_is_read_from_pieces_and_not_taken_for_whole_when_cut() -> None:
    def respond(other: socket.socket) -> None:
        for piece in (ANSWER[:9], ANSWER[9:], ANSWER[:-1]):
            other.sendall(piece)
            other.recv(1)

    with peer(respond) as client:
        client.sendall(b"x")
        assert receive_small(client) == ANSWER
        client.sendall(b"xx")
        with pytest.raises(ContestantError, match="before its answer was whole"):
            receive_small(client)


def test_a_small_answer_is_whole_with_its_last_byte_only() -> None:
    for answer in (ANSWER, CHUNKED):
        assert [size for size in range(len(answer) + 1) if is_whole(answer[:size])] == [len(answer)]


def test_an_open_loop_charges_a_stall_to_all_that_was_due_meanwhile() -> None:
    stalled = threading.Event()

    def respond(other: socket.socket) -> None:
        other.recv(1)
        stalled.wait(0.2)  # never set: the first answer takes 0.2 s, in which 19 more requests are due
        other.sendall(ANSWER)
        while other.recv(1):
            other.sendall(ANSWER)

    with peer(respond) as client:
        latencies, lateness = run_schedule([client], b"x", [number * 0.01 for number in range(20)])
    assert len(latencies) == len(lateness) == 20
    assert latencies[0] >= 0.2
    # Sent one after the other once the stall was over, each in no time: what counts is when they were due.
    assert all(latency >= 0.2 - number * 0.01 for number, latency in enumerate(latencies))


def test_an_open_loop_counts_what_is_refused_or_never_answered_as_missing() -> None:
    def respond(other: socket.socket) -> None:
        for answer in (ANSWER, ANSWER.replace(b"200 OK", b"503 Busy")):
            other.recv(1)
            other.sendall(answer)
        other.recv(1)

    with peer(respond) as client:
        latencies, lateness = run_schedule([client], b"x", [0.0, 0.001, 0.002], grace_s=0.1)
    assert (len(latencies), len(lateness)) == (1, 3)


def test_a_chunk_is_late_by_what_lies_between_its_stamp_and_its_read() -> None:
    pieces = [
        (10.5, b"12\r\nt0000000010.000000\n\r\n12\r\nt0000000010.250000\n\r\n"),
        (11.0, b"t0000000010.875000\n"),
    ]
    assert latencies_of(pieces, chunks=3) == [0.5, 0.25, 0.125]
    with pytest.raises(ContestantError, match="brought 3"):
        latencies_of(pieces, chunks=4)


def test_quantiles_are_of_the_values_there_are() -> None:
    values = [number / 1e6 for number in range(1, 1001)]
    assert in_us(reversed(values)) == pytest.approx({"p50_us": 501, "p99_us": 991, "p999_us": 1000})
    assert quantile([7.0], 0.999) == 7.0


def test_a_closed_connection_is_told_from_an_idle_one() -> None:
    client, other = socket.socketpair()
    with client:
        assert is_open(client)
        other.close()
        assert not is_open(client)


def test_an_answer_that_wrk_saw_refused_is_no_request_served() -> None:
    measured = {
        "requests": 100, "refused": 40, "seconds": 2.0, "lost": 1, "timeouts": 2, "p50_us": 5, "p99_us": 6,
        "p999_us": 7, "predict_us": 10_000, "between_us": 20,
    }  # fmt: skip
    figures = Closed(1).figures(measured)
    assert (figures["rps"], figures["errors"]) == (30, 43)
    assert (figures["requests"], figures["answers"]) == (60, 100)
    assert (figures["predict_us"], figures["between_us"]) == (10_000, 20)
    with pytest.raises(TooSlowError, match="no answer"):
        Closed(1).figures({**measured, "requests": 40})
