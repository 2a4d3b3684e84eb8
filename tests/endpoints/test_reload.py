"""POST /hot-reload: what it answers, whatever comes of it."""

from __future__ import annotations

import asyncio

import pytest

from fastserve.endpoints.reload import HotReload
from fastserve.errors import LoadError, ModelDefinitionError
from fastserve.messages import Head, Request, Response
from tests.support.responder import RecordingResponder

HEAD = Head(b"", b"POST", b"/hot-reload", b"/hot-reload", {})


class UnshowableError(Exception):
    def __str__(self) -> str:
        raise ValueError


def load_error(cause: BaseException) -> LoadError:
    error = LoadError("the cause, in words")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "content"),
    [
        (None, 200, b'{"msg":"Hot reload complete"}'),
        (load_error(SyntaxError("invalid")), 422, b'{"error":"SyntaxError: invalid"}'),
        (load_error(SystemExit(3)), 422, b'{"error":"SystemExit: 3"}'),
        (load_error(UnshowableError()), 422, b'{"error":"UnshowableError: <UnshowableError that cannot be shown>"}'),
        (ModelDefinitionError("no predict"), 422, b'{"error":"ModelDefinitionError: no predict"}'),
        (KeyError("a bug of ours"), 422, b'{"error":"KeyError: \'a bug of ours\'"}'),
    ],
)
def test_it_answers_when_it_is_known(error: Exception | None, status: int, content: bytes) -> None:
    async def scenario() -> Response:
        is_asked = asyncio.Event()

        async def hot_reload() -> None:
            await is_asked.wait()
            if error is not None:
                raise error

        responder = RecordingResponder()
        HotReload(hot_reload).answer(Request(HEAD, b"", responder))
        await asyncio.sleep(0)
        assert responder.response is None
        is_asked.set()
        for _ in range(3):  # the turns of the event, the task and what it calls
            await asyncio.sleep(0)
        assert responder.response is not None
        return responder.response

    response = asyncio.run(asyncio.wait_for(scenario(), 5))
    assert (response.kind, response.content, response.fields) == ((status, b"application/json"), content, b"")
