"""CORS end to end, with keys and TLS beside it: every answer carries the fields, whoever makes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.answers import Answer, read_answers
from tests.support.process import Server, serving, write_model
from tests.support.tls import connect_tls, shared_certificate

MODEL = """
class Model:
    def predict(self, x):
        return 1 / x
    def chat_completions(self, x):
        yield "data: 1\\n\\n"
"""
STUCK = """
import logging, threading
class Model:
    def predict(self, x):
        logging.info("begun")
        threading.Event().wait()
"""
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    flags = ["--cors-origin", ORIGIN, "--access-log", "--max-connections-per-client", "50"]
    flags += ["--max-request-size", "9k"]
    env = {"FASTSERVE_API_KEYS": "key"}
    model = write_model(tmp_path_factory.mktemp("cors"), MODEL)
    with serving(model, *flags, *shared_certificate().flags, env=env) as server:
        yield server


def ask(server: Server, raw: str, method: bytes = b"POST") -> Answer:
    with connect_tls(server, shared_certificate().trusting()) as peer:
        peer.sendall(raw.encode())
        received = b""
        while piece := peer.recv(65536):
            received += piece
    (answer,) = read_answers(received, [method], is_closed=True)
    return answer


def raw_of(path: str, content: str = "2", key: str = "key", more: str = "", method: str = "POST") -> str:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nX-API-Key: {key}\r\nConnection: close\r\n{more}"
        f"Content-Length: {len(content)}\r\n\r\n{content}"
    )


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (raw_of("/predict"), 200),
        (raw_of("/predict", "0"), 500),
        (raw_of("/predict", "x"), 400),
        (raw_of("/predict", key="wrong"), 401),
        (raw_of("/nowhere"), 404),
        (raw_of("/livez"), 405),
        (raw_of("/v1/chat/completions", "{}"), 200),
        (raw_of("/predict", "1" * 10_000), 413),
        (raw_of("/predict", more="Bad Field: 1\r\n"), 400),
        (raw_of("/predict", more="Expect: nothing\r\n"), 417),
    ],
)
def test_every_answer_may_be_read_by_the_page(raw: str, status: int, server: Server) -> None:
    answer = ask(server, raw)
    assert answer.status == status
    assert answer.is_complete
    assert answer.fields["access-control-allow-origin"] == ORIGIN
    assert answer.fields["vary"] == "Origin"


def test_where_the_time_went_and_the_id_are_there_for_the_page_too(server: Server) -> None:
    fields = ask(server, raw_of("/predict", more="X-Server-Timing: 1\r\nX-Request-ID: mine\r\n")).fields
    assert fields["server-timing"].startswith("queue;dur=")
    assert fields["timing-allow-origin"] == ORIGIN
    assert fields["x-request-id"] == "mine"
    assert fields["access-control-expose-headers"] == "*"


def test_answers_are_counted_as_without_it(server: Server) -> None:
    more = "Access-Control-Request-Method: POST\r\n"

    def counted() -> dict[str, int]:
        page = ask(server, raw_of("/metrics", "", method="GET"), b"GET").content.decode()
        found = re.findall(r'^fastserve_requests_total{endpoint="(predict|none)",code="(\d+)"} (\d+)$', page, re.M)
        return {f"{endpoint} {code}": int(count) for endpoint, code, count in found}

    before = counted()
    ask(server, raw_of("/predict"))
    ask(server, raw_of("/predict", key="wrong"))
    ask(server, raw_of("/predict", "", more=more, method="OPTIONS"), b"OPTIONS")
    after = counted()
    rise = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name)}
    assert rise == {"predict 200": 1, "none 401": 1, "none 204": 1}


def test_content_for_which_there_is_no_room_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    flags = ["--cors-origin", ORIGIN, "--max-queue-bytes", "1"]
    content = b'"' + b"x" * 300_000 + b'"'
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nContent-Length: {len(content)}\r\n"
    with serving(write_model(tmp_path, STUCK), *flags) as server, server.connect() as holding:
        holding.sendall(head.encode() + b"\r\n" + content)
        server.wait_for_log("begun")
        with server.connect() as peer:
            peer.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
            received = peer.recv(65536)
        assert received.startswith(b"HTTP/1.1 429 ")
        assert f"Access-Control-Allow-Origin: {ORIGIN}".encode() in received


def test_a_preflight_takes_no_key(server: Server) -> None:
    more = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n"
    raw = raw_of("/predict", "", key="wrong", more=more, method="OPTIONS")
    answer = ask(server, raw, b"OPTIONS")
    assert answer.status == 204
    assert answer.fields["access-control-allow-headers"] == "authorization"
    assert answer.fields["access-control-allow-origin"] == ORIGIN


def test_without_the_option_no_answer_speaks_of_it(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, MODEL)) as server, server.connect() as peer:
        peer.sendall(raw_of("/predict").encode())
        received = peer.recv(65536)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert not re.search(b"(?i)access-control|vary", received)
