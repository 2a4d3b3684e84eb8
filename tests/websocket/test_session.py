"""One WebSocket connection on a fake transport: hand-over, backpressure, deadlines by hand-wound clock, closing."""

from __future__ import annotations

import asyncio

import pytest

from fastserve.config import Config
from fastserve.websocket.inbox import MAX_UNREAD_BYTES, MESSAGE_COST, MESSAGES_A_TURN
from fastserve.websocket.session import (
    CLOSE_TIMEOUT_S,
    FEED_BYTES,
    FRAMES_A_TURN,
    MAX_UNSENT_PONGS,
    Session,
)
from tests.support.fakes import HIGH_WATER
from tests.support.websockets import (
    ACCEPT,
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Sent,
    WebSocketPeer,
    close_frame,
    converse,
    echo,
    frame,
    handshake,
    scene,
)

SOON = 1.0  # two ticks: a deadline is met within one


# --- the hand-over ---


def test_the_key_is_answered() -> None:
    head = converse().head
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nSec-WebSocket-Accept: " + ACCEPT in head
    assert b"\r\nUpgrade: websocket" in head
    assert b"\r\nConnection: Upgrade" in head


EXCHANGE = handshake() + frame(TEXT, b"one") + frame(PING, b"?") + frame(BINARY, b"\0" * 200) + close_frame(1000)


def test_bytes_right_behind_the_handshake_are_not_lost_however_all_of_it_is_cut() -> None:
    """Cut within or behind the handshake, what is sent back is the same."""

    def play(*pieces: bytes) -> bytes:
        peer = WebSocketPeer()
        messages: list[str | bytes] = []

        async def run() -> None:
            for piece in pieces:
                peer.send(piece)
                await peer.settle()
            while (message := await peer.session.receive()) is not None:
                messages.append(message)
            assert peer.session.ending == (1000, "")

        asyncio.run(run())
        assert messages == ["one", b"\0" * 200]
        assert peer.frames == [Sent(PONG, b"?"), Sent(CLOSE, b"\x03\xe8")]
        return peer.transport.sent

    whole = play(EXCHANGE).partition(b"\r\n\r\n")[2]
    for cut in range(1, len(EXCHANGE)):
        assert play(EXCHANGE[:cut], EXCHANGE[cut:]).partition(b"\r\n\r\n")[2] == whole


def test_a_client_that_shut_its_side_down_with_the_handshake_is_told_and_closed() -> None:
    peer = WebSocketPeer()

    async def run() -> None:
        peer.answers_at_once = False  # the handshake waits, as behind a pipelined request
        peer.send(handshake() + frame(TEXT, b"x"))
        peer.end()
        peer.answer(*peer.requests)
        peer.loop.run_ready()
        assert await peer.session.receive() == "x"
        assert await peer.session.receive() is None
        assert peer.session.ending == (1006, "")

    asyncio.run(run())
    assert peer.transport.is_closing_now


def test_the_listener_knows_the_session_instead_of_the_connection() -> None:
    async def play(peer: WebSocketPeer) -> None:
        assert peer.listener.connections == {peer.session}
        peer.leave()
        assert not peer.listener.connections

    scene(play)


def test_no_deadline_of_http_is_left() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.advance(19)
        assert peer.frames == []
        assert not peer.is_closed

    scene(play)


# --- accepting ---


def test_a_method_may_choose_a_subprotocol_and_fields_before_the_handshake_is_answered() -> None:
    async def play(peer: WebSocketPeer) -> None:
        assert peer.transport.sent == b""
        peer.session.accept("chat", [(b"X-Model", b"a b")])
        assert b"\r\nSec-WebSocket-Protocol: chat" in peer.head
        assert b"\r\nX-Model: a b" in peer.head
        sent = peer.transport.sent
        peer.session.accept("other")
        assert peer.transport.sent == sent

    scene(play, lambda: WebSocketPeer(accepts=False))


