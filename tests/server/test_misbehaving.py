"""User code that does wrong with its answer: a clear 500 or a visible abort, and the next exchange is untouched.

Behind each request a second one is pipelined (`making.exchange`); h11 reads every byte that comes back.
"""

from __future__ import annotations

import json
import re
import runpy
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest

from tests.support.answers import read_answers
from tests.support.footprint import footprint_of, reset_peak
from tests.support.making import CHAT, FAILED, MODELS, PREDICT, exchange, make
from tests.support.process import Server, serving

MODEL: Final = MODELS / "misbehaving"
DEEDS: Final = runpy.run_path(str(MODEL / "model" / "model.py"))
MIB: Final = 1 << 20

SYNC_AND_ASYNC = pytest.mark.parametrize("path", [PREDICT, CHAT])
# Sync and async generators: returned by the method, in a response of ours, in one of starlette's.
KINDS = pytest.mark.parametrize("kind", DEEDS["KINDS"])


@pytest.fixture(scope="module")
def process() -> Iterator[Server]:
    with serving(MODEL) as server:
        yield server


@pytest.fixture
def served(process: Server) -> Iterator[Server]:
    yield process
    check(process)


def check(server: Server) -> None:
    """Whatever user code did, nothing of ours has failed. (A pipe that nobody reads would stop the server.)"""
    log, server.log = server.read_log(), ""
    assert "bug of fastserve" not in log
    assert "Exception in callback" not in log


# --- values ---


@SYNC_AND_ASYNC
@pytest.mark.parametrize("deed", DEEDS["VALUES"])
def test_a_value_without_a_json_form_is_500_and_says_why(served: Server, path: str, deed: str) -> None:
    answer = make(served, {"deed": deed}, path)
    assert answer.status == 500
    assert re.match(r"Unhandled exception: \w+Error: .", json.loads(answer.content)["error"])


@pytest.mark.parametrize("deed", DEEDS["ODD_VALUES"])
def test_an_odd_value_is_json_all_the_same(served: Server, deed: str) -> None:
    answer = make(served, {"deed": deed})
    assert answer.status == 200
    assert re.search(rb"NaN|Infinity", answer.content) is None
    json.loads(answer.content)


@pytest.fixture(scope="module")
def by_the_standard_library() -> Iterator[Server]:
    with serving(MODEL, "--json", "python") as server:
        yield server


@pytest.mark.parametrize("deed", DEEDS["VALUES"] | DEEDS["ODD_VALUES"])
def test_with_the_standard_library_too_every_value_is_json_or_500(by_the_standard_library: Server, deed: str) -> None:
    answer = make(by_the_standard_library, {"deed": deed})
    assert answer.status == (500 if deed in DEEDS["VALUES"] or deed == "dict that lies" else 200)
    json.loads(answer.content)
    check(by_the_standard_library)


@pytest.mark.parametrize("deed", DEEDS["VALUES"] | DEEDS["ODD_VALUES"])
def test_in_msgpack_too_every_value_has_its_form_or_is_500(served: Server, deed: str) -> None:
    fields = {"Content-Type": "application/octet-stream"}
    status, content = served.request("POST", PREDICT, msgpack.packb({"deed": deed}), fields)
    if status == 200:
        msgpack.unpackb(content, strict_map_key=False, use_list=False)
    else:
        assert status == 500
        assert json.loads(content)["error"].startswith("Unhandled exception: ")


# --- responses ---


@SYNC_AND_ASYNC
@pytest.mark.parametrize("deed", DEEDS["RESPONSES"])
def test_a_response_that_is_none_is_500(served: Server, path: str, deed: str, tmp_path: Path) -> None:
    answer = make(served, {"deed": deed, "file": str(tmp_path / "file")}, path)
    assert answer.status == 500
    error = json.loads(answer.content)
    assert error == FAILED or error["error"].startswith("Unhandled exception: ")


@SYNC_AND_ASYNC
@pytest.mark.parametrize("deed", DEEDS["CUT"])
def test_one_that_goes_wrong_behind_its_head_is_cut_and_nothing_follows_it(
    served: Server, path: str, deed: str, tmp_path: Path
) -> None:
    answers, received = exchange(served, {"deed": deed, "file": str(tmp_path / "file")}, path)
    assert [(answer.status, answer.is_complete) for answer in answers] == [(200, False)]
    assert received.count(b"HTTP/1.1 ") == 1


@SYNC_AND_ASYNC
@pytest.mark.parametrize("deed", DEEDS["ODD"])
def test_an_odd_response_is_framed_as_what_it_is(served: Server, path: str, deed: str) -> None:
    answer = make(served, {"deed": deed}, path)
    assert answer.status in (200, 204, 304)
    assert answer.content == DEEDS["ODD"][deed][1]
    assert not {"connection", "trailer", "upgrade", "keep-alive"} & answer.fields.keys()


