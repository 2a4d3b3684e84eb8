"""One connection on a fake transport and a hand-wound clock: order, keep-alive, content, refusals, deadlines."""

from __future__ import annotations

from contextvars import ContextVar, copy_context

import pytest

from fastserve.config import Config
from fastserve.http11.connection import DRAIN_IDLE_S, LINGER_BYTES, PIPELINE_BURST, PROMPT_BURST, READ_OFF_BYTES
from fastserve.http11.content import LARGE_BYTES
from fastserve.http11.deadlines import TICK_S
from fastserve.http11.flow import Flow
from fastserve.messages import Head, Request, Response, Route
from tests.support.answers import Answer, read_answers
from tests.support.fakes import HIGH_WATER, Peer

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n"
)


class Work:
    """Records what the connection tells it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_disconnect(self) -> None:
        self.told.append("disconnect")

    def on_writable(self) -> None:
        self.told.append("writable")

    def on_tick(self, elapsed_s: float) -> None:
        self.told.append("tick")


def answers(peer: Peer, *methods: bytes) -> list[Answer]:
    return read_answers(peer.transport.sent, list(methods), is_closed=peer.is_closed)


def running(peer: Peer) -> Request:
    """Send one request that is not answered at once."""
    peer.answers_at_once = False
    peer.send(GET)
    return peer.requests[-1]


# --- requests and their order ---


def test_the_content_reaches_the_route() -> None:
    peer = Peer()
    peer.send(POST + CHUNKED + GET)
    assert [(r.head.path, r.content) for r in peer.requests] == [(b"/p", b"hello"), (b"/c", b"abcde"), (b"/a", b"")]


def test_a_repeated_header_section_is_parsed_once_and_each_request_has_its_own_content() -> None:
    peer = Peer()
    peer.send(POST, POST.replace(b"hello", b"world"))
    first, second = peer.requests
    assert first.head is second.head
    assert (first.content, second.content) == (b"hello", b"world")


def test_a_pipelined_request_waits_until_the_one_before_is_answered_and_reading_stops() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET)
    peer.send(POST)
    assert len(peer.requests) == 1
    assert not peer.transport.is_reading
    peer.answer(peer.requests[0])
    assert [r.head.path for r in peer.requests] == [b"/a", b"/p"]
    assert peer.transport.is_reading
    peer.answer(peer.requests[1])
    assert [a.content for a in answers(peer, b"GET", b"POST")] == [b"/a ", b"/p hello"]


def test_many_pipelined_requests_let_other_connections_have_their_turn() -> None:
    peer = Peer()
    peer.connection.data_received(GET * (3 * PIPELINE_BURST))
    assert len(peer.requests) == PROMPT_BURST
    assert peer.loop.run_ready() >= 2
    assert len(answers(peer, *[b"GET"] * (3 * PIPELINE_BURST))) == 3 * PIPELINE_BURST
    assert peer.transport.is_reading


def test_what_waits_for_an_answer_does_not_wait_for_a_turn_too() -> None:
    peer = Peer()
    held: list[Request] = []
    answer, slow = peer.answer, GET.replace(b"/a", b"/slow")
    peer.answer = lambda request: held.append(request) if request.head.path == b"/slow" else answer(request)  # type: ignore[method-assign]
    burst = GET * (PROMPT_BURST - 1) + slow
    peer.connection.data_received(burst * 3)
    for number in (1, 2, 3):
        assert len(peer.requests) == number * PROMPT_BURST
        assert not peer.loop.run_ready()
        answer(held.pop())
    assert len(answers(peer, *[b"GET"] * len(peer.requests))) == 3 * PROMPT_BURST
    assert peer.transport.is_reading


def test_a_burst_that_is_resumed_after_the_peer_has_gone_does_nothing() -> None:
    peer = Peer()
    peer.connection.data_received(GET * (2 * PIPELINE_BURST))
    peer.leave()
    peer.loop.run_ready()
    assert len(peer.requests) == PROMPT_BURST


def test_an_error_behind_complete_requests_is_answered_after_them() -> None:
    peer = Peer()
    peer.send(GET + POST + b"BAD\n\n" + GET)
    assert [a.status for a in answers(peer, b"GET", b"POST", b"GET")] == [200, 200, 400]
    assert peer.is_closed
    assert len(peer.requests) == 2


# --- keep-alive, HTTP/1.0, HEAD ---


def test_send_json_writes_what_send_response_would() -> None:
    for raw in (
        GET,
        GET.replace(b"GET", b"HEAD"),
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b"Host", b"Connection: close\r\nHost"),
    ):
        plain, general = Peer(answers_at_once=False), Peer(answers_at_once=False)
        plain.send(raw)
        general.send(raw)
        for content in (b"{}",):
            plain.connection.send_json(plain.requests[0], content)
            general.connection.send_response(general.requests[0], Response((200, b"application/json"), content))
        (one,), (other,) = (
            read_answers(p.transport.sent, [raw.split()[0]], is_closed=True) for p in (plain, general)
        )
        assert (one.status, one.content, one.fields) == (other.status, other.content, other.fields)


def test_a_large_json_answer_is_whole() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET)
    peer.connection.send_json(peer.requests[0], b"1" * 200_000)
    assert answers(peer, b"GET")[0].content == b"1" * 200_000


def test_an_answer_to_a_request_that_has_been_answered_goes_nowhere() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET)
    late = peer.requests[0]
    peer.answer(late)
    peer.send(POST)
    peer.answer(late)
    peer.connection.send_json(late, b"{}")
    peer.connection.send_head(late, Response((200, b""), b""))
    peer.connection.send_chunks(late, [b"x"])
    peer.connection.send_end(late)
    peer.connection.abort(late)
    assert not peer.connection.can_write(late)
    assert len(answers(peer, b"GET", b"POST")) == 1


def test_a_route_that_fails_is_a_500_and_the_connection_goes_on() -> None:
    peer = Peer()
    peer._answer = None  # type: ignore[assignment, method-assign]
    peer.send(GET)
    peer.send(GET)
    assert [a.status for a in answers(peer, b"GET", b"GET")] == [500, 500]


# --- content ---


@pytest.mark.parametrize("size", [1, 1000, 256 * 1024, 256 * 1024 + 1, 300_000, 3_000_000])
@pytest.mark.parametrize("piece", [999, 65536, 10_000_000])
def test_content_of_any_size_arrives_whole(size: int, piece: int) -> None:
    content = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
    content = content[:size]
    raw = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + content
    peer = Peer()
    peer.send(*(raw[i : i + piece] for i in range(0, len(raw), piece)))
    assert len(peer.requests) == 1
    assert peer.requests[0].content == content
    assert type(peer.requests[0].content) is bytes
    peer.send(GET)
    assert len(peer.requests) == 2


def test_memory_follows_what_has_arrived_not_what_was_promised() -> None:
    peer = Peer()
    peer.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\nabc")
    receiver = peer.transport.protocol
    assert receiver is not peer.connection
    assert len(receiver.get_buffer(-1)) <= 1024 * 1024


def test_a_peer_that_leaves_in_the_middle_of_large_content_is_forgotten() -> None:
    peer = Peer()
    peer.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"x" * 300_000)
    peer.transport.protocol.pause_writing()
    peer.transport.protocol.resume_writing()
    peer.leave()
    assert not peer.listener.connections
    assert not peer.requests


def test_a_peer_that_leaves_just_after_large_content_is_complete_gets_no_predict() -> None:
    peer = Peer()
    peer.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    peer.send(b"x" * 10)
    receiver = peer.transport.protocol
    while receiver.received < 1_000_000:
        view = receiver.get_buffer(-1)
        receiver.buffer_updated(len(view))
        view.release()
    peer.leave()
    peer.loop.run_ready()
    assert not peer.requests


@pytest.mark.parametrize(
    ("promise", "status"),
    [(b"Content-Length: 11", 413), (b"Content-Length: 10", 200), (b"Transfer-Encoding: chunked", 413)],
)
def test_content_over_the_limit_is_413(promise: bytes, status: int) -> None:
    peer = Peer(Config(max_content_bytes=10))
    content = b"b\r\n" + b"x" * 11 if b"chunked" in promise else b"x" * 10
    peer.send(b"POST /p HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n%b" % (promise, content))
    assert [a.status for a in answers(peer, b"POST")] == [status]
    assert peer.is_closed is (status == 413)


# --- Expect: 100-continue, refusals before content ---

EXPECT = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


@pytest.mark.parametrize("content", [b"h", b"hello"])
def test_no_100_continue_once_content_has_begun_to_arrive(content: bytes) -> None:
    assert b"100 Continue" not in Peer().send(EXPECT + content)


def test_refused_content_is_read_off_if_it_is_small_and_the_connection_kept() -> None:
    peer = Peer(refused=(b"/p",))
    peer.send(POST[:-2], POST[-2:], GET)
    assert [a.status for a in answers(peer, b"POST", b"GET")] == [404, 200]


@pytest.mark.parametrize("promise", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
def test_refused_content_is_not_read_to_its_end_if_it_is_large(promise: bytes) -> None:
    peer = Peer(refused=(b"/p",))
    chunk = b"" if b"Length" in promise else b"%x\r\n" % (2 * READ_OFF_BYTES)
    peer.send(b"POST /p HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n%b" % (promise, chunk), b"x" * (READ_OFF_BYTES + 1))
    assert [a.status for a in answers(peer, b"POST")] == [404]
    assert peer.is_closed


# --- deadlines ---


def test_an_idle_connection_is_closed_after_the_keep_alive_timeout_and_not_before() -> None:
    peer = Peer(Config(keep_alive_timeout_s=75.0))
    peer.send(GET)
    peer.advance(75.0)
    assert not peer.is_closed
    peer.advance(2.0)
    assert peer.transport.is_closing_now
    assert len(answers(peer, b"GET")) == 1


def test_a_connection_whose_peer_still_reads_the_answer_is_not_idle() -> None:
    peer = Peer(Config(keep_alive_timeout_s=10.0))
    request = running(peer)
    peer.transport.is_stalled = True
    peer.connection.send_json(request, b"1" * (HIGH_WATER * 2))
    for _ in range(5):
        peer.advance(8.0)
        peer.transport.unsent -= 1
    assert not peer.is_closed
    peer.transport.read_all()
    peer.advance(12.0)
    assert peer.is_closed


def test_an_incomplete_header_section_is_408_after_its_timeout() -> None:
    peer = Peer(Config(header_timeout_s=10.0))
    for byte in GET[:20]:
        peer.send(bytes([byte]))
        peer.advance(0.5)
    assert not peer.is_closed
    peer.advance(2.0)
    assert [a.status for a in answers(peer, b"GET")] == [408]
    assert peer.is_closed


def test_half_an_empty_line_does_not_hold_a_connection_for_ever() -> None:
    peer = Peer()
    peer.send(b"\r")
    peer.advance(12.0)
    assert peer.is_closed


@pytest.mark.parametrize("head", [b"Content-Length: 1000000", b"Content-Length: 9000", b"Transfer-Encoding: chunked"])
def test_content_slower_than_the_least_rate_is_408_after_the_grace(head: bytes) -> None:
    peer = Peer(Config(content_grace_s=10.0, min_content_rate=1024))
    peer.send(b"POST /p HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % head)
    peer.advance(9.0)
    assert not peer.is_closed
    peer.advance(3.0)
    assert [a.status for a in answers(peer, b"POST")] == [408]


def test_content_at_the_least_rate_is_waited_for() -> None:
    peer = Peer(Config(content_grace_s=10.0, min_content_rate=1024))
    peer.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 40960\r\n\r\n")
    for _ in range(40):
        peer.send(b"x" * 1024)
        peer.advance(1.0)
    assert [a.status for a in answers(peer, b"POST")] == [200]


def test_a_running_request_has_no_deadline_here() -> None:
    peer = Peer()
    running(peer)
    peer.advance(1000.0)
    assert not peer.is_closed


def test_a_peer_that_takes_nothing_is_cut_off_after_the_stall_timeout() -> None:
    peer = Peer(Config(stall_timeout_s=60.0))
    request = running(peer)
    peer.transport.is_stalled = True
    peer.connection.send_json(request, b"1" * (HIGH_WATER + 1))
    peer.advance(60.0)
    assert not peer.transport.is_aborted
    peer.advance(2.0)
    assert peer.transport.is_aborted


def test_a_slow_reader_that_takes_something_is_not_cut_off() -> None:
    peer = Peer(Config(stall_timeout_s=60.0))
    request = running(peer)
    peer.transport.is_stalled = True
    peer.connection.send_json(request, b"1" * (HIGH_WATER * 2))
    for _ in range(5):
        peer.advance(50.0)
        peer.transport.unsent -= 1
    assert not peer.transport.is_aborted


def test_the_last_response_is_given_time_to_be_read_and_then_lingering_ends() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET.replace(b"1.1", b"1.0"))
    peer.transport.is_stalled = True
    peer.connection.send_json(peer.requests[0], b"1" * 1000)
    peer.advance(30.0)
    assert not peer.transport.is_aborted
    peer.transport.read_all()
    peer.advance(5.0)
    assert peer.transport.is_aborted


# --- streams ---


def test_a_stream_is_chunked_and_persists() -> None:
    peer = Peer()
    request = running(peer)
    peer.connection.send_head(request, Response((200, b"application/octet-stream"), b""))
    peer.connection.send_chunks(request, [b"ab", b"c"])
    peer.connection.send_chunks(request, [b"d" * 300])
    peer.connection.send_end(request)
    assert b"\r\n2\r\nab\r\n1\r\nc\r\n12c\r\n" in peer.transport.sent
    (answer,) = answers(peer, b"GET")
    assert (answer.content, answer.is_complete) == (b"abc" + b"d" * 300, True)
    peer.answers_at_once = True
    peer.send(GET)
    assert len(answers(peer, b"GET", b"GET")) == 2


def test_a_stream_to_http_1_0_is_ended_by_the_close() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET.replace(b"1.1", b"1.0").replace(b"Host", b"Connection: keep-alive\r\nHost"))
    request = peer.requests[0]
    peer.connection.send_head(request, Response((200, b""), b""))
    peer.connection.send_chunks(request, [b"ab", b"c"])
    peer.connection.send_end(request)
    assert peer.transport.sent.endswith(b"Connection: close\r\n\r\nabc")
    assert peer.is_closed


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_an_aborted_stream_does_not_look_whole(version: bytes) -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET.replace(b"1.1", version))
    request = peer.requests[0]
    peer.connection.send_head(request, Response((200, b""), b""))
    peer.connection.send_chunks(request, [b"ab"])
    peer.connection.abort(request)
    assert b"0\r\n\r\n" not in peer.transport.sent
    assert peer.transport.is_closing_now
    assert peer.transport.is_aborted is (version == b"1.0")


@pytest.fixture
def resets(monkeypatch: pytest.MonkeyPatch) -> list[Flow]:
    """Whose close is to be a reset."""
    resets: list[Flow] = []
    monkeypatch.setattr(Flow, "reset_on_close", lambda flow: resets.append(flow))
    return resets


@pytest.mark.parametrize(
    "version, is_half_closed, is_reset", [(b"1.1", False, False), (b"1.1", True, True), (b"1.0", False, True)]
)
def test_a_stream_that_the_server_s_end_cuts_does_not_look_whole(
    version: bytes, is_half_closed: bool, is_reset: bool, resets: list[Flow]
) -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET.replace(b"1.1", version))
    peer.connection.send_head(peer.requests[0], Response((200, b""), b""))
    peer.connection.send_chunks(peer.requests[0], [b"ab"])
    if is_half_closed:
        peer.end()
        peer.advance(2.0)  # a zero before the size of the next chunk
    peer.listener.abort()
    assert bool(resets) is is_reset


def test_a_whole_stream_to_http_1_0_whose_end_is_not_taken_does_not_look_whole(resets: list[Flow]) -> None:
    peer = Peer(Config(stall_timeout_s=60.0), answers_at_once=False)
    peer.send(GET.replace(b"1.1", b"1.0"))
    peer.transport.is_stalled = True
    peer.connection.send_head(peer.requests[0], Response((200, b""), b""))
    peer.connection.send_chunks(peer.requests[0], [b"ab"])
    peer.connection.send_end(peer.requests[0])
    peer.advance(60.0)
    assert not resets
    peer.advance(2.0)
    assert resets
    assert peer.transport.is_aborted


def test_a_stream_without_chunks_is_cut_after_the_read_timeout_and_its_work_told() -> None:
    peer = Peer(Config(streaming_read_timeout_s=60.0))
    request = running(peer)
    work = request.work = Work()
    peer.connection.send_head(request, Response((200, b""), b""))
    peer.advance(50.0)
    peer.connection.send_chunks(request, [b"x"])
    peer.advance(59.0)
    assert not peer.is_closed
    peer.advance(3.0)
    assert peer.transport.is_closing_now
    assert work.told == ["disconnect"]


def test_a_response_that_may_pause_has_no_read_timeout_and_the_next_one_has() -> None:
    peer = Peer(Config(streaming_read_timeout_s=60.0))
    request = running(peer)
    peer.connection.send_head(request, Response((200, b""), b""), may_pause=True)
    peer.advance(3600.0)
    assert not peer.is_closed
    peer.connection.send_end(request)
    request = running(peer)
    peer.connection.send_head(request, Response((200, b""), b""))
    peer.advance(62.0)
    assert peer.transport.is_closing_now


def test_writing_stops_when_the_peer_does_not_read_and_goes_on_when_it_does() -> None:
    peer = Peer()
    request = running(peer)
    work = request.work = Work()
    peer.transport.is_stalled = True
    peer.connection.send_head(request, Response((200, b""), b""))
    assert peer.connection.can_write(request)
    peer.connection.send_chunks(request, [b"x" * HIGH_WATER])
    assert not peer.connection.can_write(request)
    assert not peer.transport.is_reading
    peer.transport.read_all()
    assert peer.connection.can_write(request)
    assert peer.transport.is_reading
    assert work.told == ["writable"]


def test_pipelined_requests_are_not_parsed_while_the_peer_does_not_read_its_answers() -> None:
    peer = Peer(answers_at_once=False)
    peer.transport.is_stalled = True
    peer.send(GET)
    peer.connection.send_json(peer.requests[0], b"1" * (HIGH_WATER + 1))
    peer.answers_at_once = True
    peer.send(GET)
    assert len(peer.requests) == 1
    peer.transport.read_all()
    peer.loop.run_ready()
    assert len(peer.requests) == 2


def test_a_stream_whose_length_is_known_says_so_and_persists() -> None:
    for version in (b"1.1", b"1.0"):
        peer = Peer(answers_at_once=False)
        peer.send(GET.replace(b"1.1", version).replace(b"Host", b"Connection: keep-alive\r\nHost"))
        request = peer.requests[0]
        peer.connection.send_head(request, Response((200, b"a/b"), b""), 3)
        peer.connection.send_chunks(request, [b"ab", b"c"])
        peer.connection.send_end(request)
        assert b"Content-Length: 3\r\n" in peer.transport.sent
        assert b"Transfer-Encoding" not in peer.transport.sent
        assert peer.transport.sent.endswith(b"\r\n\r\nabc")
        assert not peer.is_closed


# --- the end ---


def test_a_half_closed_peer_gets_what_it_asked_for() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET + POST + GET)
    peer.end()
    for request in range(3):
        peer.answer(peer.requests[request])
    assert [a.content for a in answers(peer, b"GET", b"POST", b"GET")] == [b"/a ", b"/p hello", b"/a "]
    assert peer.transport.is_closing_now


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_peer_that_may_have_left_is_sent_interim_responses_to_find_out() -> None:
    peer = Peer()
    request = running(peer)
    peer.advance(5.0)
    assert peer.transport.sent == b""  # it has said nothing of an end
    peer.end()
    peer.advance(2.0)
    assert set(peer.transport.sent.split(INTERIM)) == {b""}
    assert 2 <= peer.transport.sent.count(INTERIM) <= 4
    peer.answer(request)
    sent = peer.transport.sent
    peer.advance(2.0)
    assert peer.transport.sent == sent
    (answer,) = answers(peer, b"GET")
    assert (answer.status, answer.content) == (200, b"/a ")


def test_http_1_0_knows_no_interim_responses() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET.replace(b"1.1", b"1.0"))
    peer.end()
    peer.advance(5.0)
    assert peer.transport.sent == b""


def streaming(peer: Peer, *, version: bytes = b"1.1", length: int | None = None) -> Request:
    """Send one request, of whose answer there is the head and one chunk."""
    peer.answers_at_once = False
    peer.send(GET.replace(b"1.1", version))
    request = peer.requests[-1]
    peer.connection.send_head(request, Response((200, b""), b""), length)
    peer.connection.send_chunks(request, [b"first"])
    return request


@pytest.mark.parametrize("rest", [[b"last"], []])
def test_in_the_middle_of_a_stream_that_is_two_zeros_which_mean_nothing(rest: list[bytes]) -> None:
    peer = Peer(Config(streaming_read_timeout_s=60.0))
    request = streaming(peer)
    sent = peer.transport.sent
    peer.advance(5.0)
    assert peer.transport.sent == sent
    peer.end()
    peer.advance(20.0)
    assert peer.transport.sent == sent + b"00"
    for chunk in rest:
        peer.connection.send_chunks(request, [chunk])
        peer.advance(20.0)
    peer.connection.send_end(request)
    (answer,) = answers(peer, b"GET")
    assert (answer.content, answer.is_complete) == (b"first" + b"".join(rest), True)


def test_a_stream_that_goes_on_needs_no_zeros() -> None:
    peer = Peer()
    request = streaming(peer)
    peer.end()
    for _ in range(10):
        peer.advance(0.5)
        peer.connection.send_chunks(request, [b"more"])
    assert b"04\r\n" not in peer.transport.sent


def test_zeros_do_not_make_a_cut_stream_look_whole() -> None:
    peer = Peer(Config(streaming_read_timeout_s=60.0))
    request = streaming(peer)
    peer.end()
    peer.advance(5.0)
    peer.connection.abort(request)
    (answer,) = answers(peer, b"GET")
    assert (answer.content, answer.is_complete) == (b"first", False)


@pytest.mark.parametrize(("version", "length"), [(b"1.0", None), (b"1.1", 100)])
def test_content_without_chunks_has_no_room_for_them(version: bytes, length: int | None) -> None:
    peer = Peer(Config(streaming_read_timeout_s=60.0))
    streaming(peer, version=version, length=length)
    sent = peer.transport.sent
    peer.end()
    peer.advance(5.0)
    assert peer.transport.sent == sent


def test_the_last_answer_to_a_half_closed_peer_says_close() -> None:
    peer = Peer()
    request = running(peer)
    peer.end()
    peer.answer(request)
    assert answers(peer, b"GET")[0].fields["connection"] == "close"


def test_what_is_pipelined_runs_in_a_context_of_its_own_not_in_that_of_who_answered() -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")
    peer = Peer(answers_at_once=False)
    seen: list[str] = []
    route = peer.listener.route

    def watched(head: Head) -> Route:
        found = route(head)

        def answer(request: Request) -> None:
            seen.append(name.get())
            found.answer(request)

        return Route(answer)

    peer.listener.route = watched
    peer.send(GET + POST + GET)

    def answer_as_a_coroutine_does(number: int) -> None:
        name.set(f"request {number}")
        if number == 1:
            peer.connection.send_json(peer.requests[number], b"1")
        else:
            peer.answer(peer.requests[number])
        assert name.get() == f"request {number}"

    for number in range(3):
        copy_context().run(answer_as_a_coroutine_does, number)
    assert seen == ["nobody"] * 3
    assert len(answers(peer, b"GET", b"POST", b"GET")) == 3


@pytest.mark.parametrize(
    "asks", [b"GET /a HTTP/1.0\r\n\r\n", GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")]
)
def test_a_half_close_does_not_make_a_request_of_what_follows_the_last_one(asks: bytes) -> None:
    peer = Peer(answers_at_once=False)
    peer.send(asks + GET)
    peer.connection.send_head(peer.requests[0], Response((200, b""), b""))
    peer.end()
    peer.connection.send_chunks(peer.requests[0], [b"all"])
    peer.connection.send_end(peer.requests[0])
    assert len(peer.requests) == 1
    assert peer.is_closed


def test_a_half_close_does_not_make_a_draining_server_take_what_is_pipelined() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET + GET)
    peer.listener.drain()
    peer.end()
    peer.answer(peer.requests[0])
    assert len(peer.requests) == 1
    assert answers(peer, b"GET")[0].fields["connection"] == "close"


def test_large_content_that_is_complete_when_the_connection_is_aborted_is_not_run() -> None:
    peer = Peer()
    content = bytes(2 * LARGE_BYTES)
    peer.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content))
    peer.send(content[:1])
    receiver = peer.transport.protocol
    while peer.transport.is_reading:
        with receiver.get_buffer(-1) as view:
            receiver.buffer_updated(len(view))
    peer.connection.close_now()
    peer.loop.run_ready()
    assert peer.requests == []


def test_an_incomplete_request_behind_a_half_close_is_not_run() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET + POST[:-1])
    peer.end()
    peer.answer(peer.requests[0])
    assert len(peer.requests) == 1
    assert peer.transport.is_closing_now


def test_work_is_told_when_the_peer_goes_and_later_answers_go_nowhere() -> None:
    peer = Peer()
    request = running(peer)
    work = request.work = Work()
    peer.leave()
    assert work.told == ["disconnect"]
    assert request.work is None
    peer.answer(request)
    assert peer.transport.sent == b""
    assert not peer.listener.connections


def test_a_refusal_lingers_so_that_the_peer_can_read_it_and_drops_what_comes() -> None:
    peer = Peer()
    peer.send(b"BAD\r\n\r\n")
    assert peer.transport.has_sent_eof
    assert not peer.transport.is_closing_now
    peer.send(GET)
    assert len(answers(peer, b"GET", b"GET")) == 1
    peer.end()
    assert peer.transport.is_closing_now


def test_lingering_is_bounded_in_bytes() -> None:
    peer = Peer()
    peer.send(b"BAD\r\n\r\n", b"x" * LINGER_BYTES)
    assert peer.transport.is_reading
    peer.send(b"x")
    assert not peer.transport.is_reading
    assert not peer.transport.is_aborted  # a reset would destroy the answer, which the peer may be about to read
    peer.advance(3.0)
    assert peer.transport.is_aborted


def test_lingering_is_bounded_in_time() -> None:
    peer = Peer()
    peer.send(b"BAD\r\n\r\n")
    peer.advance(1.5)
    assert not peer.transport.is_aborted
    peer.advance(2.0)
    assert peer.transport.is_aborted


def test_draining_closes_idle_connections_and_the_others_with_their_answer() -> None:
    idle, busy, receiving = Peer(), Peer(answers_at_once=False), Peer()
    idle.send(GET)
    busy.send(GET)
    receiving.send(POST[:-1])
    for peer in (idle, busy, receiving):
        peer.listener.drain()
    assert idle.transport.is_closing_now
    busy.answer(busy.requests[0])
    receiving.send(POST[-1:])
    for peer, method in ((busy, b"GET"), (receiving, b"POST")):
        assert answers(peer, method)[0].fields["connection"] == "close"
        assert peer.is_closed


def test_draining_lets_a_peer_read_its_last_answer_though_its_next_request_may_be_there() -> None:
    """Closed with that unread, the connection would be reset, and what has not been sent lost."""
    peer = Peer()
    request = running(peer)
    peer.transport.is_stalled = True
    peer.connection.send_json(request, b"1" * (HIGH_WATER * 2))
    peer.listener.drain()
    assert not peer.transport.is_closing_now
    assert peer.transport.has_sent_eof
    assert peer.transport.is_reading
    peer.send(GET)
    assert len(peer.requests) == 1


def test_a_connection_made_while_draining_is_closed() -> None:
    peer = Peer()
    peer.listener.is_draining = True
    peer.connection.connection_made(peer.transport)  # type: ignore[arg-type]
    assert peer.transport.is_closing_now


def test_who_leaves_keeps_idle_connections_and_closes_each_with_its_next_response() -> None:
    peer = Peer()
    peer.send(GET)
    peer.listener.leave()
    peer.advance(70.0)
    assert not peer.is_closed
    peer.send(GET + GET)
    assert [answer.fields.get("connection") for answer in answers(peer, b"GET", b"GET")] == [None, "close"]
    assert peer.is_closed
    assert len(peer.requests) == 2  # what is pipelined behind the last response is another server's


def test_who_leaves_makes_the_response_in_flight_the_last() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET)
    peer.listener.leave()
    peer.answer(peer.requests[0])
    assert b"Connection: close\r\n" in peer.transport.sent
    assert peer.is_closed


@pytest.mark.parametrize("asks", [True, False])
def test_a_connection_made_while_leaving_may_ask_once_and_soon_also_in_the_drain(asks: bool) -> None:
    peer = Peer()
    peer.listener.is_leaving = True
    peer.connection.connection_made(peer.transport)  # type: ignore[arg-type]
    peer.listener.drain()
    peer.advance(DRAIN_IDLE_S)
    assert not peer.is_closed
    if asks:
        peer.send(GET)
        assert answers(peer, b"GET")[0].fields["connection"] == "close"
    else:
        peer.advance(2 * TICK_S)
    assert peer.is_closed


def test_a_drain_closes_what_was_kept_though_the_server_was_leaving() -> None:
    peer = Peer(answers_at_once=False)
    peer.send(GET)
    peer.answer(peer.requests[0])
    peer.listener.leave()
    peer.listener.drain()
    assert peer.transport.is_closing_now


@pytest.mark.parametrize("comes", [True, False])
def test_a_drain_answers_what_has_arrived_and_has_not_been_read(comes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer()
    peer.send(GET)
    monkeypatch.setattr(Flow, "has_unread", lambda flow: True)
    peer.listener.drain()
    assert not peer.is_closed
    if comes:
        peer.send(GET)
        assert answers(peer, b"GET", b"GET")[1].fields["connection"] == "close"
    else:  # half a request, say, that nobody ends
        peer.advance(DRAIN_IDLE_S + 2 * TICK_S)
    assert peer.is_closed


def test_abort_ends_every_connection() -> None:
    peer = Peer()
    running(peer)
    peer.listener.abort()
    assert peer.transport.is_aborted
    peer.connection.data_received(GET)
    assert len(peer.requests) == 1


def test_a_reader_that_empties_only_the_kernels_buffer_is_not_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    in_kernel = [1000]
    peer = Peer(Config(stall_timeout_s=60.0))
    request = running(peer)
    peer.transport.is_stalled = True
    monkeypatch.setattr(Flow, "_bytes_in_kernel", lambda flow: in_kernel[0])
    peer.connection.send_json(request, b"1" * (HIGH_WATER * 2))
    for _ in range(5):
        peer.advance(50.0)
        in_kernel[0] -= 1
    assert not peer.transport.is_aborted
    peer.advance(62.0)
    assert peer.transport.is_aborted
