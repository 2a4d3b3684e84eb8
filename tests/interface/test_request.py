"""`fastserve.Request`: what starlette's users know of theirs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastserve.interface.disconnection import Disconnection
from fastserve.interface.request import Address, Fields, Pairs, Request
from fastserve.messages import Head


def make(
    content: bytes = b"",
    fields: dict[bytes, bytes] | None = None,
    *,
    target: bytes = b"/predict",
    client: tuple[str, int] | None = ("10.0.0.1", 5000),
) -> Request:
    head = Head(b"", b"POST", target, target.partition(b"?")[0], fields or {})
    return Request(head, content, client, Disconnection())


def test_header_fields_are_found_in_any_case() -> None:
    fields = Fields({b"x-name": b"f\xfcnf", b"accept": b"a, b"})
    assert fields["X-NAME"] == fields["x-name"] == "f\xfcnf"
    assert fields.get("Accept") == "a, b"
    assert "accept" in fields
    assert dict(fields) == {"x-name": "f\xfcnf", "accept": "a, b"}
    assert len(fields) == 2
    assert repr(fields) == "Fields({'x-name': 'f\xfcnf', 'accept': 'a, b'})"


def test_secrets_are_not_shown_by_repr() -> None:
    secrets = dict.fromkeys((b"authorization", b"x-api-key", b"cookie", b"proxy-authorization"), b"k3y")
    fields = Fields({**secrets, b"accept": b"a"})
    assert "k3y" not in repr(fields)
    assert "'accept': 'a'" in repr(fields)
    assert fields["X-API-Key"] == "k3y"


def test_the_url_of_an_encrypted_connection_is_https() -> None:
    head = Head(b"", b"GET", b"/a", b"/a", {b"host": b"x"})
    assert Request(head, b"", None, Disconnection(), is_encrypted=True).url == "https://x/a"
    assert Request(head, b"", None, Disconnection()).url == "http://x/a"


@pytest.mark.parametrize("name", ["missing", "\u20ac", ""])
def test_a_field_that_is_not_there_is_a_key_error_that_names_it(name: str) -> None:
    fields = Fields({b"accept": b"a"})
    with pytest.raises(KeyError) as missing:
        fields[name]
    assert missing.value.args == (name,)
    assert fields.get(name, "default") == "default"
    assert name not in fields


def test_the_last_of_several_values_counts_and_all_can_be_had() -> None:
    pairs = Pairs("a=1&b=&a=%202&c&d=%C3%A9+x&%zz=%")
    assert dict(pairs) == {"a": " 2", "b": "", "c": "", "d": "\xe9 x", "%zz": "%"}
    assert pairs.getlist("a") == ["1", " 2"]
    assert pairs.getlist("missing") == []
    assert (len(pairs), pairs.get("missing")) == (5, None)
    assert repr(Pairs("a=1")) == "Pairs([('a', '1')])"
    with pytest.raises(KeyError):
        pairs["missing"]


def test_url_and_client() -> None:
    request = make(fields={b"host": b"x.example:81"}, target=b"/a%20b?c=d")
    assert request.url == "http://x.example:81/a%20b?c=d"
    assert request.query_params["c"] == "d"
    assert (request.method, request.client) == ("POST", Address("10.0.0.1", 5000))
    assert request.client is not None
    assert (request.client.host, request.client.port) == ("10.0.0.1", 5000)
    assert make(target=b"http://y.example/p").url == "http://y.example/p"
    assert make().url == "http:///predict"  # HTTP/1.0 without a Host field
    assert make(client=None).client is None  # a Unix socket


def awaited(awaitable: Any) -> Any:
    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())


def test_the_content() -> None:
    async def pieces(request: Request) -> list[bytes]:
        return [piece async for piece in request.stream()]

    request = make(b'{"a": 1}')
    assert awaited(request.body()) == b'{"a": 1}'
    assert awaited(request.json()) == {"a": 1}
    assert awaited(pieces(request)) == [b'{"a": 1}', b""]
    assert awaited(pieces(make())) == [b""]
    with pytest.raises(ValueError, match="Expecting value"):
        awaited(make().json())


@pytest.mark.parametrize(
    "content_type", [b"application/x-www-form-urlencoded", b"Application/X-WWW-Form-Urlencoded ; charset=utf-8"]
)
def test_a_form(content_type: bytes) -> None:
    form = awaited(make(b"a=1&a=2&b=%C3%A9", {b"content-type": content_type}).form())
    assert (form["a"], form["b"], form.getlist("a")) == ("2", "\xe9", ["1", "2"])


@pytest.mark.parametrize(
    ("content", "content_type", "why"),
    [
        (b"a=1", b"application/json", "not a form but application/json"),
        (b"a=1", None, "not a form but content without a type"),
        (b"\xff", b"application/x-www-form-urlencoded", "utf-8"),
    ],
)
def test_what_is_no_form_is_a_value_error(content: bytes, content_type: bytes | None, why: str) -> None:
    fields = {} if content_type is None else {b"content-type": content_type}
    with pytest.raises(ValueError, match=why):
        awaited(make(content, fields).form())


def test_state_is_the_model_s_own_and_tells_of_the_disconnect() -> None:
    disconnection = Disconnection()
    request = Request(Head(b"", b"POST", b"/", b"/", {}), b"", None, disconnection)
    request.state.mine = 5
    assert request.state.mine == 5
    assert awaited(request.is_disconnected()) is False
    with request.state.watch_disconnect() as left:
        assert not left.is_set()
        disconnection.happen()
        assert left.is_set()
    assert awaited(request.is_disconnected()) is True
