"""Each step of another kind; what predict returns is decided by `kind`, and postprocess may not get it."""

from starlette.responses import PlainTextResponse


class Model:
    async def preprocess(self, model_input):
        yield model_input["kind"]
        yield model_input.get("value")

    async def predict(self, pair):
        kind, value = [item async for item in pair]
        if kind == "generator":
            return (c for c in "abc")
        if kind == "response":
            return PlainTextResponse("x")
        if kind == "set":
            return {1, 2, 3}
        if kind == "fails":
            raise ValueError("predict")
        return value

    def postprocess(self, result):
        if result == "fails":
            raise ValueError("postprocess")
        return {"type": type(result).__name__, "sum": sum(result)}