@pytest.mark.parametrize(
    "subprotocol, fields",
    [("a\r\nX: y", []), (None, [(b"X", b"a\nb")]), (None, [(b"X Y", b"")]), (None, [(b"", b"")])],
)
def test_what_is_no_header_field_is_refused(subprotocol: str | None, fields: list[tuple[bytes, bytes]]) -> None:
    async def play(peer: WebSocketPeer) -> None:
        with pytest.raises(ValueError, match="not a header field"):
            peer.session.accept(subprotocol, fields)
        assert peer.transport.sent == b""
        peer.session.accept()
        assert peer.head.startswith(b"HTTP/1.1 101 ")

    scene(play, lambda: WebSocketPeer(accepts=False))


@pytest.mark.parametrize("first", ["receive", "send", "close"])
def test_whatever_the_method_does_first_answers_the_handshake(first: str) -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.send(frame(TEXT, b"early"))
        assert peer.transport.sent == b""
        if first == "receive":
            assert await peer.session.receive() == "early"
        elif first == "send":
            await peer.session.send("x")
            assert peer.frames == [Sent(TEXT, b"x")]
        else:
            peer.session.close(4000, "no")
            assert peer.frames == [Sent(CLOSE, b"\x0f\xa0no")]
        assert peer.head.startswith(b"HTTP/1.1 101 ")

    scene(play, lambda: WebSocketPeer(accepts=False))


def test_a_client_that_left_before_the_answer_is_not_answered() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.leave()
        assert await peer.session.receive() is None
        assert peer.session.ending == (1006, "")
        peer.session.close()
        assert peer.transport.sent == b""

    scene(play, lambda: WebSocketPeer(accepts=False))


def test_what_comes_before_the_handshake_is_answered_is_kept() -> None:
    async def play(peer: WebSocketPeer) -> None:
        sent = frame(TEXT, b"early") + frame(PING, b"?")
        for byte in sent:
            peer.send(bytes([byte]))
        assert peer.transport.sent == b""
        assert await peer.session.receive() == "early"
        assert peer.frames == [Sent(PONG, b"?")]

    scene(play, lambda: WebSocketPeer(accepts=False))


# --- backpressure ---


def test_a_model_that_takes_no_messages_makes_the_peer_wait_and_loses_none() -> None:
    async def play(peer: WebSocketPeer) -> None:
        size, count = 100_000, 40
        assert size * count > 3 * MAX_UNREAD_BYTES
        await peer.say(*[frame(BINARY, bytes([i]) * size) for i in range(count)])
        assert not peer.transport.is_reading
        assert peer._held != b""  # left in the kernel
        for i in range(count):
            assert await peer.session.receive() == bytes([i]) * size
            peer.loop.run_ready()
        assert peer.transport.is_reading

    scene(play)


def test_short_messages_count_for_more_than_their_bytes() -> None:
    async def play(peer: WebSocketPeer) -> None:
        await peer.say(frame(TEXT) * 10_000)
        assert not peer.transport.is_reading
        waiting = MAX_UNREAD_BYTES // MESSAGE_COST
        assert waiting < len(peer.session._inbox._messages) < waiting + FEED_BYTES // 6 + 1

    scene(play)


def test_many_small_frames_are_read_over_several_turns_of_the_loop() -> None:
    async def play(peer: WebSocketPeer) -> None:
        count = 4 * FEED_BYTES // len(frame(PING))
        peer.transport.protocol.data_received(frame(PING) * count)
        read_at_once = len(peer.frames)
        assert FRAMES_A_TURN < read_at_once < count
        assert not peer.transport.is_reading
        await peer.settle()
        assert len(peer.frames) == count
        assert peer.transport.is_reading

    scene(play)


def test_a_method_that_always_finds_a_message_lets_others_have_their_turn() -> None:
    async def play(peer: WebSocketPeer) -> None:
        await peer.say(frame(TEXT, b"x") * 1000)
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count_turns())
        for _ in range(1000):
            await peer.session.receive()
        other.cancel()
        assert turns >= 1000 // MESSAGES_A_TURN

    scene(play)


