"""ASGI's scope and receive, as starlette's Request understands them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from fastserve.interface.asgi import make_receive, make_request, make_scope
from fastserve.interface.disconnection import Disconnection
from fastserve.messages import Addresses, Head

ADDRESSES = Addresses(("10.0.0.1", 5000), ("10.0.0.2", 8080))


def scope_of(target: bytes, path: bytes = b"/p", *, is_http10: bool = False, **fields: bytes) -> dict[str, Any]:
    encoded = {name.encode(): value for name, value in fields.items()}
    return make_scope(Head(b"", b"POST", target, path, encoded, is_http10=is_http10), ADDRESSES, {"a": 1})


def test_a_scope_is_what_the_asgi_specification_says() -> None:
    scope = scope_of(b"/a%20b%C3%A9/c?d=%20&e", host=b"x:81", accept=b"y")
    assert scope["type"] == "http"
    assert scope["asgi"]["version"] == "3.0"
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("1.1", "POST", "http")
    assert (scope["path"], scope["raw_path"]) == ("/a b\xe9/c", b"/a%20b%C3%A9/c")
    assert (scope["query_string"], scope["root_path"]) == (b"d=%20&e", "")
    assert scope["headers"] == [(b"host", b"x:81"), (b"accept", b"y")]
    assert (scope["client"], scope["server"]) == (ADDRESSES.client, ADDRESSES.server)
    assert scope["state"] == {"a": 1}
    assert scope_of(b"/", is_http10=True)["http_version"] == "1.0"


def test_the_scheme_of_an_encrypted_connection_is_https() -> None:
    addresses = ADDRESSES._replace(is_encrypted=True)
    assert make_scope(Head(b"", b"GET", b"/", b"/", {}), addresses, {})["scheme"] == "https"


def test_a_target_in_absolute_form_has_a_path_too() -> None:
    scope = scope_of(b"http://x/p?q=1", b"/p")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/p", b"/p", b"q=1")
    assert scope_of(b"http://x?q=1", b"/")["path"] == "/"


def test_the_path_of_an_absolute_form_is_decoded_once_too() -> None:
    scope = scope_of(b"http://x/%2541", b"/%41")
    assert (scope["path"], scope["raw_path"]) == ("/%41", b"/%2541")


def test_starlette_reads_it() -> None:
    scope = scope_of(b"/p?q=1", host=b"x:81", cookie=b"a=1; b=2")
    request = make_request(Request, scope, make_receive(Disconnection()), b"[1]")
    assert str(request.url) == "http://x:81/p?q=1"
    assert request.cookies == {"a": "1", "b": "2"}
    assert request.state.a == 1
    assert request.client is not None
    assert request.client.host == "10.0.0.1"


def test_receive_waits_for_the_disconnect_and_goes_on_telling_of_it() -> None:
    async def play() -> None:
        disconnection = Disconnection()
        receive = make_receive(disconnection)
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not waiting.done()
        disconnection.happen()
        assert await waiting == await receive() == {"type": "http.disconnect"}

    asyncio.run(play())


def test_starlette_asks_without_waiting() -> None:
    async def play() -> None:
        disconnection = Disconnection()
        request = make_request(Request, scope_of(b"/"), make_receive(disconnection), b"[1]")
        for _ in range(3):
            assert await request.is_disconnected() is False
        assert await request.json() == [1]
        disconnection.happen()
        assert await request.is_disconnected() is True
        assert await request.body() == b"[1]"  # it has arrived all the same

    asyncio.run(play())


def test_who_makes_a_request_of_its_own_does_not_find_the_content_again() -> None:
    """As in Truss: the content has been taken, and what is left to receive is the disconnect."""

    async def play() -> None:
        disconnection = Disconnection()
        disconnection.happen()
        request = make_request(Request, scope_of(b"/"), make_receive(disconnection), b"[1]")
        with pytest.raises(ClientDisconnect):
            await Request(request.scope, request.receive).body()

    asyncio.run(play())
