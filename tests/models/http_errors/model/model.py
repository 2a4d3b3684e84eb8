"""Raises the HTTP error that its input describes, in the step that it names."""

import fastapi
import starlette.exceptions

import fastserve


class OwnException(fastapi.HTTPException):
    def __init__(self):
        super().__init__(409, {"reason": "own"}, {"X-Own": "yes"})


CLASSES = {
    "fastapi": fastapi.HTTPException,
    "starlette": starlette.exceptions.HTTPException,
    "fastserve": fastserve.HTTPError,
    "own": OwnException,
}


def fail(inputs, where):
    if inputs.get("where") == where:
        error = CLASSES[inputs["class"]](**inputs["arguments"])
        error.headers = inputs.get("headers", error.headers)
        raise error


class Model:
    def preprocess(self, inputs):
        fail(inputs, "preprocess")
        return inputs

    async def predict(self, inputs):
        fail(inputs, "predict")
        return inputs

    def postprocess(self, inputs):
        fail(inputs, "postprocess")
        return self.chunks(inputs) if "chunks" in inputs["where"] else inputs

    def chunks(self, inputs):
        fail(inputs, "first of chunks")
        yield "chunk"
        fail(inputs, "later of chunks")

    def chat_completions(self, inputs):
        fail(inputs, "sync")

    async def completions(self, inputs):
        fail(inputs, "coroutine")

    def messages(self, inputs):
        fail(inputs, "first of generator")
        yield "chunk"
        fail(inputs, "later of generator")

    async def responses(self, inputs):
        fail(inputs, "first of async generator")
        yield "chunk"
        fail(inputs, "later of async generator")
