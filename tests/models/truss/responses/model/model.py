"""predict returns a response of starlette's of the `kind` asked for."""

import json
import os
import pathlib
import tempfile

from fastapi.responses import ORJSONResponse
from starlette.background import BackgroundTask
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

DONE = []

SERVED = pathlib.Path(tempfile.gettempdir()) / "fastserve_truss_served.txt"
SERVED.write_text("A served file.\n")
os.utime(SERVED, (1_000_000_000, 1_000_000_000))  # its ETag is made of this


def texts():
    yield "one "
    yield b"two"


def fails_midway():
    yield "one"
    raise ValueError("midway")


def fails_first():
    raise ValueError("first")
    yield


async def texts_async():
    yield "one "
    yield "two"


class Compact(JSONResponse):
    def render(self, content):
        return json.dumps(content, separators=(",", ":")).encode()


class ByHand(Response):
    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-hand", b"yes")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})


def with_cookies():
    response = PlainTextResponse("cookies")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


RESPONSES = {
    "json": lambda: JSONResponse({"a": [1, "\u00e9"]}),
    "json_201": lambda: JSONResponse({"made": True}, 201),
    "json_299": lambda: JSONResponse({}, 299),
    "json_404": lambda: JSONResponse({"error": "mine"}, 404),
    "json_500": lambda: JSONResponse({"error": "mine"}, 500),
    "json_headers": lambda: JSONResponse({}, headers={"X-Mine": "1", "Cache-Control": "no-store"}),
    "compact": lambda: Compact({"a": [1, 2]}),
    "text": lambda: PlainTextResponse("caf\u00e9"),
    "html": lambda: HTMLResponse("<p>"),
    "empty": lambda: Response(),
    "bytes": lambda: Response(b"\x00\xff", media_type="image/png"),
    "untyped": lambda: Response(b"x"),
    "no_content": lambda: Response(status_code=204),
    "not_modified": lambda: Response(status_code=304),
    "not_modified_headers": lambda: Response(status_code=304, headers={"ETag": '"1"'}),
    "redirect": lambda: RedirectResponse("https://elsewhere.example/"),
    "status_418": lambda: Response("teapot", 418),
    "status_599": lambda: Response("odd", 599),
    "own_error_headers": lambda: Response("x", 400, {"X-BASETEN-ERROR-CODE": "1"}),
    "cookies": with_cookies,
    "file": lambda: FileResponse(SERVED, media_type="text/plain"),
    "no_file": lambda: FileResponse("/nowhere/at/all"),
    "stream": lambda: StreamingResponse(texts()),
    "stream_async": lambda: StreamingResponse(texts_async()),
    "stream_events": lambda: StreamingResponse(texts(), media_type="text/event-stream"),
    "stream_list": lambda: StreamingResponse(iter(["a", "b"]), media_type="text/plain"),
    "stream_404": lambda: StreamingResponse(texts(), 404, media_type="text/plain"),
    "stream_length": lambda: StreamingResponse(texts(), headers={"Content-Length": "7"}),
    "stream_fails_first": lambda: StreamingResponse(fails_first()),
    "stream_fails_midway": lambda: StreamingResponse(fails_midway()),
    "stream_empty": lambda: StreamingResponse(iter(())),
    "background": lambda: PlainTextResponse("later", background=BackgroundTask(DONE.append, "task")),
    "by_hand": lambda: ByHand(),
    "class": lambda: JSONResponse,
    "within": lambda: {"a": JSONResponse({})},
    "orjson_class": lambda: ORJSONResponse.__name__,
    "done": lambda: DONE,
}


class Model:
    def predict(self, model_input):
        return RESPONSES[model_input["kind"]]()

    async def completions(self, model_input):
        return RESPONSES[model_input["kind"]]()
