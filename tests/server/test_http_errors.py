"""HTTP errors that a model raises: status, detail and fields are the answer, wherever it raises them.

And responses between the steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.answers import Answer
from tests.support.making import FAILED, MODELS, PREDICT, error_fields, exchange, make
from tests.support.process import Server, serving, write_model

CHAT, COMPLETIONS, MESSAGES, RESPONSES = (
    f"/v1/{name}" for name in ("chat/completions", "completions", "messages", "responses")
)


@pytest.fixture(scope="module")
def errors() -> Iterator[Server]:
    with serving(MODELS / "http_errors") as server:
        yield server


def raised(name: str, where: str = "predict", **arguments: Any) -> dict[str, Any]:
    return {"class": name, "where": where, "arguments": arguments}


def error_of(answer: Answer) -> Any:
    """The detail."""
    assert answer.fields["content-type"] == "application/json"
    content = json.loads(answer.content)
    assert content.keys() == {"error"}
    return content["error"]


EVERYWHERE = [
    (PREDICT, "preprocess"),
    (PREDICT, "predict"),
    (PREDICT, "postprocess"),
    (PREDICT, "first of chunks"),
    (CHAT, "sync"),
    (COMPLETIONS, "coroutine"),
    (MESSAGES, "first of generator"),
    (RESPONSES, "first of async generator"),
]


@pytest.mark.parametrize("name", ["fastapi", "starlette", "fastserve"])
@pytest.mark.parametrize(("path", "where"), EVERYWHERE)
def test_an_http_error_is_the_answer_wherever_it_is_raised(errors: Server, name: str, path: str, where: str) -> None:
    errors.log = ""
    payload = raised(
        name, where, status_code=418, detail="short and stout", headers={"X-Pot": "tea", "Retry-After": "5"}
    )
    answer = make(errors, payload, path)
    assert (answer.status, error_of(answer)) == (418, "short and stout")
    assert error_fields(answer) == ["04", "600"]  # the model's, not the client's
    assert (answer.fields["x-pot"], answer.fields["retry-after"]) == ("tea", "5")
    errors.wait_for_log("Model raised HTTPException.*short and stout")


@pytest.mark.parametrize(
    ("path", "where"),
    [(PREDICT, "later of chunks"), (MESSAGES, "later of generator"), (RESPONSES, "later of async generator")],
)
def test_one_that_comes_behind_the_head_cuts_the_stream(errors: Server, path: str, where: str) -> None:
    errors.log = ""
    answers, _ = exchange(errors, raised("fastapi", where, status_code=418, detail="late"), path)
    assert [(answer.status, answer.is_complete) for answer in answers] == [(200, False)]
    assert answers[0].content.startswith(b"chunk")
    assert b"late" not in answers[0].content
    errors.wait_for_log("Exception while generating streamed response")


def test_a_subclass_decides_as_well(errors: Server) -> None:
    answer = make(errors, raised("own"))
    assert (answer.status, error_of(answer), answer.fields["x-own"]) == (409, {"reason": "own"}, "yes")


@pytest.mark.parametrize("name", ["fastapi", "fastserve"])
@pytest.mark.parametrize("detail", ["text", {"a": [1, None]}, ["a"], 5, 0, False, "", "\xe9\u20ac"])
def test_a_detail_may_be_anything_that_json_holds(errors: Server, name: str, detail: object) -> None:
    answer = make(errors, raised(name, status_code=400, detail=detail))
    assert (answer.status, error_of(answer)) == (400, detail)


@pytest.mark.parametrize("name", ["fastapi", "starlette", "fastserve"])
def test_without_a_detail_it_is_the_status_s_phrase(errors: Server, name: str) -> None:
    assert error_of(make(errors, raised(name, status_code=404))) == "Not Found"


@pytest.mark.parametrize("status", [419, 499, 599])
def test_a_status_without_a_phrase_can_be_raised_too(errors: Server, status: int) -> None:
    answer = make(errors, raised("fastserve", status_code=status))
    assert (answer.status, error_of(answer)) == (status, f"Error {status}")
    assert make(errors, raised("fastapi", status_code=status, detail="x")).status == status


def test_a_status_without_content_has_none(errors: Server) -> None:
    for status in (204, 304):
        answer = make(errors, raised("fastapi", status_code=status))
        assert (answer.status, answer.content) == (status, b"")


@pytest.mark.parametrize("name", ["fastapi", "starlette", "fastserve"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"status_code": 99},
        {"status_code": 600},
        {"status_code": "x"},
        {"headers": {"X-Name": "a\r\nX-Evil: 1"}},
        {"headers": {"X\r\n": "a"}},
        {"headers": {"X-Name": "\u20ac"}},
        {"headers": {"Content-Length": "x"}},
    ],
)
def test_one_that_would_not_be_http_is_500(errors: Server, name: str, wrong: dict[str, Any]) -> None:
    answer = make(errors, raised(name, **{"status_code": 400, "detail": "x", **wrong}))
    assert answer.status == 500
    assert "x-evil" not in answer.fields


@pytest.mark.parametrize("headers", [["not pairs"], "text", 5, [["a", "b"]], {"X-Name": 5}])
def test_one_with_headers_of_another_type_is_still_an_answer(errors: Server, headers: object) -> None:
    answer = make(errors, {**raised("fastapi", status_code=400, detail="x"), "headers": headers})
    assert answer.status == (400 if isinstance(headers, dict) else 500)


def test_it_does_not_decide_how_it_is_framed(errors: Server) -> None:
    headers = {"Content-Length": "1", "Transfer-Encoding": "chunked", "Connection": "close", "Content-Type": "a/b"}
    answer = make(errors, raised("fastapi", status_code=400, detail="x", headers=headers))
    assert (answer.status, error_of(answer)) == (400, "x")
    assert "connection" not in answer.fields


def test_its_headers_are_lost_as_by_truss_if_asked() -> None:
    with serving(MODELS / "http_errors", "--truss-quirks", "lost-headers") as server:
        answer = make(server, raised("fastapi", status_code=401, headers={"X-Pot": "tea"}))
        assert answer.status == 401
        assert "x-pot" not in answer.fields


# --- responses between steps ---

BETWEEN = """
import logging
from starlette.responses import JSONResponse, StreamingResponse
import fastserve

