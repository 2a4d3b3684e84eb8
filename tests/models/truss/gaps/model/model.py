"""Streams of every kind with a gap that is longer than streaming_read_timeout; one that fails instead."""

import asyncio
import time

from starlette.responses import StreamingResponse


def slow():
    yield "a"
    time.sleep(2.5)
    yield "b"


async def slow_async():
    yield "a"
    await asyncio.sleep(2.5)
    yield "b"


class Model:
    def predict(self, model_input):
        kind = model_input["kind"]
        if kind == "response":
            return StreamingResponse(slow())
        if kind == "response_async":
            return StreamingResponse(slow_async())
        return slow() if kind == "generator" else slow_async()

    def chat_completions(self, model_input):
        return slow()

    async def completions(self, model_input):
        yield "data: 1\n\n"
        raise ValueError("midway")
