"""Makes whatever response of starlette's its input describes; a sync and an async method do."""

import logging
import os
import time

from response_content import SOURCES, released, wait
from starlette import responses
from starlette.background import BackgroundTask, BackgroundTasks


def background(what):
    """A sync task, which may take its time."""
    if what == "wait":
        wait("task")
    if what == "sleep":
        time.sleep(0.5)
    logging.warning("sync task %s", what)


async def async_background(what):
    """An async one, which may fail."""
    logging.warning("async task %s", what)
    if what == "fail":
        raise ValueError("failed in the background")


def make(inputs):
    arguments = dict(inputs.get("arguments", {}))
    if "chunks" in inputs:
        arguments["content"] = SOURCES[inputs["source"]](inputs)
    if "task" in inputs:
        task = BackgroundTask(background, inputs["task"])
        arguments["background"] = BackgroundTasks([task, BackgroundTask(async_background, inputs["task"])])
    if "remove" in inputs:
        arguments["background"] = BackgroundTask(os.remove, inputs["remove"])
    response = getattr(responses, inputs["class"])(**arguments)
    response.raw_headers += [(n.encode("latin-1"), v.encode("latin-1")) for n, v in inputs.get("raw", [])]
    return response


class Model:
    def predict(self, inputs):
        if "waits" in inputs:
            wait("predict")
        return make(inputs)

    async def chat_completions(self, inputs):
        return make(inputs)

    def messages(self, inputs):
        released.set() if inputs else released.clear()