# --- generators ---


def yields(kind: str, *items: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "items": items, **more}


ERRORS = pytest.mark.parametrize("error", DEEDS["ERRORS"])


@SYNC_AND_ASYNC
@KINDS
@ERRORS
def test_what_is_raised_before_the_first_piece_is_an_answer(served: Server, path: str, kind: str, error: str) -> None:
    answer = make(served, yields(kind, f"raise {error}"), path)
    chosen = (418, {"error": "I'm a Teapot"})
    assert (answer.status, json.loads(answer.content)) == (chosen if error == "http" else (500, FAILED))


@SYNC_AND_ASYNC
@KINDS
@ERRORS
def test_what_is_raised_behind_the_first_piece_cuts(served: Server, path: str, kind: str, error: str) -> None:
    answers, _ = exchange(served, yields(kind, "abc", f"raise {error}"), path)
    assert [(answer.status, answer.is_complete) for answer in answers] == [(200, False)]
    assert answers[0].content.startswith(b"abc")
    assert b"planned" not in answers[0].content


@SYNC_AND_ASYNC
@KINDS
@pytest.mark.parametrize("error", ["raise value", "raise exit"])
def test_what_is_raised_behind_the_last_piece_cuts_too(served: Server, path: str, kind: str, error: str) -> None:
    answers, _ = exchange(served, yields(kind, "abc", **{"finally": error}), path)
    assert [(answer.status, answer.is_complete) for answer in answers] == [(200, False)]


@KINDS
@pytest.mark.parametrize("what", ["None", "int", "dict", "list", "surrogate"])
def test_what_is_no_piece_is_500_or_cuts(served: Server, kind: str, what: str) -> None:
    assert make(served, yields(kind, what)).status == 500
    answers, _ = exchange(served, yields(kind, "abc", what))
    assert [(answer.content, answer.is_complete) for answer in answers] == [(b"abc", False)]


@KINDS
def test_pieces_of_every_kind_of_bytes_are_framed_by_what_they_hold(served: Server, kind: str) -> None:
    items = ["view", "", "bytearray", "lying", "", "line", "chunk", ""]
    if kind.startswith("starlette"):
        items.remove("bytearray")  # which starlette encodes as if it were text
    answer = make(served, yields(kind, *items))
    pieces = [DEEDS["item"](item) for item in items]
    expected = b"".join(piece.encode() if isinstance(piece, str) else memoryview(piece).tobytes() for piece in pieces)
    assert (answer.status, answer.content) == (200, expected)


@KINDS
def test_pieces_that_look_like_responses_stay_content_for_http_10(served: Server, kind: str) -> None:
    answers, received = exchange(served, yields(kind, "line", "chunk"), version="1.0")
    assert [answer.status for answer in answers] == [200]
    assert answers[0].content.count(b"stolen") == 2
    assert received.endswith(answers[0].content)


def memory_of(server: Server) -> int:
    """The most memory that the server's process has had since it was last asked, in bytes."""
    peak_kb = footprint_of(server.process.pid).peak_kb
    reset_peak(server.process.pid)
    return peak_kb * 1024


@KINDS
def test_a_quarter_of_a_gigabyte_goes_through_little_memory(served: Server, kind: str) -> None:
    pieces = 256
    make(served, yields(kind, "abc"))
    memory_of(served)
    before = memory_of(served)
    content = json.dumps(yields(kind, last="mebibyte", repeated=pieces)).encode()
    received = 0
    with served.connect() as peer:
        peer.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
            PREDICT.encode(), len(content), content))  # fmt: skip
        end = b""
        while piece := peer.recv(MIB):
            received += len(piece)
            end = (end + piece[-7:])[-7:]
    assert received > pieces * MIB
    assert end == b"\r\n0\r\n\r\n"
    assert memory_of(served) - before < 100 * MIB  # the buffer of a stream, and what the kernel has not taken


@KINDS
@SYNC_AND_ASYNC
def test_empty_pieces_without_end_hold_no_one_up_and_end_with_their_reader(
    served: Server, path: str, kind: str
) -> None:
    served.log = ""
    content = json.dumps(yields(kind, "abc", forever=True)).encode()
    with served.connect() as peer:
        peer.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
            path.encode(), len(content), content))  # fmt: skip
        received = b""
        while b"abc" not in received:
            received += peer.recv(65536)
        assert received.count(b"0\r\n\r\n") == 0
        assert served.request("GET", "/livez")[0] == 200
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
    served.wait_for_log("over")
    assert read_answers(received, [b"POST"])[0].content == b"abc"
    assert make(served, {"deed": "own empty pieces"}, path).content == b"abc"
