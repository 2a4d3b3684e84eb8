"""Responses that a model made: what of them is kept, what is refused, what is not theirs to say."""

from __future__ import annotations

import http
from typing import Any

import pytest
import starlette.background
import starlette.responses

import fastserve
from fastserve.endpoints.user_responses import (
    CHOSEN_FIELDS,
    encode_pairs,
    head_of,
    read_head,
    whole,
    whole_of_starlette,
)
from fastserve.errors import ResultError


def test_status_type_length_and_fields_are_read() -> None:
    pairs = [(b"X-Name", b" a "), (b"Content-Type", b"a/b"), (b"CONTENT-LENGTH", b"5"), (b"x-name", b"b")]
    head = read_head(201, pairs)
    assert (head.response.kind, head.length) == ((201, b"a/b"), 5)
    assert head.response.fields == b"X-Name: a\r\nx-name: b\r\n"
    assert head.response.content == b""


def test_a_default_type_is_for_a_response_without_one() -> None:
    assert read_head(200, [], b"a/b").response.kind == (200, b"a/b")
    assert read_head(200, [(b"content-type", b"c/d")], b"a/b").response.kind == (200, b"c/d")
    assert read_head(200, []).response.kind == (200, b"")


@pytest.mark.parametrize(("status", "marked"), [(200, False), (299, False), (300, True), (599, True)])
def test_from_300_on_a_response_is_marked(status: int, marked: bool) -> None:
    assert read_head(status, [(b"a", b"b")]).response.fields == b"a: b\r\n" + (CHOSEN_FIELDS if marked else b"")


def test_a_status_may_be_an_enum_s() -> None:
    kind = read_head(http.HTTPStatus.IM_A_TEAPOT, []).response.kind
    assert kind == (418, b"")
    assert type(kind[0]) is int


@pytest.mark.parametrize("status", [0, 199, 600, -200, True, False, None, "200", 200.0, [200]])
def test_another_status_is_refused(status: object) -> None:
    with pytest.raises(ResultError, match="a status from 200 to 599"):
        read_head(status, [])


@pytest.mark.parametrize(
    "name",
    [b"Connection", b"Date", b"keep-alive", b"Trailer", b"Transfer-Encoding", b"UPGRADE", b"X-Request-ID"],
)
def test_what_is_the_connection_s_is_left_out(name: bytes) -> None:
    head = read_head(200, [(name, b"chunked"), (b"a", b"b")])
    assert (head.response.fields, head.length) == (b"a: b\r\n", None)


@pytest.mark.parametrize("value", [b"", b"a\tb c", b"\x80\xff", b"\xe2\x82\xac", b"~!@#$%^&*()"])
def test_every_value_that_http_has_is_taken(value: bytes) -> None:
    assert read_head(200, [(b"a", value)]).response.fields == b"a: %b\r\n" % value


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\r\nb: c", b"a\0b", b"\x7f", b"a\x0bb", b"\x1b["])
@pytest.mark.parametrize("name", [b"a", b"content-type", b"content-length", b"connection"])
def test_a_value_that_would_end_the_field_is_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(ResultError, match="cannot have the"):
        read_head(200, [(name, value)])


def test_white_space_around_a_value_is_not_part_of_it() -> None:
    assert read_head(200, [(b"a", b"\r\n b\t\r\n")]).response.fields == b"a: b\r\n"


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\n", b"\xe9", b"(a)", b" a", b"a "])
def test_a_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(ResultError, match="cannot have the header field"):
        read_head(200, [(name, b"x")])


@pytest.mark.parametrize("value", [b"-1", b"+1", b"1,1", b"0x1", b"", b"1" * 19, b"1 1"])
def test_a_content_length_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(ResultError, match="Content-Length"):
        read_head(200, [(b"Content-Length", value)])


def test_text_becomes_bytes_if_a_field_can_hold_it() -> None:
    assert encode_pairs([("a", "\xe9"), ("b", 5)]) == [(b"a", b"\xe9"), (b"b", b"5")]
    with pytest.raises(ResultError, match="not Latin-1"):
        encode_pairs([("a", "\u20ac")])


def test_a_media_type_is_the_content_type_even_beside_a_field_of_that_name() -> None:
    response = fastserve.Response(headers={"Content-Type": "a/b"}, media_type="c/d")
    assert head_of(response, b"e/f").response.kind == (200, b"c/d")
    response = fastserve.Response(headers={"Content-Type": "a/b"})
    assert head_of(response, b"e/f").response.kind == (200, b"a/b")
    assert head_of(fastserve.StreamingResponse([]), b"e/f").response.kind == (200, b"e/f")


class Text(str):
    def encode(self, *arguments: Any) -> bytes:
        return b"not this"


@pytest.mark.parametrize(
    ("content", "sent", "content_type"),
    [
        (None, b"", b""),
        ("\xe9", b"\xc3\xa9", b"text/plain; charset=utf-8"),
        (Text("a"), b"a", b"text/plain; charset=utf-8"),
        (b"\xff", b"\xff", b"application/octet-stream"),
        (bytearray(b"a"), b"a", b"application/octet-stream"),
        (memoryview(b"abcd")[::2], b"ac", b"application/octet-stream"),
        ({"a": 1}, b'{"a":1}', b"application/json"),
        ({1: 2}, b'{"1":2}', b"application/json"),
        (False, b"false", b"application/json"),
    ],
)
def test_content_of_our_own_response(content: object, sent: bytes, content_type: bytes) -> None:
    response = whole([fastserve.Response(content, 201, {"X-Name": "a"})])
    assert (response.kind, b"".join(response.pieces), response.fields) == (
        (201, content_type),
        sent,
        b"X-Name: a\r\n",
    )


@pytest.mark.parametrize("content", [{"a": object()}, "\ud800", [b"bytes"]])
def test_content_without_a_form_is_refused(content: object) -> None:
    with pytest.raises(ResultError):
        whole([fastserve.Response(content)])


class OwnSending(starlette.responses.Response):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def test_a_plain_response_of_starlette_s_is_a_message() -> None:
    user = starlette.responses.JSONResponse({"a": 1}, 404, {"X-Name": "a"})
    user.set_cookie("b", "c")
    response = whole_of_starlette(user)
    assert response is not None
    assert (response.kind, response.content) == ((404, b"application/json"), b'{"a":1}')
    assert response.fields.startswith(b"x-name: a\r\nset-cookie: b=c;")
    assert response.fields.endswith(CHOSEN_FIELDS)
    viewed = whole_of_starlette(starlette.responses.Response(memoryview(b"view")))
    assert viewed is not None
    assert viewed.content == b"view"


@pytest.mark.parametrize(
    "user",
    [
        starlette.responses.StreamingResponse([]),
        starlette.responses.FileResponse("/etc/hostname"),
        OwnSending("a"),
        starlette.responses.Response("a", background=starlette.background.BackgroundTask(print)),
    ],
)
def test_others_are_left_to_starlette(user: starlette.responses.Response) -> None:
    assert whole_of_starlette(user) is None
