"""Six methods, each taking something else, of another kind."""

import fastapi
import starlette.requests


class Model:
    def predict(self):
        return "nothing"

    async def chat_completions(self, model_input, request: fastapi.Request):
        return [model_input, request.method, request.url.path]

    def completions(self, request: starlette.requests.Request):
        return ["request alone", request.headers.get("x-mark")]

    def embeddings(self, *given):
        return list(given)

    async def messages(self, model_input={}):  # noqa: B006 - has a default, is given the input all the same
        return ["default", model_input]

    async def responses(self):
        return "nothing, awaited"
