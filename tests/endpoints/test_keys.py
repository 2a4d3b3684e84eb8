"""API keys: what a file and a variable may hold, who is let in, and that no key is ever shown."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve.endpoints.keys import KEY_FIELDS, ApiKeys, Guard, read_key_file, split_keys
from fastserve.errors import SetupError
from fastserve.http11.reader import FORM_TRIES
from fastserve.messages import Head, Request, Response, Route
from fastserve.metrics import Metrics
from tests.support.fakes import Peer
from tests.support.responder import RecordingResponder
from tests.support.watched import WatchedFields

OPEN, CLOSED = (Route(lambda request: None, is_open=is_open) for is_open in (True, False))


def find(head: Head) -> Route:
    return OPEN if head.path == b"/livez" else CLOSED


def head_of(path: bytes = b"/predict", **fields: bytes) -> Head:
    encoded = {name.encode().replace(b"_", b"-"): value for name, value in fields.items()}
    return Head(b"", b"POST", path, path, encoded)


# --- where keys come from ---


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("one\ntwo\n", ["one", "two"]),
        ("# whose\none  # alice's, gr\u00fc\u00dfe\n\n  two\t# bob's\n#three\n", ["one", "two"]),
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("\ufeffone", ["one"]),
        ("a#b\n!~,;=\n", ["a#b", "!~,;="]),
    ],
)
def test_a_file_holds_one_key_a_line_and_comments(text: str, keys: list[str], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(text.encode())
    assert read_key_file(str(file)) == keys


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no API key"),
        (b"\n # nothing\n", "holds no API key"),
        (b"good\nsecret word\n", "line 2: an API key has visible ASCII characters alone"),
        ("secret\u00fc".encode(), "line 1: an API key has visible ASCII characters alone"),
        (b"secret\0", "line 1: an API key has visible"),
        (b"secret\xff", "is not a text in UTF-8"),
    ],
)
def test_a_bad_file_is_refused_without_showing_what_stands_in_it(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(SetupError, match=re.escape(str(file))) as refused:
        read_key_file(str(file))
    assert words in str(refused.value)
    assert "secret" not in str(refused.value).replace(str(file), "")
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot read --api-key-file .*: No such file"):
        read_key_file(str(tmp_path / "none"))
    with pytest.raises(SetupError, match=r"cannot read --api-key-file .*: Is a directory"):
        read_key_file(str(tmp_path))


def test_a_variable_holds_keys_with_commas_between() -> None:
    assert split_keys("one, two,,three,") == ["one", "two", "three"]
    for said, words in ((",", "holds no API key"), ("good,secret word", "number 2: an API key has visible")):
        with pytest.raises(SetupError, match=f"FASTSERVE_API_KEYS.* {words}") as refused:
            split_keys(said)
        assert "secret" not in str(refused.value)


# --- who is let in ---


@pytest.mark.parametrize(
    ("fields", "is_in"),
    [
        ({b"x-api-key": b"file-key"}, True),
        ({b"x-api-key": b"said-key"}, True),
        ({b"authorization": b"Bearer file-key"}, True),
        ({b"authorization": b"bearer  said-key"}, True),
        ({b"authorization": b"Bearer wrong", b"x-api-key": b"file-key"}, True),
        ({b"authorization": b"Bearer file-key", b"x-api-key": b"wrong"}, True),
        ({}, False),
        ({b"x-api-key": b""}, False),
        ({b"x-api-key": b"file-ke"}, False),
        ({b"x-api-key": b"file-key1"}, False),
        ({b"x-api-key": b"FILE-KEY"}, False),
        ({b"x-api-key": b"file-key, said-key"}, False),  # two fields, which nobody sends in good faith
        ({b"x-api-key": b"Bearer file-key"}, False),
        ({b"x-api-key": b"\xff\0" * 5000}, False),
        ({b"authorization": b"file-key"}, False),
        ({b"authorization": b"Basic file-key"}, False),
        ({b"authorization": b"Bearer"}, False),
        ({b"authorization": b"Bearerfile-key"}, False),
        ({b"authorization": b"Bearer file-key said-key"}, False),
        ({b"proxy-authorization": b"Bearer file-key", b"cookie": b"file-key"}, False),
    ],
)
def test_a_key_comes_in_one_of_two_fields(fields: dict[bytes, bytes], is_in: bool, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("file-key\n")
    assert ApiKeys(str(file), "said-key").admit(fields) is is_in


@pytest.mark.parametrize("given", [b"k0", b"k4", b"none"])
def test_every_key_is_compared_whichever_is_given(given: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ApiKeys("", "k0,k1,k2,k3,k4")
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    assert keys.admit({b"x-api-key": given}) is (given != b"none")
    assert compared == [(32, 32)] * 5  # of equal length, whatever the keys' is


def test_no_key_is_kept() -> None:
    keys = ApiKeys("", "the-secret-key")
    assert "secret" not in repr(keys) + repr([getattr(keys, name) for name in ApiKeys.__slots__])


def test_a_guard_looks_at_two_fields_alone() -> None:
    fields = WatchedFields({})
    Guard(ApiKeys("", "key"), find).route(Head(b"", b"POST", b"/", b"/", fields))
    assert fields.asked & {b"x-api-key", b"authorization"} == KEY_FIELDS
    assert fields.asked - KEY_FIELDS <= {b"x-request-id"}  # a Head's own


def test_a_guard_lets_those_in_who_have_a_key_and_others_to_what_is_open() -> None:
    metrics = Metrics()
    guard = Guard(ApiKeys("", "key"), find, metrics)
    assert metrics.rejected == {"unauthorized": 0}
    assert guard.route(head_of(x_api_key=b"key")) is CLOSED
    assert guard.route(head_of(b"/livez")) is OPEN
    refused = guard.route(head_of(x_api_key=b"no"))
    assert refused.is_refusal
    responder = RecordingResponder()
    refused.answer(Request(head_of(), b"", responder))
    assert responder.response is not None
    assert responder.response.kind[0] == 401
    assert b'WWW-Authenticate: Bearer realm="fastserve"\r\n' in responder.response.fields
    assert refused.endpoint is metrics.endpoint("none")
    assert metrics.rejected == {"unauthorized": 1}


# --- read anew ---


def test_keys_are_read_anew_and_stay_if_the_file_is_bad(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    keys = ApiKeys(str(file), "said")

    def admitted() -> list[str]:
        return [key for key in ("old", "new", "said") if keys.admit({b"x-api-key": key.encode()})]

    assert admitted() == ["old", "said"]
    file.write_text("new\nsecret word\n")
    with caplog.at_level(logging.INFO, "fastserve"):
        assert not keys.reload()
        assert admitted() == ["old", "said"]
        file.unlink()
        assert not keys.reload()
        file.write_text("new\n")
        assert keys.reload()
        keys.log_reload()
    assert admitted() == ["new", "said"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "INFO"]
    assert "secret" not in caplog.text


# --- what a connection remembers ---


def guarded_peer(keys: ApiKeys | None = None) -> Peer:
    peer = Peer()
    answer = Route(lambda request: request.connection.send_response(request, Response((200, b""), b"in")))
    peer.listener.route = Guard(keys or ApiKeys("", "key,other"), lambda head: answer).route
    peer.listener.meaningful |= KEY_FIELDS
    return peer


def raw(key: bytes, trace: int = 0, name: bytes = b"X-API-Key") -> bytes:
    fields = b"Host: x\r\nTrace: %d\r\n%b: %b\r\nContent-Length: 0\r\n" % (trace, name, key)
    return b"POST /predict HTTP/1.1\r\n" + fields + b"\r\n"


def asking(peer: Peer) -> Callable[[bytes], bytes]:
    def ask(sent: bytes) -> bytes:
        before = len(peer.transport.sent)
        return peer.send(sent)[before:][9:12]

    return ask


@pytest.mark.parametrize("name", [b"X-API-Key", b"x-api-key", b"Authorization"])
def test_no_head_inherits_the_route_of_one_with_a_key(name: bytes) -> None:
    """A proxy shares its connections among clients, and a form fills a head in with the route of the one before."""
    prefix = b"Bearer " if name == b"Authorization" else b""
    ask = asking(guarded_peer())
    for number in range(4 * FORM_TRIES):  # the connection learns what varies
        assert ask(raw(prefix + (b"key", b"other")[number % 2], number, name)) == b"200"
    for number in range(4 * FORM_TRIES):
        assert ask(raw(prefix + b"wrong", number, name)) == b"401"
        assert ask(raw(prefix, number, name)) == b"401"
        assert ask(raw(prefix + b"kez", number, name)) == b"401"
        assert ask(raw(prefix + b"key", number, name)) == b"200"
        assert ask(raw(prefix + b"key", number, b"X-Other-Key")) == b"401"


def test_the_same_head_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = guarded_peer()
    ask = asking(peer)
    routed: list[Head] = []
    route = peer.listener.route

    def counting(head: Head) -> Route:
        routed.append(head)
        return route(head)

    peer.listener.route = counting
    assert [ask(raw(b"key")) for _ in range(10)] == [b"200"] * 10
    assert len(routed) == 1


def test_a_key_that_is_taken_no_more_lets_nobody_in_on_a_connection_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("key\n")
    keys = ApiKeys(str(file), "")
    peer = guarded_peer(keys)
    ask = asking(peer)
    assert ask(raw(b"key")) == b"200"
    file.write_text("other\n")
    assert keys.reload()
    peer.listener.reroute()
    assert ask(raw(b"key")) == b"401"
    assert ask(raw(b"other")) == b"200"


def test_content_that_is_refused_is_not_waited_for() -> None:
    peer = guarded_peer()
    sent = peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
    assert sent.startswith(b"HTTP/1.1 401 ")
    peer = guarded_peer()
    assert peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n").startswith(b"HTTP/1.1 401 ")
    assert peer.is_closed
