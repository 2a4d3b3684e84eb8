"""Which requests are WebSocket handshakes, and what the others are told."""

from __future__ import annotations

import pytest

from fastserve.config import Config
from fastserve.errors import RequestError
from fastserve.http11.parser import parse_head
from fastserve.websocket.handshake import read_handshake
from tests.support.websockets import handshake


def refused(section: bytes) -> RequestError:
    with pytest.raises(RequestError) as refusal:
        read_handshake(parse_head(section, Config()))
    return refusal.value


@pytest.mark.parametrize(
    "section",
    [
        handshake(),
        handshake(upgrade="WebSocket", connection="Upgrade"),
        handshake(connection="upgrade,keep-alive"),
        handshake(sec_websocket_extensions="permessage-deflate; server_max_window_bits=10, x-unknown; a=1"),
        handshake(x="*" * 9000, expect="100-continue"),
        handshake(sec_websocket_protocol="one, two", origin="https://example.com", content_length="0"),
        handshake().replace(b"GET /v1/websocket", b"GET http://example.com/v1/websocket?a=b"),
    ],
)
def test_a_good_handshake(section: bytes) -> None:
    good = read_handshake(parse_head(section, Config()))
    assert good.protocol.data_to_send() == []
    good.accept(None, ())
    (response,) = good.protocol.data_to_send()
    assert response.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Protocol" not in response


@pytest.mark.parametrize(
    "section",
    [
        b"GET /v1/websocket HTTP/1.1\r\nHost: x\r\n\r\n",
        handshake(upgrade=None),
        handshake(upgrade="h2c"),
        handshake(connection=None),
        handshake(connection="keep-alive"),
        handshake().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_what_asks_for_no_websocket_is_told_to(section: bytes) -> None:
    refusal = refused(section)
    assert refusal.status == 426
    assert dict(refusal.fields) == {"Upgrade": "websocket", "Connection": "Upgrade"}  # RFC 9110 section 15.5.22


@pytest.mark.parametrize("version", [None, "8", "14", "13, 8"])
def test_another_version_is_told_ours(version: str | None) -> None:
    refusal = refused(handshake(sec_websocket_version=version))
    assert refusal.status == 426
    assert dict(refusal.fields)["Sec-WebSocket-Version"] == "13"  # RFC 6455 section 4.2.2


@pytest.mark.parametrize(
    "section, field",
    [
        (handshake(sec_websocket_key=None), "Sec-WebSocket-Key"),
        (handshake(sec_websocket_key=""), "Sec-WebSocket-Key"),
        (handshake(sec_websocket_key="c2hvcnQ="), "Sec-WebSocket-Key"),
        (handshake(sec_websocket_key="not base64 at all!"), "Sec-WebSocket-Key"),
        (handshake(sec_websocket_extensions="="), "Sec-WebSocket-Extensions"),
        (handshake(sec_websocket_extensions="x-" + "*" * 9000), "a field of the handshake"),
    ],
)
def test_a_malformed_handshake_is_a_bad_request_that_names_the_field(section: bytes, field: str) -> None:
    refusal = refused(section)
    assert refusal.status == 400
    assert refusal.message.startswith(field)


def test_a_handshake_with_content_is_refused() -> None:
    assert refused(handshake(content_length="5")).status == 400
    assert refused(handshake(transfer_encoding="chunked")).status == 400
