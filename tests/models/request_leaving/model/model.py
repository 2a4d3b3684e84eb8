"""Methods of every kind that look whether their client has left, until they are released; the log has the answer."""

import asyncio
import logging
import threading

from starlette.requests import Request

released = threading.Event()


def watch(request):
    """On a thread."""
    with request.state.watch_disconnect() as left:
        logging.warning("begun")
        while not left.wait(0.01) and not released.is_set():
            pass
    logging.warning("left" if left.is_set() else "released")


async def ask(request):
    """On the loop."""
    logging.warning("begun")
    while not (has_left := await request.is_disconnected()) and not released.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    logging.warning("left" if has_left else "released")


class Model:
    def predict(self, inputs, request: Request):
        watch(request)
        return "answer"

    async def chat_completions(self, inputs, request: Request):
        await ask(request)
        return "answer"

    def completions(self, inputs, request: Request):
        try:
            yield from inputs
            watch(request)
            yield "answer"
            logging.warning("ended")
        except GeneratorExit:
            logging.warning("closed")

    async def embeddings(self, inputs, request: Request):
        try:
            for chunk in inputs:
                yield chunk
            await ask(request)
            yield "answer"
            logging.warning("ended")
        except GeneratorExit:
            logging.warning("closed")

    def messages(self, inputs):
        released.set() if inputs else released.clear()

    async def responses(self, inputs, request: Request):
        logging.warning("begun")
        logging.warning((await request.receive())["type"])