def test_a_method_that_sends_without_end_lets_others_have_their_turn_and_learns_that_the_peer_has_left() -> None:
    async def play(peer: WebSocketPeer) -> None:
        await peer.settle()
        asyncio.get_running_loop().call_later(0.01, peer.leave)
        for _ in range(20_000):  # far more than fit into 10 ms
            try:
                await peer.session.send("x")
            except ConnectionError:
                return
        raise AssertionError("the loop was held")

    scene(play)


def test_sending_waits_for_a_peer_that_does_not_read_and_goes_on_when_it_does() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.transport.is_stalled = True
        sending = asyncio.create_task(peer.session.send(b"*" * (HIGH_WATER + 1)))
        await peer.settle()
        assert not sending.done()
        behind = asyncio.create_task(peer.session.send("behind"))
        await peer.settle()
        assert [len(f.payload) for f in peer.frames] == [HIGH_WATER + 1]  # the second is not even written
        peer.transport.read_all()
        await asyncio.gather(sending, behind)
        assert peer.frames[1:] == [Sent(TEXT, b"behind")]

    scene(play)


def test_a_peer_that_does_not_read_may_still_send() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.transport.is_stalled = True
        sending = asyncio.create_task(peer.session.send(b"*" * (HIGH_WATER + 1)))
        await peer.say(frame(TEXT, b"more"))
        assert await peer.session.receive() == "more"
        peer.transport.read_all()
        await sending

    scene(play)


def test_pongs_for_a_peer_that_does_not_read_do_not_pile_up() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.transport.is_stalled = True
        sending = asyncio.create_task(peer.session.send(b"*" * (HIGH_WATER + 1)))
        await peer.settle()
        await peer.say(*[frame(PING, b"*" * 125)] * (2 * MAX_UNSENT_PONGS))
        assert not peer.transport.is_reading
        assert len(peer.frames) - 1 == MAX_UNSENT_PONGS + 1
        peer.transport.read_all()
        peer.transport.is_stalled = False
        await peer.settle()
        assert len(peer.frames) - 1 == 2 * MAX_UNSENT_PONGS
        await sending

    scene(play)


def test_a_peer_that_takes_nothing_for_the_stall_timeout_is_cut_off() -> None:
    config = Config(stall_timeout_s=30.0)

    async def play(peer: WebSocketPeer) -> None:
        peer.transport.is_stalled = True
        sending = asyncio.create_task(peer.session.send(b"*" * (HIGH_WATER + 1)))
        await peer.settle()
        peer.advance(30)
        assert not peer.transport.is_aborted
        peer.advance(SOON)
        assert peer.transport.is_aborted
        peer.leave()
        with pytest.raises(ConnectionError):
            await sending

    scene(play, lambda: WebSocketPeer(config))


# --- pings ---


def test_a_silent_peer_is_pinged_and_cut_off_if_it_does_not_answer() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.advance(20)
        assert peer.frames == [Sent(PING, b"1")]
        peer.advance(20)
        assert len(peer.frames) == 1
        peer.advance(SOON)
        assert peer.frames[1] == Sent(CLOSE, b"\x03\xf3keepalive ping timeout")
        assert await peer.session.receive() is None
        assert peer.session.ending == (1011, "keepalive ping timeout")
        peer.advance(CLOSE_TIMEOUT_S + SOON)
        assert peer.transport.is_aborted

    scene(play)


def test_a_peer_that_answers_is_pinged_each_interval() -> None:
    config = Config(ping_interval_s=5.0, ping_timeout_s=2.0)

    async def play(peer: WebSocketPeer) -> None:
        for i in range(1, 6):
            peer.advance(5)
            assert peer.frames[-1] == Sent(PING, b"%d" % i)
            await peer.say(frame(PONG, b"%d" % i))
        assert len(peer.frames) == 5

    scene(play, lambda: WebSocketPeer(config))


