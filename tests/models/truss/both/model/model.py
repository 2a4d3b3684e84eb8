"""Three steps; the request goes along, and what one puts into its state the next finds."""

from starlette.requests import Request


class Model:
    def preprocess(self, request: Request):
        request.state.seen = ["preprocess"]
        return {"body": request.headers["content-length"]}

    async def predict(self, model_input, request: Request):
        request.state.seen.append("predict")
        return {**model_input, "again": await request.json()}

    def postprocess(self, result, request: Request):
        return {**result, "seen": request.state.seen}
