"""RFC 6455 and 7692 frame by frame, with raw bytes: the groups of the Autobahn test suite, small."""

from __future__ import annotations

import zlib

import pytest

from tests.support.websockets import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Sent,
    close_frame,
    converse,
    frame,
    handshake,
)

SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 131072]


# --- 1, 9: framing and sizes ---


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_any_size_is_echoed(opcode: int, size: int) -> None:
    content = b"*" * size if opcode == TEXT else bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert converse(frame(opcode, content)).frames == [Sent(opcode, content)]


@pytest.mark.parametrize("piece", [1, 2, 997])
def test_however_the_bytes_arrive(piece: int) -> None:
    sent = frame(TEXT, b"*" * 3000) + frame(PING, b"?") + frame(BINARY, b"\0")
    peer = converse(*[sent[at : at + piece] for at in range(0, len(sent), piece)])
    assert sorted(peer.frames) == [Sent(TEXT, b"*" * 3000), Sent(BINARY, b"\0"), Sent(PONG, b"?")]


def test_a_size_in_more_bytes_than_needed_is_read_all_the_same() -> None:
    masked = frame(TEXT, b"hi")[2:]
    assert converse(b"\x81\xfe\0\x02" + masked).frames == [Sent(TEXT, b"hi")]


@pytest.mark.parametrize("fragment", [64, 4096])
def test_a_message_of_1_mib_in_fragments(fragment: int) -> None:
    content = bytes(range(256)) * 4096
    pieces = [content[at : at + fragment] for at in range(0, len(content), fragment)]
    frames = [frame(BINARY if i == 0 else CONT, p, fin=i == len(pieces) - 1) for i, p in enumerate(pieces)]
    assert converse(b"".join(frames)).frames == [Sent(BINARY, content)]


# --- 2: pings and pongs ---


@pytest.mark.parametrize("payload", [b"", b"Hello", b"\x00\xff\xfe\xfd", b"*" * 125])
def test_a_ping_is_answered_with_its_payload(payload: bytes) -> None:
    assert converse(frame(PING, payload)).frames == [Sent(PONG, payload)]


def test_ten_pings_in_one_piece_or_byte_by_byte_are_answered_in_order() -> None:
    sent = b"".join(frame(PING, b"%d" % i) for i in range(10))
    expected = [Sent(PONG, b"%d" % i) for i in range(10)]
    assert converse(sent).frames == expected
    assert converse(*[bytes([byte]) for byte in sent]).frames == expected


def test_pongs_that_nobody_asked_for_mean_nothing() -> None:
    assert converse(frame(PONG), frame(PONG, b"x"), frame(PING, b"y")).frames == [Sent(PONG, b"y")]


# --- 3, 4: reserved bits and opcodes; masking; control frames ---

