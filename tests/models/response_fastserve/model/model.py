"""Makes whatever response of fastserve's own its input describes, where starlette cannot even be imported."""

import asyncio
import logging
import sys
import threading
import time

import fastserve

sys.modules["starlette"] = None  # refuses every import of it

released = threading.Event()


def wait(what):
    """Block until the model is asked for `messages`."""
    logging.warning("%s waits", what)
    released.wait()


def piece(chunk):
    """A number stands for so many bytes."""
    if chunk == "fail":
        raise ValueError("failed midway")
    return b"x" * chunk if isinstance(chunk, int) else chunk


def chunks(inputs):
    try:
        for chunk in inputs["chunks"]:
            if chunk == "wait":
                wait("stream")
            else:
                yield piece(chunk)
            while chunk == "endless":
                yield chunk
                time.sleep(0.001)
    finally:
        logging.warning("stream over")


async def async_chunks(inputs):
    try:
        for chunk in inputs["chunks"]:
            if chunk == "wait":
                await asyncio.to_thread(wait, "stream")
            else:
                yield piece(chunk)
            while chunk == "endless":
                yield chunk
                await asyncio.sleep(0.001)
    finally:
        logging.warning("stream over")


SOURCES = {"sync": chunks, "async": async_chunks, "list": lambda inputs: inputs["chunks"]}


def make(inputs):
    arguments = dict(inputs.get("arguments", {}))
    if "chunks" in inputs:
        arguments["content"] = SOURCES[inputs["source"]](inputs)
    if "bytes" in inputs:
        arguments["content"] = inputs["bytes"].encode("latin-1")
    response = getattr(fastserve, inputs["class"])(**arguments)
    if isinstance(response, Exception):
        raise response
    return response


class Model:
    def predict(self, inputs):
        assert not [name for name in sys.modules if name.startswith("starlette.")]
        return make(inputs)

    async def chat_completions(self, inputs):
        return make(inputs)

    def messages(self, inputs):
        released.set() if inputs else released.clear()
