"""FastAPI as its documentation writes it: `def` for a plain predict, `async def` for a coroutine."""

import contextlib
from typing import Any

import anyio.to_thread
import work
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

BINARY = "application/octet-stream"


@contextlib.asynccontextmanager
async def lifespan(app):
    """As many plain predicts at once as there are slots (FastAPI's own default is 40 threads)."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = work.SLOTS
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/echo")
def echo(payload: dict[str, Any]):
    return work.echo(payload)


@app.post("/echo_coroutine")
async def echo_coroutine(payload: dict[str, Any]):
    return await work.echo_coroutine(payload)


@app.post("/echo_steps")
def echo_steps(payload: dict[str, Any]):
    return work.postprocess(work.echo(work.preprocess(payload)))


@app.post("/stream")
def stream(payload: dict[str, Any]):
    return StreamingResponse(work.stream(payload), media_type=BINARY)


@app.post("/stream_coroutine")
async def stream_coroutine(payload: dict[str, Any]):
    return StreamingResponse(work.stream_coroutine(payload), media_type=BINARY)


@app.post("/paced")
async def paced(payload: dict[str, Any]):
    return StreamingResponse(work.paced(payload), media_type=BINARY)


@app.post("/upload")
async def upload(request: Request):
    return work.upload(await request.body())


@app.post("/download")
async def download(payload: dict[str, Any]):
    return Response(work.download(payload["bytes"]), media_type=BINARY)


@app.post("/tensor")
async def tensor(request: Request):
    return Response(work.pack(work.tensor(work.unpack(await request.body()))), media_type=BINARY)


if work.WORK in ("sleep", "mlp", "minilm", "matmul"):
    predict = work.load_plain(work.WORK)

    @app.post("/" + work.WORK)
    def plain(payload: dict[str, Any]):
        return predict(payload)
