"""Whole responses that a model makes itself, starlette's and ours: what it may decide, and what it may not."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.making import CHAT, PREDICT, error_fields, exchange, make, stream, whole
from tests.support.process import Server

SYNC_AND_ASYNC = pytest.mark.parametrize("path", [PREDICT, CHAT])


@SYNC_AND_ASYNC
@pytest.mark.parametrize(
    ("name", "content", "media_type", "sent", "content_type"),
    [
        ("Response", "h\xe9llo", "text/plain", "h\xe9llo".encode(), "text/plain; charset=utf-8"),
        ("Response", "h\xe9llo", None, "h\xe9llo".encode(), None),
        ("Response", "<a/>", "application/xml", b"<a/>", "application/xml"),
        ("PlainTextResponse", "text", None, b"text", "text/plain; charset=utf-8"),
        ("HTMLResponse", "<p>", None, b"<p>", "text/html; charset=utf-8"),
        ("JSONResponse", {"a": [1.5, None]}, None, b'{"a":[1.5,null]}', "application/json"),
        ("Response", None, None, b"", None),
    ],
)
def test_starlette_s_whole_responses(
    starlette: Server,
    path: str,
    name: str,
    content: object,
    media_type: str | None,
    sent: bytes,
    content_type: str | None,
) -> None:
    given = {"media_type": media_type} if media_type else {}
    answer = make(starlette, whole(name, content=content, **given), path)
    assert (answer.status, answer.content, answer.fields.get("content-type")) == (200, sent, content_type)
    assert answer.fields["content-length"] == str(len(sent))
    assert error_fields(answer) == [None, None]


@SYNC_AND_ASYNC
@pytest.mark.parametrize(
    ("content", "media_type", "sent", "content_type"),
    [
        ("h\xe9llo", None, "h\xe9llo".encode(), "text/plain; charset=utf-8"),
        ("data", "text/csv", b"data", "text/csv"),
        ({"a": [1, None]}, None, b'{"a":[1,null]}', "application/json"),
        ([1.5], "application/problem+json", b"[1.5]", "application/problem+json"),
        (None, None, b"", None),
        (0, None, b"0", "application/json"),
    ],
)
def test_our_own_whole_responses(
    ours: Server, path: str, content: object, media_type: str | None, sent: bytes, content_type: str | None
) -> None:
    answer = make(ours, whole(content=content, media_type=media_type, headers={"X-Name": "value"}), path)
    assert (answer.status, answer.content, answer.fields.get("content-type")) == (200, sent, content_type)
    assert answer.fields["x-name"] == "value"


def test_bytes_of_our_own_response_are_sent_as_they_are(ours: Server) -> None:
    answer = make(ours, {**whole(), "bytes": "\x00\xff"})
    assert (answer.content, answer.fields["content-type"]) == (b"\x00\xff", "application/octet-stream")


def test_text_that_is_not_unicode_is_500_and_the_client_learns_why(ours: Server) -> None:
    answer = make(ours, whole(content="\ud800"))
    assert answer.status == 500
    assert json.loads(answer.content)["error"].startswith("Unhandled exception: a response holds text that is not")


@SYNC_AND_ASYNC
@pytest.mark.parametrize("status", [200, 201, 299, 301, 304, 400, 404, 418, 500, 503, 599])
def test_a_status_from_300_on_is_marked_as_truss_does(either: Server, path: str, status: int) -> None:
    answer = make(either, whole(content="x", status_code=status), path)
    assert answer.status == status
    assert answer.content == (b"" if status == 304 else b"x")
    assert error_fields(answer) == (["04", "700"] if status >= 300 else [None, None])


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_content_has_no_framing_either(either: Server, status: int) -> None:
    answer = make(either, whole(content="dropped", status_code=status))
    assert answer.content == b""
    assert not {"content-length", "transfer-encoding"} & answer.fields.keys()


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 1000, -1, "x", "200", None, 200.5, True])
def test_a_status_that_is_none_is_500_and_both_log_and_client_are_told(ours: Server, status: object) -> None:
    why = f"a response must have a status from 200 to 599, not {status!r}"
    for payload in (whole(status_code=status), stream("sync", "a", status_code=status)):
        ours.log = ""
        answer = make(ours, payload)
        assert (answer.status, json.loads(answer.content)) == (500, {"error": f"Unhandled exception: {why}"})
        assert error_fields(answer) == ["04", "500"]
        ours.wait_for_log(re.escape(f"The result cannot be sent: {why}"))


@pytest.mark.parametrize("status", [0, 99, 100, 199, 600, -1, "x", None, 200.5])
def test_such_a_status_of_starlette_s_is_500_too_whoever_finds_it(starlette: Server, status: object) -> None:
    for payload in (whole(status_code=status), stream("sync", "a", status_code=status)):
        assert make(starlette, payload).status == 500


def test_a_redirect_is_sent(starlette: Server) -> None:
    answer = make(starlette, whole("RedirectResponse", url="/elsewhere?a=\xe9"))
    assert (answer.status, answer.fields["location"]) == (307, "/elsewhere?a=%C3%A9")


def test_a_field_may_stand_several_times(starlette: Server) -> None:
    raw = [["Set-Cookie", "a=1"], ["Set-Cookie", "b=2; Path=/"], ["X-Name", "f\xfcnf"]]
    _, received = exchange(starlette, {**whole(), "raw": raw})
    assert b"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2; Path=/\r\nX-Name: f\xfcnf\r\n" in received


# --- what would not be HTTP ---

INJECTED = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rb", "a\0b", "a\r\n\r\nHTTP/1.1 200 OK", "a\x7fb", "\x01"]


@pytest.mark.parametrize("value", INJECTED)
def test_a_field_that_would_end_early_is_500(either: Server, value: str) -> None:
    for headers in ({"X-Name": value}, {"Content-Type": value}, {f"X-{value}": "1"}):
        for payload in (whole(headers=headers), stream("sync", "a", headers=headers)):
            answer = make(either, payload)
            assert answer.status == 500
            assert "x-evil" not in answer.fields
            why = "Unhandled exception: a response cannot have the header field"
            assert json.loads(answer.content)["error"].startswith(why)
    assert make(either, whole(media_type=f"text/{value}")).status == 500


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "\xe9", "a\tb"])
def test_a_field_name_that_is_none_is_500(either: Server, name: str) -> None:
    assert make(either, whole(headers={name: "1"})).status == 500


def test_text_that_no_field_can_hold_is_500(ours: Server) -> None:
    answer = make(ours, whole(headers={"X-Name": "\u20ac"}))
    assert answer.status == 500
    assert "not Latin-1" in json.loads(answer.content)["error"]


# --- framing is the server's ---

BY_HAND = [
    {"Transfer-Encoding": "chunked"},
    {"Transfer-Encoding": "gzip, chunked"},
    {"Connection": "close"},
    {"Connection": "keep-alive", "Keep-Alive": "timeout=5"},
    {"Upgrade": "websocket", "Connection": "upgrade"},
    {"Trailer": "X-After", "Date": "now", "X-Request-ID": "mine"},
]


@SYNC_AND_ASYNC
@pytest.mark.parametrize("source", [None, "sync", "async", "list"])
@pytest.mark.parametrize("headers", BY_HAND)
def test_framing_and_connection_fields_set_by_hand_are_not_obeyed(
    either: Server, path: str, source: str | None, headers: dict[str, str]
) -> None:
    payload = stream(source, "ab", "c", headers=headers) if source else whole(content="abc", headers=headers)
    answer = make(either, payload, path)
    assert (answer.status, answer.content) == (200, b"abc")
    assert not {"connection", "keep-alive", "upgrade", "trailer"} & answer.fields.keys()
    assert answer.fields.get("transfer-encoding") == ("chunked" if source else None)
    assert answer.fields["date"].endswith(" GMT")
    assert answer.fields.get("x-request-id") != "mine"


@pytest.mark.parametrize("length", ["0", "2", "4", "99999"])
def test_a_wrong_content_length_of_whole_content_is_put_right(either: Server, length: str) -> None:
    answer = make(either, whole(content="abc", headers={"Content-Length": length}))
    assert (answer.content, answer.fields["content-length"]) == (b"abc", "3")


@SYNC_AND_ASYNC
@pytest.mark.parametrize("source", ["sync", "async"])
def test_a_right_content_length_of_a_stream_is_kept(either: Server, path: str, source: str) -> None:
    answer = make(either, stream(source, "ab", "c", headers={"Content-Length": "3"}), path)
    assert (answer.content, answer.fields["content-length"]) == (b"abc", "3")
    assert "transfer-encoding" not in answer.fields


@SYNC_AND_ASYNC
@pytest.mark.parametrize("source", ["sync", "async"])
@pytest.mark.parametrize(("length", "why"), [(5, "2 bytes less"), (2, "more content"), (0, "more content")])
def test_a_wrong_content_length_of_a_stream_is_never_exceeded_and_ends_the_connection(
    either: Server, path: str, source: str, length: int, why: str
) -> None:
    either.log = ""
    answers, received = exchange(either, stream(source, "ab", "c", headers={"Content-Length": str(length)}), path)
    assert len(answers) == 1, received  # nothing follows that could be taken for the rest
    assert b"abc".startswith(answers[0].content)
    assert len(answers[0].content) <= length
    either.wait_for_log(f"The result cannot be sent: {why} than its Content-Length of {length}")


NOT_A_LENGTH = ["-1", "+3", "3, 3", "0x3", "1e1", "three", "", "9" * 30, "\xb2"]


@pytest.mark.parametrize("length", NOT_A_LENGTH)
def test_a_content_length_that_is_none_is_500(either: Server, length: str) -> None:
    headers = {"Content-Length": length}
    for payload in (whole(content="abc", headers=headers), stream("sync", "abc", headers=headers)):
        answer = make(either, payload)
        assert answer.status == 500
        assert "Content-Length" in json.loads(answer.content)["error"]


# --- HTTP/1.0, HEAD ---


@SYNC_AND_ASYNC
@pytest.mark.parametrize("source", [None, "sync", "async"])
def test_http_10_has_no_chunks(either: Server, path: str, source: str | None) -> None:
    payload = stream(source, "ab", "c") if source else whole(content="abc")
    answers, received = exchange(either, payload, path, version="1.0")
    assert [(answer.status, answer.content) for answer in answers] == [(200, b"abc")]
    assert b"\r\nConnection: close\r\n" in received
    assert b"chunked" not in received.lower()


def test_http_10_keeps_the_connection_where_the_length_is_known(either: Server) -> None:
    payload = stream("sync", "ab", "c", headers={"Content-Length": "3"})
    answers, _ = exchange(either, payload, version="1.0", fields="Connection: keep-alive\r\n")
    assert [(answer.content, answer.is_complete) for answer in answers] == [(b"abc", True), (b"true", True)]


def test_head_does_not_reach_methods_of_the_model(either: Server) -> None:
    assert either.request("HEAD", PREDICT) == (200, b"")  # readiness, as GET
    assert either.request("HEAD", CHAT)[0] == 405
