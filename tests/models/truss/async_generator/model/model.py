"""predict is an async generator that takes the request too."""

from fastapi import Request


class Model:
    async def predict(self, model_input, request: Request):
        for n in range(model_input["n"]):
            yield f"{request.method} {n};"