MALFORMED = {
    **{f"reserved bits {rsv:03b}": frame(TEXT, b"x", rsv=rsv) for rsv in (1, 2, 3, 4, 5, 6, 7)},
    **{f"reserved bits {rsv:03b} on a ping": frame(PING, b"x", rsv=rsv) for rsv in (1, 4, 7)},
    **{f"opcode {opcode}": frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "no mask": frame(TEXT, b"x", mask=None),
    "a ping of 126 bytes": frame(PING, b"*" * 126),
    "a pong of 126 bytes": frame(PONG, b"*" * 126),
    "a ping in fragments": frame(PING, b"x", fin=False),
    "a close in fragments": frame(CLOSE, b"\x03\xe8", fin=False),
    "a continuation of nothing": frame(CONT, b"x"),
    "a continuation of nothing, not the last": frame(CONT, b"x", fin=False),
    "a continuation after a whole message": frame(TEXT, b"x") + frame(CONT, b"x"),
    "a message within a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "a fragment that begins another": frame(TEXT, b"x", fin=False) + frame(BINARY, b"y", fin=False),
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_frame_fails_the_connection_with_1002(sent: bytes) -> None:
    peer = converse(sent + frame(TEXT, b"not read any more"))
    assert [f.code for f in peer.frames if f.opcode == CLOSE] == [1002]
    assert Sent(TEXT, b"not read any more") not in peer.frames
    assert peer.is_closed


# --- 5: fragmentation ---

FRAGMENTED = {
    "two": [(TEXT, b"fragment1", False), (CONT, b"fragment2", True)],
    "empty ones": [(TEXT, b"", False), (CONT, b"", False), (CONT, b"", True)],
    "an empty last one": [(BINARY, b"\0", False), (CONT, b"", True)],
    "single bytes": [(TEXT, b"a", False), *[(CONT, b"b", False)] * 50, (CONT, b"c", True)],
}


@pytest.mark.parametrize("fragments", FRAGMENTED.values(), ids=FRAGMENTED)
@pytest.mark.parametrize("is_in_one_piece", [True, False])
def test_fragments_are_put_together(fragments: list[tuple[int, bytes, bool]], is_in_one_piece: bool) -> None:
    frames = [frame(opcode, content, fin=fin) for opcode, content, fin in fragments]
    whole = b"".join(content for _, content, _ in fragments)
    peer = converse(*([b"".join(frames)] if is_in_one_piece else frames))
    assert peer.frames == [Sent(fragments[0][0], whole)]


def test_a_ping_between_fragments_is_answered_at_once() -> None:
    peer = converse(frame(TEXT, b"one ", fin=False), frame(PING, b"?"), frame(CONT, b"two"))
    assert peer.frames == [Sent(PONG, b"?"), Sent(TEXT, b"one two")]


def test_one_fragmented_message_after_another() -> None:
    first = [frame(TEXT, "é".encode()[:1], fin=False), frame(CONT, "é".encode()[1:])]
    second = [frame(BINARY, b"\xff", fin=False), frame(CONT, b"\xfe")]
    peer = converse(*first, *second, *first)
    assert [f.payload for f in peer.frames] == ["é".encode(), b"\xff\xfe", "é".encode()]


# --- 6: UTF-8 ---

GOOD_TEXTS = [
    "Hello-µ@ßöäüàá-UTF-8!!".encode(),
    "κόσμε".encode(),
    b"\x00",
    "\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffd\uffff\U00010000\U0010ffff".encode(),
    "\ufeffa byte order mark stays".encode(),
]
BAD_TEXTS = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64",  # a surrogate
    b"\xf4\x90\x80\x80",  # above U+10FFFF
    b"\x80",
    b"\xbf\x80",
    b"\xc0\xaf",  # overlong
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xed\xb0\x80",
    b"\xf8\x88\x80\x80\x80",  # five bytes
    b"\xfe",
    b"\xff",
    b"cut \xe2\x82",
    b"\xc3(",
]


@pytest.mark.parametrize("text", GOOD_TEXTS)
def test_a_text_may_be_cut_within_a_character(text: bytes) -> None:
    assert converse(frame(TEXT, text)).frames == [Sent(TEXT, text)]
    for cut in range(len(text) + 1):
        peer = converse(frame(TEXT, text[:cut], fin=False) + frame(CONT, text[cut:]))
        assert peer.frames == [Sent(TEXT, text)]
    bytewise = [frame(CONT if i else TEXT, text[i : i + 1], fin=i == len(text) - 1) for i in range(len(text))]
    assert converse(*bytewise).frames == [Sent(TEXT, text)]


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_text_that_is_not_utf_8_fails_the_connection_with_1007(text: bytes) -> None:
    for cut in range(len(text) + 1):
        sent = frame(TEXT, text[:cut], fin=False) + frame(CONT, text[cut:])
        for bad in (sent, frame(TEXT, text)):
            (close,) = converse(bad).frames
            assert close.code == 1007


def test_the_fragment_that_makes_a_text_impossible_is_the_last_that_is_read() -> None:
    peer = converse(frame(TEXT, b"fine, ", fin=False), frame(CONT, b"\xff", fin=False))
    assert [f.code for f in peer.frames] == [1007]
    assert peer.is_closed


@pytest.mark.parametrize("content", BAD_TEXTS)
def test_binary_messages_may_be_any_bytes(content: bytes) -> None:
    assert converse(frame(BINARY, content)).frames == [Sent(BINARY, content)]


# --- 7: closing ---


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
def test_a_close_is_answered_with_its_code_and_the_connection_shut_down(code: int) -> None:
    peer = converse(close_frame(code, b"bye"))
    assert peer.frames == [Sent(CLOSE, code.to_bytes(2, "big") + b"bye")]
    assert peer.is_closed


def test_a_close_without_a_code_is_answered_without_one() -> None:
    assert converse(frame(CLOSE)).frames == [Sent(CLOSE, b"")]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_a_code_that_may_not_be_sent_is_1002(code: int) -> None:
    assert [f.code for f in converse(close_frame(code)).frames] == [1002]


def test_a_close_of_one_byte_is_1002() -> None:
    assert [f.code for f in converse(frame(CLOSE, b"\x03")).frames] == [1002]


def test_a_reason_that_is_not_utf_8_is_1007() -> None:
    assert [f.code for f in converse(close_frame(1000, b"\xce\xba\xed\xa0\x80")).frames] == [1007]


def test_the_longest_reason() -> None:
    assert converse(close_frame(1000, b"*" * 123)).frames == [Sent(CLOSE, b"\x03\xe8" + b"*" * 123)]
    assert [f.code for f in converse(close_frame(1000, b"*" * 124)).frames] == [1002]


def test_nothing_is_read_behind_a_close() -> None:
    for behind in (frame(TEXT, b"x"), frame(PING, b"x"), close_frame(1001), b"\xff" * 100):
        assert converse(frame(TEXT, b"last") + close_frame(1000) + behind).frames == [Sent(CLOSE, b"\x03\xe8")]
        assert converse(close_frame(1000), behind).frames == [Sent(CLOSE, b"\x03\xe8")]


# --- 9: limits ---


def test_a_message_over_the_limit_fails_the_connection_with_1009_before_it_has_come() -> None:
    assert [f.code for f in converse(frame(BINARY, b"*" * 1001)[:8], max_message_bytes=1000).frames] == [1009]
    assert converse(frame(BINARY, b"*" * 1000), max_message_bytes=1000).frames == [Sent(BINARY, b"*" * 1000)]


def test_the_limit_is_100_mib() -> None:
    size = 100 * 1024 * 1024
    assert converse(b"\x82\xff" + size.to_bytes(8, "big")).frames == []
    assert [f.code for f in converse(b"\x82\xff" + (size + 1).to_bytes(8, "big")).frames] == [1009]


def test_the_limit_is_for_all_fragments_together() -> None:
    peer = converse(frame(TEXT, b"*" * 600, fin=False), frame(CONT, b"*" * 401), max_message_bytes=1000)
    assert [f.code for f in peer.frames] == [1009]


# --- 12, 13: permessage-deflate ---

DEFLATE = handshake(sec_websocket_extensions="permessage-deflate; client_max_window_bits")


def deflated(content: bytes) -> bytes:
    """As RFC 7692 section 7.2.1 has it."""
    compressor = zlib.compressobj(wbits=-12)
    return (compressor.compress(content) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(sent: list[Sent]) -> list[bytes]:
    """The messages, with one window for all (RFC 7692 section 7.2.3.2)."""
    decompressor = zlib.decompressobj(wbits=-15)
    return [decompressor.decompress(f.payload + b"\0\0\xff\xff") if f.rsv == 4 else f.payload for f in sent]


def test_without_an_offer_nothing_is_deflated() -> None:
    assert b"Extensions" not in converse(frame(TEXT, b"x")).head


@pytest.mark.parametrize("size", [0, 1, 1000, 65536])
def test_deflated_messages_are_inflated_and_answered_deflated(size: int) -> None:
    content = b"abc" * (size // 3)
    peer = converse(frame(TEXT, deflated(content), rsv=4), opening=DEFLATE)
    assert b"Sec-WebSocket-Extensions: permessage-deflate" in peer.head
    assert [f.rsv for f in peer.frames] == [4]
    assert inflated(peer.frames) == [content]


def test_a_large_message_is_answered_as_it_is_and_the_next_small_one_deflated_again() -> None:
    pieces = [frame(BINARY, deflated(b"a" * size), rsv=4) for size in (10, 65537, 10)]
    # each deflated on its own: the peer need not use the window it has
    peer = converse(*pieces, opening=DEFLATE)
    assert [f.rsv for f in peer.frames] == [4, 0, 4]
    assert inflated(peer.frames) == [b"a" * 10, b"a" * 65537, b"a" * 10]


def test_plain_messages_are_taken_too_and_fragments_of_a_deflated_one() -> None:
    squeezed = deflated(b"x" * 500)
    pieces = frame(TEXT, squeezed[:3], fin=False, rsv=4), frame(PING, b"?"), frame(CONT, squeezed[3:])
    peer = converse(frame(TEXT, b"plain"), *pieces, opening=DEFLATE)
    answered = [f for f in peer.frames if f.opcode == TEXT]
    assert inflated(answered) == [b"plain", b"x" * 500]


def test_what_does_not_inflate_is_1002() -> None:
    assert [f.code for f in converse(frame(TEXT, b"\xff\xff\xff", rsv=4), opening=DEFLATE).frames] == [1002]


def test_a_message_that_inflates_over_the_limit_is_1009() -> None:
    bomb = deflated(bytes(1_000_000))
    assert len(bomb) < 2000
    peer = converse(frame(BINARY, bomb, rsv=4), opening=DEFLATE, max_message_bytes=10_000)
    assert [f.code for f in peer.frames] == [1009]


def test_inflated_text_that_is_not_utf_8_is_1007() -> None:
    assert [f.code for f in converse(frame(TEXT, deflated(b"\xff"), rsv=4), opening=DEFLATE).frames] == [1007]
