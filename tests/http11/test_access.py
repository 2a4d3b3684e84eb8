"""Access lines: one for each answer, none for probes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from fastserve.config import Config
from fastserve.http11.access import LoggedConnection
from tests.support.fakes import Peer


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    logger, handler = logging.getLogger("fastserve.access"), Lines()
    handlers, level = logger.handlers[:], logger.level
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.handlers[:] = handlers
    logger.setLevel(level)


def logged_peer(*, answers_at_once: bool = True) -> Peer:
    config = Config(access_log=True)
    quiet, refused = (b"/livez",), (b"/refused",)
    return Peer(config, connection=LoggedConnection, refused=refused, quiet=quiet, answers_at_once=answers_at_once)


def test_each_answer_has_its_line_with_target_version_and_status(lines: list[str]) -> None:
    peer = logged_peer()
    peer.send(b"POST /v1/models/m:predict?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" * 2)
    peer.send(b"GET /refused HTTP/1.0\r\n\r\n")
    assert lines == [
        "Handled request: POST /v1/models/m:predict?a=b HTTP/1.1 200",
        "Handled request: POST /v1/models/m:predict?a=b HTTP/1.1 200",
        "Handled request: GET /refused HTTP/1.0 404",
    ]


def test_json_that_takes_the_long_way_has_one_line(lines: list[str]) -> None:
    peer = logged_peer(answers_at_once=False)
    peer.send(b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    (request,) = peer.requests
    request.connection.send_json(request, b"1")
    request.connection.send_json(request, b"1")  # answered already
    assert lines == ["Handled request: POST /predict HTTP/1.1 200"]


def test_a_connection_that_becomes_another_protocol_s_has_one_too(lines: list[str]) -> None:
    peer = logged_peer(answers_at_once=False)
    peer.send(b"GET /v1/websocket HTTP/1.1\r\nHost: x\r\n\r\n")
    (request,) = peer.requests
    request.connection.upgrade(request, lambda listener: asyncio.Protocol())
    assert lines == ["Handled request: GET /v1/websocket HTTP/1.1 101"]


def test_what_is_quiet_has_none(lines: list[str]) -> None:
    peer = logged_peer()
    peer.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert lines == []
    peer.send(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert len(lines) == 1


def test_an_answer_whose_peer_has_gone_has_none(lines: list[str]) -> None:
    peer = logged_peer(answers_at_once=False)
    peer.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    peer.leave()
    peer.answer(peer.requests[0])
    assert lines == []
