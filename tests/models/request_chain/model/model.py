"""The same request in all three steps: what one puts into its state the next finds there."""

import fastapi
from starlette.requests import Request


class OwnRequest(Request):
    @property
    def asked_by(self):
        return self.headers["x-name"]


class Model:
    async def preprocess(self, inputs, request: fastapi.Request):
        request.state.seen = ["preprocess"]
        self.first = request
        return {**inputs, "size": len(await request.body())}

    def predict(self, inputs, request: Request):
        request.state.seen.append("predict")
        return {**inputs, "same": request is self.first}

    async def postprocess(self, result, request: OwnRequest):
        return {**result, "seen": request.state.seen, "asked_by": request.asked_by}
