"""What a method learns of its request: each method is of another kind, `x-do` says what it is to look at."""

import asyncio

from starlette.requests import Request

import fastserve


def look(request):
    """What needs no waiting."""
    return {
        "method": request.method,
        "url": str(request.url),
        "headers": dict(request.headers),
        "accept": request.headers.get("Accept"),
        "query": dict(request.query_params),
        "all_of_a": request.query_params.getlist("a"),
        "client": request.client and [request.client.host, request.client.port],
        "type": type(request).__module__.partition(".")[0],
    }


async def read(request, what):
    """What is awaited."""
    if what == "json":
        return await request.json()
    if what == "stream":
        return [piece.decode() async for piece in request.stream()]
    if what == "size":
        body = await request.body()
        return [type(body).__name__, len(body), await request.body() is body]
    if what == "form":
        form = await request.form()
        return {name: value if isinstance(value, str) else await describe(value) for name, value in form.items()}
    if what == "disconnected":
        return await request.is_disconnected()
    if what == "twice":
        return [(await request.body()).decode(), await request.json(), [p.decode() async for p in request.stream()]]
    return look(request)


async def describe(upload):
    return [upload.filename, upload.content_type, len(await upload.read())]


class Model:
    async def predict(self, request: Request):
        return await read(request, request.headers.get("x-do"))

    def chat_completions(self, request: Request):
        return asyncio.run(read(request, request.headers.get("x-do")))

    async def completions(self, request: fastserve.Request):
        return await read(request, request.headers.get("x-do"))

    def embeddings(self, inputs, request: fastserve.Request):
        return {"inputs": inputs, **look(request)}

    async def messages(self, inputs, request: Request):
        yield str(inputs)
        yield str(await read(request, "json"))

    def responses(self, inputs, request: Request):
        yield request.scope["type"]
        yield repr(sorted(request.scope))
