"""Methods of every kind that run until they are released, whatever their client does; the log says how they ended."""

import asyncio
import logging
import threading

import fastserve

released = threading.Event()


async def wait_on_loop(name):
    logging.warning("begun %s", name)
    try:
        while not released.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        logging.warning("done %s", name)
    except asyncio.CancelledError:
        logging.warning("cancelled %s", name)
        raise


class Model:
    """Inputs: what the log is to call this request; for generators also how many bytes each yields at a time."""

    def predict(self, name):
        """One at a time."""
        logging.warning("begun %s", name)
        released.wait()
        logging.warning("done %s", name)

    async def chat_completions(self, name):
        await wait_on_loop(name)

    async def responses(self, name, request: fastserve.Request):
        await wait_on_loop(name)

    def completions(self, inputs):
        name, size = inputs
        logging.warning("begun %s", name)
        try:
            while not released.wait(0.001):
                yield b"x" * size
            logging.warning("done %s", name)
        except GeneratorExit:
            logging.warning("closed %s", name)
            raise

    async def embeddings(self, inputs):
        name, size = inputs
        logging.warning("begun %s", name)
        try:
            while not released.is_set():
                yield b"x" * size
                await asyncio.sleep(0.001)
            logging.warning("done %s", name)
        except GeneratorExit:
            logging.warning("closed %s", name)
            raise
        except asyncio.CancelledError:
            logging.warning("cancelled %s", name)
            raise

    def messages(self, inputs):
        released.set() if inputs else released.clear()