def test_only_the_pong_that_was_asked_for_counts_and_bytes_of_a_long_message_put_the_end_off() -> None:
    config = Config(ping_interval_s=5.0, ping_timeout_s=2.0)

    async def play(peer: WebSocketPeer) -> None:
        peer.advance(5)
        long = frame(BINARY, bytes(1000))
        await peer.say(frame(PONG, b"other"), long[:500])
        for at in range(500, 506):
            peer.advance(2)
            await peer.say(long[at : at + 1])
        assert peer.frames == [Sent(PING, b"1")]
        peer.advance(2 + SOON)
        assert [f.opcode for f in peer.frames] == [PING, CLOSE]

    scene(play, lambda: WebSocketPeer(config))


def test_a_peer_that_we_do_not_listen_to_is_not_blamed_for_its_silence() -> None:
    async def play(peer: WebSocketPeer) -> None:
        await peer.say(frame(BINARY, bytes(MAX_UNREAD_BYTES + 1)))
        assert not peer.transport.is_reading
        peer.advance(300)
        assert peer.frames == [Sent(PING, b"1")]
        await peer.session.receive()
        await peer.say(frame(PONG, b"1"))
        peer.advance(15)
        assert not peer.is_closed

    scene(play)


def test_a_ping_behind_what_the_peer_still_reads_is_not_overdue() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.transport.is_stalled = True
        sending = asyncio.create_task(peer.session.send(b"*" * (10 * HIGH_WATER)))
        await peer.settle()
        for _ in range(100):
            peer.advance(1)
            peer.transport.unsent -= 100  # slow but steady
        assert not peer.is_closed
        assert [f.opcode for f in peer.frames] == [BINARY, PING]
        sending.cancel()
        await asyncio.wait({sending})

    scene(play)


# --- closing ---


def test_our_close_waits_for_the_peer_s_and_then_shuts_down() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.session.close(4001, "enough")
        peer.session.close(1000)  # once only
        assert peer.frames == [Sent(CLOSE, b"\x0f\xa1enough")]
        assert not peer.is_closed
        await peer.say(frame(TEXT, b"crossed it"), frame(PING, b"?"), close_frame(4001, b"enough"))
        assert peer.frames[1:] == [Sent(PONG, b"?")]
        assert peer.transport.has_sent_eof
        assert not peer.transport.is_closing_now
        assert await peer.session.receive() is None
        peer.end()
        assert peer.transport.is_closing_now

    scene(play)


@pytest.mark.parametrize("answer", [b"", close_frame(1000)])
def test_a_peer_that_does_not_end_is_cut_off(answer: bytes) -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.session.close()
        await peer.say(answer)
        peer.advance(CLOSE_TIMEOUT_S)
        assert not peer.transport.is_aborted
        peer.advance(SOON)
        assert peer.transport.is_aborted

    scene(play)


def test_a_peer_that_still_reads_what_came_before_our_close_has_more_time() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.transport.is_stalled = True
        sending = asyncio.create_task(peer.session.send(b"*" * (HIGH_WATER + 1)))
        await peer.settle()
        peer.session.close()
        with pytest.raises(ConnectionError):
            await sending
        for _ in range(50):
            peer.advance(1)
            peer.transport.unsent -= 100
        assert not peer.transport.is_aborted
        peer.transport.read_all()
        peer.advance(CLOSE_TIMEOUT_S + SOON)
        assert peer.transport.is_aborted

    scene(play)


def test_messages_that_came_before_a_close_are_still_read() -> None:
    async def play(peer: WebSocketPeer) -> None:
        await peer.say(frame(TEXT, b"one") + frame(TEXT, b"two") + close_frame(1001, b"gone"))
        assert await peer.session.receive() == "one"
        with pytest.raises(ConnectionError):
            await peer.session.send("too late")
        assert await peer.session.receive() == "two"
        assert await peer.session.receive() is None
        assert await peer.session.receive() is None
        assert peer.session.ending == (1001, "gone")

    scene(play)


def test_a_close_is_found_behind_what_the_model_has_not_read() -> None:
    async def play(peer: WebSocketPeer) -> None:
        await peer.say(frame(BINARY, bytes(MAX_UNREAD_BYTES + 1)), frame(TEXT, b"unread"), close_frame(1000))
        assert not peer.transport.is_reading
        peer.session.close(4000)
        await peer.settle()
        assert peer.transport.has_sent_eof
        assert peer.frames == [Sent(CLOSE, b"\x0f\xa0")]

    scene(play)


