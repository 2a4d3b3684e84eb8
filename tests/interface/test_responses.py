"""Response values: what they hold, and how starlette's are known without it."""

from __future__ import annotations

import subprocess
import sys

import fastapi
import pytest
import starlette.exceptions
import starlette.responses

import fastserve
from fastserve.interface.responses import is_http_error, is_response, is_starlette_response


def test_a_response_holds_what_it_is_given() -> None:
    headers = {"X-Name": "a"}
    for kind in (fastserve.Response, fastserve.StreamingResponse):
        response = kind([], 201, headers, "a/b")
        assert (response.content, response.status_code, response.media_type) == ([], 201, "a/b")
        response.headers["X-Own"] = "b"
    assert headers == {"X-Name": "a"}
    assert (fastserve.Response().content, fastserve.Response().headers) == (None, {})


def test_an_http_error_shows_status_and_detail() -> None:
    error = fastserve.HTTPError(404, headers={"X-Name": "a"})
    assert (error.status_code, error.detail, error.headers) == (404, "Not Found", {"X-Name": "a"})
    assert str(error) == "404: Not Found"
    assert fastserve.HTTPError(400, {"a": 1}).detail == {"a": 1}
    assert fastserve.HTTPError(499).detail == "Error 499"
    assert fastserve.HTTPError("x").detail == "Error x"  # type: ignore[arg-type]  # the answer says what is wrong


class OwnResponse(starlette.responses.JSONResponse): ...


class OwnError(fastapi.HTTPException): ...


@pytest.mark.parametrize(
    ("value", "is_ours", "is_starlette"),
    [
        (fastserve.Response(), True, False),
        (fastserve.StreamingResponse([]), True, False),
        (starlette.responses.Response(), False, True),
        (starlette.responses.StreamingResponse([]), False, True),
        (OwnResponse({}), False, True),
        (fastserve.Response, False, False),
        ({}, False, False),
        (None, False, False),
    ],
)
def test_responses_are_known(value: object, is_ours: bool, is_starlette: bool) -> None:
    assert is_starlette_response(value) is is_starlette
    assert is_response(value) is (is_ours or is_starlette)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (fastserve.HTTPError(400), True),
        (starlette.exceptions.HTTPException(400), True),
        (fastapi.HTTPException(400), True),
        (OwnError(400), True),
        (ValueError(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_http_errors_are_known(error: BaseException, is_one: bool) -> None:
    assert is_http_error(error) is is_one


def test_none_of_this_imports_starlette() -> None:
    source = (
        "import sys, fastserve\n"
        "from fastserve.interface.responses import is_http_error, is_response\n"
        "assert is_response(fastserve.Response()) and is_http_error(fastserve.HTTPError(400))\n"
        "assert not is_response(5) and not is_http_error(ValueError())\n"
        "fastserve.Request\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('starlette', 'fastapi', 'anyio')]\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