MADE = {
    "json": lambda: JSONResponse({"made": 1}, 201),
    "stream": lambda: StreamingResponse(iter(["made"]), 201),
    "ours": lambda: fastserve.Response({"made": 1}, 201),
    "our stream": lambda: fastserve.StreamingResponse(iter(["made"]), 201),
}

class Model:
    def preprocess(self, inputs):
        return MADE[inputs["what"]]() if inputs["where"] == "preprocess" else inputs
    def predict(self, inputs):
        if not isinstance(inputs, dict):
            return inputs.status_code
        return MADE[inputs["what"]]() if inputs["where"] == "predict" else inputs
    def postprocess(self, result):
        logging.warning("postprocess")
        return MADE[result["what"]]() if isinstance(result, dict) and result["where"] == "postprocess" else result
"""


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("between"), BETWEEN)) as server:
        yield server


WHATS = pytest.mark.parametrize("what", ["json", "stream", "ours", "our stream"])


@WHATS
def test_postprocess_may_make_a_response(between: Server, what: str) -> None:
    answer = make(between, {"where": "postprocess", "what": what})
    assert (answer.status, answer.content) == (201, b"made" if "stream" in what else b'{"made":1}')


@WHATS
def test_a_response_of_preprocess_is_what_predict_gets(between: Server, what: str) -> None:
    answer = make(between, {"where": "preprocess", "what": what})
    assert (answer.status, answer.content) == (200, b"201")


@WHATS
def test_a_response_of_predict_cannot_be_postprocessed(between: Server, what: str) -> None:
    between.log = ""
    answer = make(between, {"where": "predict", "what": what})
    assert (answer.status, json.loads(answer.content)) == (500, FAILED)
    assert error_fields(answer) == ["04", "600"]
    between.wait_for_log("ModelDefinitionError: `predict` returned a response and the model has a `postprocess`")
    own = [line for line in between.log.splitlines() if f'"{answer.fields["x-request-id"]}"' in line]
    assert own
    assert not [line for line in own if '"message": "postprocess"' in line]
