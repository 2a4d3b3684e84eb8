"""A bare ASGI application: `application` is the one that serves this process's work. For uvicorn and granian.

A plain predict is called on the event loop, the cheapest way there is; several at once run in a pool of threads.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import orjson
import work

JSON = [(b"content-type", b"application/json")]
BINARY = [(b"content-type", b"application/octet-stream")]
POOL = ThreadPoolExecutor(work.SLOTS)


async def read(receive):
    pieces = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


async def respond(send, content, headers=JSON):
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def respond_stream(send, chunks):
    await send({"type": "http.response.start", "status": 200, "headers": BINARY})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def echo(receive, send):
    await respond(send, orjson.dumps(work.echo(orjson.loads(await read(receive)))))


async def echo_coroutine(receive, send):
    await respond(send, orjson.dumps(await work.echo_coroutine(orjson.loads(await read(receive)))))


async def echo_steps(receive, send):
    payload = work.preprocess(orjson.loads(await read(receive)))
    await respond(send, orjson.dumps(work.postprocess(work.echo(payload))))


async def stream(receive, send):
    payload = orjson.loads(await read(receive))
    await send({"type": "http.response.start", "status": 200, "headers": BINARY})
    for chunk in work.stream(payload):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def stream_coroutine(receive, send):
    await respond_stream(send, work.stream_coroutine(orjson.loads(await read(receive))))


async def paced(receive, send):
    await respond_stream(send, work.paced(orjson.loads(await read(receive))))


async def upload(receive, send):
    await respond(send, orjson.dumps(work.upload(await read(receive))))


async def download(receive, send):
    await respond(send, work.download(orjson.loads(await read(receive))["bytes"]), BINARY)


async def tensor(receive, send):
    await respond(send, work.pack(work.tensor(work.unpack(await read(receive)))), BINARY)


def in_pool(predict):
    async def answer(receive, send):
        payload = orjson.loads(await read(receive))
        result = await asyncio.get_running_loop().run_in_executor(POOL, predict, payload)
        await respond(send, orjson.dumps(result))

    return answer


ANSWERS = {
    "echo": echo,
    "echo_coroutine": echo_coroutine,
    "echo_steps": echo_steps,
    "stream": stream,
    "stream_coroutine": stream_coroutine,
    "paced": paced,
    "upload": upload,
    "download": download,
    "tensor": tensor,
}
answer = ANSWERS[work.WORK] if work.WORK in ANSWERS else in_pool(work.load_plain(work.WORK))


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await answer(receive, send)
