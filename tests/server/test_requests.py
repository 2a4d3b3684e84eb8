"""What a model's methods learn of their request, over real sockets: starlette's Request and ours, in every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.support.process import Server, serving, write_model

MODELS = Path(__file__).parent.parent / "models"
PREDICT = "/v1/models/model:predict"
# The request-only methods of tests/models/request_facts.
STARLETTE_ASYNC, STARLETTE_SYNC, OURS = PREDICT, "/v1/chat/completions", "/v1/completions"
EVERY = [STARLETTE_ASYNC, STARLETTE_SYNC, OURS]


@pytest.fixture(scope="module")
def facts() -> Iterator[Server]:
    with serving(MODELS / "request_facts") as server:
        yield server


def ask(server: Server, path: str, what: str, content: bytes, **headers: str) -> Any:
    status, answer = server.request("POST", path, content, {"x-do": what, **headers})
    assert status == 200, answer
    return json.loads(answer)


@pytest.mark.parametrize("path", EVERY)
def test_method_url_headers_query_and_client(facts: Server, path: str) -> None:
    headers = {"Accept": "text/plain", "Host": "models.example:81", "X-Name": "f\xfcnf"}
    answer = ask(facts, f"{path}?a=1&b=%20x&a=2&c", "look", b"", **headers)
    assert answer["type"] == ("fastserve" if path == OURS else "starlette")
    assert answer["method"] == "POST"
    assert answer["url"] == f"http://models.example:81{path}?a=1&b=%20x&a=2&c"
    assert answer["accept"] == answer["headers"]["accept"] == "text/plain"
    assert answer["headers"]["x-name"] == "f\xfcnf"
    assert answer["query"] == {"a": "2", "b": " x", "c": ""}
    assert answer["all_of_a"] == ["1", "2"]
    host, port = answer["client"]
    assert host == "127.0.0.1"
    assert port != facts.port


@pytest.mark.parametrize("path", EVERY)
def test_the_content_can_be_read_in_every_way_and_again(facts: Server, path: str) -> None:
    content = b'{"a": [1, 2]}'
    assert ask(facts, path, "json", content) == {"a": [1, 2]}
    assert ask(facts, path, "stream", content) == [content.decode(), ""]
    assert ask(facts, path, "twice", content) == [content.decode(), {"a": [1, 2]}, [content.decode(), ""]]
    assert ask(facts, path, "size", b"") == ["bytes", 0, True]


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize("size", [1, 65536, 1_000_000, 20_000_000])
def test_content_of_any_size_and_kind_is_there_as_it_came(facts: Server, path: str, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    assert ask(facts, path, "size", content[:size]) == ["bytes", size, True]


@pytest.mark.parametrize("path", EVERY)
def test_a_form_is_read(facts: Server, path: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    form = "name=Z%C3%BCrich+HB&empty=&n=1"
    assert ask(facts, path, "form", form.encode(), **headers) == {"name": "Zürich HB", "empty": "", "n": "1"}


MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nhello\r\n'
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    + b"\x89PNG" * 300_000
    + b"\r\n--x--\r\n"
)


@pytest.mark.parametrize("path", [STARLETTE_ASYNC, STARLETTE_SYNC])
def test_a_file_is_uploaded_as_multipart(facts: Server, path: str) -> None:
    answer = ask(facts, path, "form", MULTIPART, **{"Content-Type": "multipart/form-data; boundary=x"})
    assert answer == {"prompt": "hello", "image": ["a.png", "image/png", 1_200_000]}


def test_our_own_request_says_that_it_does_not_read_multipart(facts: Server) -> None:
    headers = {"x-do": "form", "Content-Type": "multipart/form-data; boundary=x"}
    facts.log = ""
    assert facts.request("POST", OURS, MULTIPART, headers)[0] == 500
    facts.wait_for_log("ValueError: not a form but multipart/form-data")


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize(
    "content_type", ["application/json", "application/octet-stream", "image/png", "text/plain; charset=latin-1", None]
)
def test_a_method_that_takes_only_the_request_gets_any_content(
    facts: Server, path: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    for content in (b"", b"{not JSON", b"\xff\x00"):
        status, answer = facts.request("POST", path, content, {"x-do": "size", **headers})
        assert status == 200
        # Whoever says octet-stream is answered so, as by Truss.
        read = msgpack.unpackb if content_type == "application/octet-stream" else json.loads
        assert read(answer) == ["bytes", len(content), True]


def test_bad_json_is_refused_where_the_inputs_are_taken_too(facts: Server) -> None:
    for path in ("/v1/embeddings", "/v1/messages", "/v1/responses"):
        assert facts.request("POST", path, b"{not JSON")[0] == 400


@pytest.mark.parametrize("path", EVERY)
def test_a_client_that_waits_is_not_disconnected(facts: Server, path: str) -> None:
    assert ask(facts, path, "disconnected", b"") is False


def test_inputs_and_request_come_together(facts: Server) -> None:
    answer = ask(facts, "/v1/embeddings?a=5", "", b'{"input": "x"}', **{"Content-Type": "application/json"})
    assert answer["inputs"] == {"input": "x"}
    assert answer["query"] == {"a": "5"}
    status, content = facts.request("POST", "/v1/messages", b"[7]")
    assert (status, content) == (200, b"[7][7]")
    status, content = facts.request("POST", "/v1/responses", b"[7]")
    assert status == 200
    assert content.startswith(b"http[")
    for key in ("client", "headers", "http_version", "path", "query_string", "scheme", "server"):
        assert f"'{key}'".encode() in content


def test_all_steps_share_one_request(tmp_path: Path) -> None:
    with serving(MODELS / "request_chain") as server:
        content = b'{"a": 1}'
        status, answer = server.request("POST", PREDICT, content, {"x-name": "me"})
        assert status == 200
        seen = ["preprocess", "predict"]
        assert json.loads(answer) == {"a": 1, "size": 8, "same": True, "seen": seen, "asked_by": "me"}


OURS_IN_ALL_STEPS = """
import fastserve

class Model:
    def preprocess(self, request: fastserve.Request):
        request.state.seen = [request.method]
        return 1
    async def predict(self, inputs, request: fastserve.Request):
        request.state.seen.append(inputs)
        return await request.json()
    def postprocess(self, result, request: fastserve.Request):
        return [result, request.state.seen]
"""


def test_our_own_request_is_shared_too_and_a_first_step_may_do_without_the_inputs(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, OURS_IN_ALL_STEPS)) as server:
        assert server.predict({"a": 1}) == [{"a": 1}, ["POST", 1]]


LEAKING = """
import contextvars
import starlette.responses
seen = contextvars.ContextVar("seen", default="nothing")

class Model:
    async def predict(self, inputs):
        found = seen.get()
        seen.set(inputs)
        return found
    async def chat_completions(self, inputs):
        return starlette.responses.JSONResponse(await self.predict(inputs), background=self.background)
    async def background(self):
        pass
"""


def test_what_a_coroutine_sets_in_its_context_is_not_seen_by_the_request_pipelined_behind(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, LEAKING)) as server, server.connect() as peer:
        for path in (PREDICT, "/v1/chat/completions"):
            post = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n" % path.encode()
            peer.sendall(post + b"1" + post + b"2" + post + b"3")
            received = b""
            while received.count(b'"nothing"') < 3:
                piece = peer.recv(65536)
                assert piece
                received += piece
                assert not received.endswith((b"\r\n1", b"\r\n2"))
