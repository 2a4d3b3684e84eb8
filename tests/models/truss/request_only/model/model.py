"""predict takes the request alone: its content is the model's business, JSON or not."""

import fastapi


class Model:
    async def predict(self, request: fastapi.Request):
        what = request.query_params.get("what")
        if what == "json":
            return await request.json()
        if what == "body":
            return (await request.body()).decode("latin-1")
        if what == "stream":
            return [piece.decode() async for piece in request.stream()]
        if what == "form":
            form = await request.form()
            return {key: value if isinstance(value, str) else value.filename for key, value in form.items()}
        return {
            "method": request.method,
            "url": str(request.url),
            "path": request.url.path,
            "query": dict(request.query_params),
            "params": sorted(request.path_params.items()),
            "client": request.client.host,
            "mark": request.headers.getlist("x-mark"),
            "type": request.headers.get("content-type"),
            "cookies": request.cookies,
            "scope": [request.scope[key] for key in ("type", "http_version", "scheme", "root_path")],
            "raw_path": request.scope["raw_path"].decode(),
            "base": str(request.base_url),
            "gone": await request.is_disconnected(),
        }

    async def completions(self, model_input):
        return ["input", model_input]
