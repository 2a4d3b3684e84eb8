"""Content for the responses of response_fastserve and response_starlette: pieces, failures, waits."""

import asyncio
import logging
import threading
import time

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