def test_the_end_of_the_connection_is_seen_although_much_is_unread() -> None:
    async def play(peer: WebSocketPeer) -> None:
        await peer.say(frame(BINARY, bytes(MAX_UNREAD_BYTES + 1)) + close_frame(1000))
        assert peer.transport.is_reading
        peer.end()
        assert peer.transport.is_closing_now
        assert await peer.session.receive() == bytes(MAX_UNREAD_BYTES + 1)
        assert await peer.session.receive() is None

    scene(play)


@pytest.mark.parametrize("way", ["end", "leave"])
def test_a_peer_that_just_goes_is_1006_and_wakes_who_waits(way: str) -> None:
    async def play(peer: WebSocketPeer) -> None:
        receiving = [asyncio.create_task(peer.session.receive()) for _ in range(2)]
        await peer.settle()
        getattr(peer, way)()
        assert await asyncio.gather(*receiving) == [None, None]
        assert peer.session.ending == (1006, "")
        assert all(f.opcode != CLOSE for f in peer.frames)

    scene(play)


def test_waiting_may_be_given_up_without_losing_a_message() -> None:
    async def play(peer: WebSocketPeer) -> None:
        for text in ("one", "two"):
            receiving = asyncio.create_task(peer.session.receive())
            await peer.settle()
            receiving.cancel()
            peer.send(frame(TEXT, text.encode()))
            assert await peer.session.receive() == text
            await asyncio.wait({receiving})
            assert receiving.cancelled()

    scene(play)


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 2999, 5000])
def test_a_code_that_may_not_be_sent_is_the_method_s_mistake(code: int) -> None:
    async def play(peer: WebSocketPeer) -> None:
        with pytest.raises(ValueError, match=f"{code} is not a close code"):
            peer.session.close(code)
        await peer.session.send("still open")
        assert peer.frames == [Sent(TEXT, b"still open")]

    scene(play)


def test_a_long_reason_is_cut_between_characters() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.session.close(1000, "é" * 100)
        assert peer.frames == [Sent(CLOSE, b"\x03\xe8" + "é".encode() * 61)]

    scene(play)


def test_text_that_is_not_unicode_is_the_method_s_mistake() -> None:
    async def play(peer: WebSocketPeer) -> None:
        with pytest.raises(UnicodeEncodeError):
            await peer.session.send("\ud800")
        await peer.session.send("fine")
        assert peer.frames == [Sent(TEXT, b"fine")]

    scene(play)


# --- draining ---

RESTART = Sent(CLOSE, b"\x03\xf4the server is stopping")


def test_a_drain_ends_what_waits_for_a_message_at_once() -> None:
    async def play(peer: WebSocketPeer) -> None:
        task = asyncio.create_task(echo(peer.session))
        await peer.settle()
        peer.listener.drain()
        await task
        assert peer.frames == [RESTART]
        assert peer.session.ending == (1012, "the server is stopping")

    scene(play)


def test_a_drain_lets_the_answer_at_hand_be_finished_and_begins_no_other() -> None:
    async def play(peer: WebSocketPeer) -> None:
        gate = asyncio.Event()

        async def answer(session: Session) -> None:
            while (message := await session.receive()) is not None:
                await gate.wait()
                await session.send(message)

        task = asyncio.create_task(answer(peer.session))
        await peer.say(frame(TEXT, b"at hand"), frame(TEXT, b"next"))
        peer.listener.drain()
        await peer.settle()
        assert peer.frames == []
        gate.set()
        await task
        assert peer.frames == [Sent(TEXT, b"at hand"), RESTART]

    scene(play)


def test_the_end_of_the_server_cuts_everything() -> None:
    async def play(peer: WebSocketPeer) -> None:
        peer.listener.abort()
        assert peer.transport.is_aborted

    scene(play)
